//! How a namespace or the files were, as lines that a person can compare.

use super::look::{self, expression_of};
use super::sandbox;
use crate::Result;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The state of a namespace or of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

/// Where plugins keep files.
const FOLDERS: [&str; 3] = ["/run", "/var/lib", "/etc/cni"];

/// What the suite and `ip` keep there.
const OWN: [&str; 3] = [super::HOME, "/run/netns", "/run/etc"];

impl Snapshot {
    /// Looks at a container, `host` or `files`.
    pub(crate) fn take(what: &str) -> Result<Self> {
        let mut lines = BTreeSet::new();
        if what == "files" {
            FOLDERS.iter().for_each(|folder| files(Path::new(folder), &mut lines));
            return Ok(Self(lines));
        }
        lines.extend(look::links(what)?.iter().map(link));
        // The kernel makes link-local addresses, a while after a link is up.
        let own = |address: &&Value| address["scope"] != "link" || address["family"] == "inet";
        lines.extend(look::addresses(what)?.iter().filter(own).map(address));
        // The kernel makes the routes of other types, and IPv6's own, with links and addresses.
        let made = |route: &&Value| {
            let kernel = route["protocol"] == "kernel" && route["family"] == "inet6";
            route["type"] == "unicast" && !kernel
        };
        lines.extend(look::routes(what)?.iter().filter(made).map(route));
        lines.extend(look::rules(what)?.iter().map(|rule| format!("rule {rule}")));
        lines.extend(nftables(what)?);
        Ok(Self(lines))
    }

    /// The lines that are in one and not in the other, without those that an expression matches.
    pub(crate) fn differences(&self, after: &Self, except: &[String]) -> Result<Vec<String>> {
        let except = except.iter().map(|text| expression_of(text)).collect::<Result<Vec<_>>>()?;
        let gone = self.0.difference(&after.0).map(|line| format!("- {line}"));
        let new = after.0.difference(&self.0).map(|line| format!("+ {line}"));
        let counts = |line: &String| !except.iter().any(|expression| expression.is_match(line));
        Ok(gone.chain(new).filter(counts).collect())
    }
}

fn link(link: &Value) -> String {
    let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
    let text = |key: &str| link[key].as_str().unwrap_or("-").to_owned();
    let kind = link["linkinfo"]["info_kind"].as_str().unwrap_or("-");
    let state = if up { "up" } else { "down" };
    let promiscuous = link["promiscuity"].as_u64().unwrap_or(0);
    format!(
        "link {} kind {kind} address {} master {} mtu {} {state} promiscuity {promiscuous}",
        text("ifname"),
        text("address"),
        text("master"),
        link["mtu"]
    )
}

fn address(address: &Value) -> String {
    let text = |key: &str| address[key].as_str().unwrap_or_default().to_owned();
    format!("address {}/{} dev {}", text("local"), address["prefixlen"], text("dev"))
}

fn route(route: &Value) -> String {
    let text = |key: &str| route[key].as_str().unwrap_or("-").to_owned();
    format!("route {} via {} dev {} table {}", text("dst"), text("gateway"), text("dev"), text("table"))
}

/// The rules of nftables without what the kernel counts up.
fn nftables(namespace: &str) -> Result<Vec<String>> {
    let inside = if namespace == "host" { String::new() } else { format!("ip netns exec {namespace} ") };
    // Where there is no nft, or no nftables in the kernel, there is nothing to compare.
    let Ok(printed) = sandbox::shell(&format!("{inside}nft -j -n list ruleset 2>/dev/null || true")) else {
        return Ok(Vec::new());
    };
    let parsed: Value = serde_json::from_str(&printed).unwrap_or(Value::Null);
    let entries = parsed["nftables"].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for mut entry in entries {
        if entry.get("metainfo").is_some() {
            continue;
        }
        strip(&mut entry);
        lines.push(format!("nftables {entry}"));
    }
    Ok(lines)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for key in ["handle", "packets", "bytes"] {
                object.remove(key);
            }
            object.values_mut().for_each(strip);
        }
        Value::Array(array) => array.iter_mut().for_each(strip),
        _ => {}
    }
}

fn files(folder: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if OWN.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&path, lines);
        } else {
            lines.insert(format!("file {}", path.display()));
        }
    }
}
