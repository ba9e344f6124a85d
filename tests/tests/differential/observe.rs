//! What plugins do with a case.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;

use oxcni_tests::{Container, Host, Masks, Network, Outcome, Plugins};
use serde_json::{Value, json};

use crate::case::{Case, Family};
use crate::faults::Fault;

/// Exits, results, states and files, without all that differs from run to run.
pub(crate) fn observe(plugins: Plugins, case: &Case, fault: Option<&Fault>) -> Value {
    let host = Host::new(plugins);
    if let Some(fault) = fault {
        fault.install(&host);
    }
    let containers: Vec<_> = (0..case.containers).map(|_| host.container()).collect();
    host.enter(|| detect_duplicates(case.probes));
    containers.iter().for_each(|container| container.enter(|| detect_duplicates(case.probes)));
    if !case.host_links.is_empty() {
        host.ip(case.host_links);
    }
    for container in containers.iter().filter(|_| !case.container_links.is_empty()) {
        container.ip(case.container_links);
    }
    let net = host.network(case.config.clone()).args(case.args).ifname(ifname(case));
    let run = |network: &Network<'_>, command: &str, container: &Container<'_>| {
        let call = network.call(command, container);
        fault.map_or(call.clone(), |fault| fault.behind(call)).run()
    };
    let mut masks =
        Masks::new(&format!("{} {} {} {}", case.config, case.args, case.host_links, case.container_links));

    let before = state(&host, &containers, &masks);
    let mut adds = Vec::new();
    for container in &containers {
        adds.push(run(&of_container(&net, case, container), "ADD", container));
        masks.learn(&host);
    }
    let after_add = state(&host, &containers, &masks);
    if !case.change.is_empty() && adds[0].ok() {
        // What can't be changed, because there is no such link, is the same for all.
        let _nothing_to_change = containers[0].try_ip(case.change);
    }
    let result = |number: usize| {
        serde_json::from_str::<Value>(&adds[number].stdout).ok().filter(|_| adds[number].ok())
    };
    let (mut checks, mut dels) = (Vec::new(), Vec::new());
    for (number, container) in containers.iter().enumerate() {
        let result = result(number).filter(|_| has_check(case));
        checks.push(result.map(|result| run(&net.after(&result), "CHECK", container)));
    }
    for (number, container) in containers.iter().enumerate() {
        let net = of_container(&net, case, container);
        let net = match result(number) {
            Some(result) if case.del_with_result => net.after(&result),
            _ => net,
        };
        dels.push(run(&net, "DEL", container));
    }
    let results: Vec<_> =
        (0..adds.len()).map(|number| result(number).map(|result| masks.mask(&result))).collect();
    let exits = |of: fn(&Outcome) -> Value| {
        let checks: Vec<_> = checks.iter().map(|check| check.as_ref().map(of)).collect();
        json!({
            "add": adds.iter().map(of).collect::<Vec<_>>(), "check": checks,
            "del": dels.iter().map(of).collect::<Vec<_>>(),
        })
    };
    let mut observed = exits(exit);
    observed["printed"] = exits(printed);
    observed["before"] = before;
    observed["results"] = json!(results);
    observed["after add"] = after_add;
    observed["after del"] = state(&host, &containers, &masks);
    observed
}

/// Has duplicate address detection ask so often on links to come, and begin at once.
fn detect_duplicates(probes: u8) {
    // Where IPv6 is a module, the kernel loads it for its first socket.
    drop(UdpSocket::bind("[::]:0"));
    for (key, value) in [("dad_transmits", probes), ("router_solicitation_delay", 0)] {
        let path = format!("/proc/sys/net/ipv6/conf/default/{key}");
        fs::write(&path, value.to_string()).unwrap_or_else(|err| panic!("{path}: {err}"));
    }
}

fn ifname(case: &Case) -> &'static str {
    if case.family == Family::Loopback { "lo" } else { "eth0" }
}

/// A chained plugin is given the result of the container that it is called for.
fn of_container<'h>(net: &Network<'h>, case: &Case, container: &Container<'_>) -> Network<'h> {
    let mut before = case.key("prevResult").clone();
    if before.is_null() {
        return net.clone();
    }
    // The result has the version of its configuration, as libcni sees to.
    let version = case.key("cniVersion").as_str().filter(|text| !text.is_empty()).unwrap_or("0.1.0");
    let has_address = before["ips"].is_array();
    match version {
        "0.1.0" | "0.2.0" if has_address => before = json!({ "ip4": { "ip": "10.1.2.2/24" } }),
        "0.1.0" | "0.2.0" => before = json!({}),
        "0.3.1" | "0.4.0" if has_address => before["ips"][0]["version"] = json!("4"),
        _ => {}
    }
    if before["interfaces"].is_array() {
        before["interfaces"][0]["sandbox"] = json!(container.netns());
    }
    before["cniVersion"] = json!(version);
    net.clone().with("prevResult", before)
}

fn has_check(case: &Case) -> bool {
    ["0.4.0", "1.0.0", "1.1.0"].contains(&case.key("cniVersion").as_str().unwrap_or_default())
}

/// How a call ended: with success, with an error of a kind, or without saying why.
fn exit(outcome: &Outcome) -> Value {
    let error: Option<Value> = serde_json::from_str(&outcome.stdout).ok();
    let kind = match error.and_then(|error| error["code"].as_u64()) {
        _ if outcome.ok() => "success",
        // Which of them a mistake is depends on who looks first.
        Some(1 | 2 | 6 | 7) => "error: configuration",
        Some(4) => "error: environment",
        Some(3) => "error: unknown container",
        Some(5) => "error: I/O",
        Some(11) => "error: try again",
        Some(0..100) => "error: another of the specification",
        Some(100..) => "error: of the plugin",
        None => return json!(format!("no error object: {}", outcome.status)),
    };
    json!(kind)
}

/// The text of an error.
fn printed(outcome: &Outcome) -> Value {
    let error: Option<Value> = serde_json::from_str(&outcome.stdout).ok().filter(|_| !outcome.ok());
    error.map_or(Value::Null, |error| error["msg"].clone())
}

fn state(host: &Host, containers: &[Container<'_>], masks: &Masks) -> Value {
    let inside: Vec<_> = containers.iter().map(|container| container.masked_state(masks)).collect();
    json!({ "host": host.masked_state(masks), "containers": inside, "files": files(host) })
}

/// Contents of what is below `/var/lib/cni`; locks are of no content.
fn files(host: &Host) -> BTreeMap<String, String> {
    let paths = host.files_below("/var/lib/cni").into_iter().filter(|path| !path.ends_with("/lock"));
    paths.filter_map(|path| Some((path.clone(), fs::read_to_string(host.path(&path)).ok()?))).collect()
}
