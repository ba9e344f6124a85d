//! `cnictl doctor`: everything that is attached, held against the kernel.

mod ailment;
mod links;
mod namespaces;
mod orphan;
mod reattach;
mod records;

use std::cell::LazyCell;
use std::time::Duration;

use cni_core::spec::Result;
use serde_json::Value;

use crate::Outcome;
use crate::attach::of_cache;
use crate::attached::{self, Attached, Cache};
use crate::cli::Doctor;
use crate::namespace::Life;
use crate::node::Node;
use crate::output::{Output, Tone, printable};
use ailment::Ailment;
use namespaces::Namespaces;

/// `cnictl doctor`.
pub(crate) fn doctor(node: &Node, args: &Doctor, output: &Output) -> Result<Outcome> {
    let mut ailments = examine(node)?;
    if !args.repair {
        let report: Vec<Value> = ailments.iter().map(|ailment| ailment.to_json(None)).collect();
        show(&ailments, &report, output);
        return Ok(if ailments.is_empty() { Outcome::Good } else { Outcome::Findings });
    }
    if ailments.iter().any(Ailment::may_be_unfinished) {
        // What belongs to no attachment may belong to one that is being made.
        std::thread::sleep(Duration::from_secs(args.grace));
        let still = examine(node)?;
        ailments.retain(|ailment| still.iter().any(|other| other.key() == ailment.key()));
    }
    let mut report = Vec::new();
    let mut is_well = true;
    for ailment in &ailments {
        let repaired = ailment.repair(node);
        is_well &= repaired.is_ok();
        if !output.is_json() {
            output.print(&ailment.line(output));
            let (text, tone) = match &repaired {
                Ok(()) => ("repaired".to_owned(), Tone::Good),
                Err(err) => (format!("not repaired: {err}"), Tone::Bad),
            };
            output.print(&output.toned(&format!("  {}", printable(&text)), tone));
        }
        report.push(ailment.to_json(Some(&repaired)));
    }
    if output.is_json() {
        output.json(&report.into());
    } else if ailments.is_empty() {
        output.print(&output.toned("healthy", Tone::Good));
    }
    Ok(if is_well { Outcome::Good } else { Outcome::Findings })
}

fn show(ailments: &[Ailment], report: &[Value], output: &Output) {
    if output.is_json() {
        output.json(&report.to_vec().into());
        return;
    }
    for ailment in ailments {
        output.print(&ailment.line(output));
        output.print(&format!("  --repair {}", ailment.remedy()));
    }
    if ailments.is_empty() {
        output.print(&output.toned("healthy", Tone::Good));
    }
}

/// Everything that is not as it should be, in the order in which it is to be repaired: what has an
/// entry in a cache first, because its DEL takes most of the rest away.
fn examine(node: &Node) -> Result<Vec<Ailment>> {
    let all = attached::all(node)?;
    let planned = attached::planned(node, &all);
    let (gone, mut living): (Vec<Attached>, Vec<Attached>) =
        all.into_iter().partition(|attached| attached.life == Life::Gone);
    // The delegates of multus before what it is itself attached to: its CHECK is that of its delegates.
    living.sort_by_key(|attached| attached.cache == Cache::Libcni);
    let mut ailments = Vec::new();
    let networks = records::networks(node, living.iter().chain(&gone))?;
    let namespaces = LazyCell::new(Namespaces::of_node as fn() -> Namespaces);
    ailments.extend(records::examine(&networks, living.iter().chain(&gone), &planned, &namespaces)?);
    ailments.extend(links::examine(&networks, living.iter().chain(&gone), &namespaces)?);
    let mut first: Vec<Ailment> = gone.into_iter().map(Ailment::Gone).collect();
    first.extend(living.into_iter().filter_map(|attached| check(node, attached)));
    first.extend(ailments);
    Ok(first)
}

/// CHECK with the configuration that the attachment was made with.
fn check(node: &Node, attached: Attached) -> Option<Ailment> {
    let network = match of_cache(&attached.cached) {
        Ok(network) => network,
        Err(err) => return Some(Ailment::Broken(attached, err)),
    };
    if !network.version().has_check() || attached.life != Life::Living {
        return None;
    }
    let checked = attached.runtime(node).check(&network, &attached.invocation());
    checked.err().map(|err| Ailment::Broken(attached, err))
}
