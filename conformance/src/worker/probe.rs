//! What this kernel, this node and these plugins have, found out once before all cases.

use super::{ProbeJob, Probed, execute, plugins_folder, sandbox};
use crate::Result;
use crate::version::Version;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Finds out.
pub(crate) fn run(job: &ProbeJob) -> Result<Probed> {
    sandbox::furnish(&job.plugins, false)?;
    let mut probed = Probed::default();
    sandbox::shell("ip link add probe type veth peer name probe-peer")?;
    for feature in &job.kernel {
        if let Err(error) = sandbox::shell(&line_for(feature)) {
            probed.missing.insert(feature.clone(), error);
        }
    }
    for program in &job.programs {
        if sandbox::shell(&format!("command -v {program}")).is_err() {
            probed.missing.insert(program.clone(), format!("there is no program {program}"));
        }
    }
    for plugin in &job.types {
        probed.versions.insert(plugin.clone(), versions(plugin, job)?);
    }
    Ok(probed)
}

/// A command that works only where the kernel has the feature.
fn line_for(feature: &str) -> String {
    let link = |words: &str| format!("ip link add probed {words} && ip link del probed");
    match feature {
        "bridge-vlan" => link("type bridge vlan_filtering 1"),
        "vlan" => link("link probe type vlan id 5"),
        "macvlan" => link("link probe type macvlan mode bridge"),
        "ipvlan" => link("link probe type ipvlan mode l2"),
        "vrf" => link("type vrf table 5"),
        "veth" => link("type veth peer name probed-peer"),
        "nftables" => "nft list ruleset".to_owned(),
        "etc" => "test -d /etc/cni".to_owned(),
        kind => link(&format!("type {kind}")),
    }
}

/// What a plugin answers to VERSION. One that does not answer has no versions, and the cases say so.
fn versions(plugin: &str, job: &ProbeJob) -> Result<Vec<Version>> {
    let program = plugins_folder().join(plugin);
    if !program.is_file() {
        return Ok(Vec::new());
    }
    let env = BTreeMap::from([("CNI_COMMAND".to_owned(), "VERSION".to_owned())]);
    let limit = Duration::from_secs_f64(job.limit);
    let record = execute::execute(&program, env, r#"{"cniVersion": "1.0.0"}"#, limit)?;
    let answer: Value = serde_json::from_str(&record.stdout).unwrap_or(Value::Null);
    let listed = answer["supportedVersions"].as_array().into_iter().flatten();
    let mut versions: Vec<Version> =
        listed.filter_map(Value::as_str).filter_map(|text| text.parse().ok()).collect();
    versions.sort();
    Ok(versions)
}
