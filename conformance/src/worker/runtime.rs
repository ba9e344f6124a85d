//! Asking a runtime for operations. It is called by the command lines of its profile, with the
//! environment of libcni's `cnitool`; a runtime that has other ways names them in these lines.

use super::stop::Stop;
use super::{CallRecord, Failure, input};
use crate::case::{Network, Operation, Outcome};
use crate::version::Version;
use crate::{Result, double};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// Where a runtime finds configuration lists, and where libcni's do.
const CONFIGURATIONS: &str = "/etc/cni/net.d";

/// Writes a configuration list.
pub(crate) fn write_network(network: &Network, version: Version) -> Result<()> {
    let (file, list) = configuration(network, version);
    fs::create_dir_all(CONFIGURATIONS)
        .and_then(|()| fs::write(&file, list.to_string()))
        .map_err(|error| format!("can't write {file}: {error}"))
}

/// The path of a configuration list, and the list.
pub(crate) fn configuration(network: &Network, version: Version) -> (String, Value) {
    let name = network.name.as_deref().unwrap_or(input::NETWORK);
    let mut list = json!({"cniVersion": version, "name": name});
    if let Some(plugins) = &network.plugins {
        list["plugins"] = plugins.clone();
    }
    if let Some(patch) = &network.with {
        input::merge(&mut list, patch);
    }
    // A network's name that must be refused need not be a file's.
    (format!("{CONFIGURATIONS}/10-{}.conflist", name.replace('/', "_")), list)
}

/// The environment of a command line.
pub(crate) fn environment(operation: &Operation, ifname: &str) -> BTreeMap<String, String> {
    let fixed = [
        ("CNI_IFNAME", ifname),
        ("CNI_PATH", double::FOLDER),
        ("NETCONFPATH", CONFIGURATIONS),
        ("HOME", "/run"),
    ];
    let mut env: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(operation.env.clone());
    env
}

/// What stands in a command line for the operation's own.
pub(crate) fn variable(operation: &Operation, name: &str) -> Option<Value> {
    let container = &operation.container;
    match name {
        "container" => Some(json!(container)),
        "netns" => Some(json!(format!("{}/{container}", super::sandbox::NAMESPACES))),
        "network" => Some(json!(operation.network.as_deref().unwrap_or(input::NETWORK))),
        _ => None,
    }
}

/// Compares how an operation ended with what is expected. What a runtime prints is its own affair.
pub(crate) fn judge(operation: &Operation, record: &CallRecord) -> Result<(), Stop> {
    let command = &operation.command;
    let printed = format!("{}{}", record.stdout, record.stderr);
    let fails = |message: String, expected: &str, actual: String| {
        let expected = expected.to_owned();
        Err(Stop::Failed(Box::new(Failure { message, expected, actual, ..Failure::default() })))
    };
    if let Some(waits) = &record.hung_in {
        let message = format!("{command} did not end within {} ms and was killed", record.milliseconds);
        return fails(message, "an end", format!("it waits in: {waits}"));
    }
    if let Some(signal) = record.signal {
        return fails(format!("{command} was ended by a signal"), "an exit code", format!("signal {signal}"));
    }
    let ending = || format!("exit code {}: {}", record.exit.unwrap_or(-1), printed.trim());
    match (operation.expect, record.exit == Some(0)) {
        (Outcome::Success, false) => return fails(format!("{command} failed"), "exit code 0", ending()),
        (Outcome::Failure, true) => return fails(format!("{command} succeeded"), "a failure", ending()),
        _ => {}
    }
    let Some(expression) = &operation.prints else { return Ok(()) };
    let compiled = regex_lite::Regex::new(expression).map_err(|error| Stop::Broken(error.to_string()))?;
    if compiled.is_match(&printed) {
        return Ok(());
    }
    fails(format!("{command} printed something else"), &format!("/{expression}/"), ending())
}
