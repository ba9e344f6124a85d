//! `cnictl gc`: removing what attachments have left that are gone.

use std::collections::HashSet;

use cni_core::request::Command;
use cni_core::spec::{Attachment, Error, NetworkName, Result};
use cni_runtime::NetworkConf;
use serde_json::json;

use crate::attached::{self, Attached, Cache};
use crate::cli::Gc;
use crate::namespace::Life;
use crate::node::Node;
use crate::output::Output;
use crate::{Outcome, plan};

/// `cnictl gc`.
pub(crate) fn gc(node: &Node, args: &Gc, output: &Output) -> Result<Outcome> {
    let networks = node.networks(args.network.as_ref())?;
    let all = attached::all(node)?;
    let planned = attached::planned(node, &all);
    let mut errors = Vec::new();
    let mut collected = Vec::new();
    for network in &networks {
        let (valid, gone) = valid_and_gone(&all, &planned, network);
        collected.extend(gone.iter().map(|attached| attached.to_json()));
        if args.dry_run {
            show(node, network, &valid, &gone, output)?;
            continue;
        }
        errors.extend(node.runtime.gc(network, &valid).err().map(|err| err.context(network.name())));
        if !output.is_json() {
            gone.iter().for_each(|attached| output.print(&format!("removed {}", attached.title())));
        }
    }
    Error::all(errors)?;
    if output.is_json() && !args.dry_run {
        output.json(&json!({ "removed": collected }));
    }
    Ok(Outcome::Good)
}

/// The attachments of a network that stay, of either cache, and those of libcni's that are gone. Multus
/// collects its own.
fn valid_and_gone<'a>(
    all: &'a [Attached],
    planned: &[(NetworkName, Attachment)],
    network: &NetworkConf,
) -> (Vec<Attachment>, Vec<&'a Attached>) {
    let of_network = all.iter().filter(|attached| attached.cached.network == *network.name());
    let (gone, stay): (Vec<&Attached>, Vec<&Attached>) =
        of_network.partition(|attached| attached.life == Life::Gone);
    let planned = planned.iter().filter(|(name, _)| name == network.name()).map(|(_, attachment)| attachment);
    let stay = stay.iter().map(|attached| &attached.cached.invocation.attachment);
    let valid: HashSet<Attachment> = stay.chain(planned).cloned().collect();
    let is_collected = |attached: &&Attached| {
        attached.cache == Cache::Libcni && !valid.contains(&attached.cached.invocation.attachment)
    };
    let gone = gone.into_iter().filter(is_collected).collect();
    (valid.into_iter().collect(), gone)
}

fn show(
    node: &Node,
    network: &NetworkConf,
    valid: &[Attachment],
    gone: &[&Attached],
    output: &Output,
) -> Result<()> {
    if network.disable_gc() {
        return Ok(());
    }
    let mut calls = Vec::new();
    for attached in gone {
        let invocation = attached.cached.invocation.clone().of_gone();
        calls.extend(node.runtime.calls(Command::Del, network, &invocation)?);
    }
    if network.version().has_gc() {
        calls.extend(node.runtime.calls_of_network(Command::Gc, network, valid)?);
    }
    plan::show(&calls, output).map(drop)
}
