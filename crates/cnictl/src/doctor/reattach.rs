//! Attaching again what is broken, with the addresses and the MAC address that it has.

use std::net::IpAddr;

use cni_core::delegate;
use cni_core::netlink::Netlink;
use cni_core::netns::Netns;
use cni_core::request::Command;
use cni_core::spec::{AddResult, Code, Error, Mac, Result, from_json, same_key};
use cni_runtime::{Invocation, Members, NetworkConf};
use serde_json::{Value, json};

use crate::attach::of_cache;
use crate::attached::Attached;
use crate::node::Node;

/// Detaches and attaches again. Where that fails, the entry of the cache is as it was, so that it can be
/// tried again.
///
/// # Errors
/// The reason; also where CHECK fails afterwards, or addresses or MAC address are not those of before.
pub(crate) fn reattach(node: &Node, attached: &Attached) -> Result<()> {
    let network = of_cache(&attached.cached)?;
    let runtime = attached.runtime(node);
    let invocation = attached.invocation();
    if network.plugins().iter().any(|plugin| plugin.plugin_type().as_str() == "multus") {
        // Its delegates are attachments of their own, which were repaired before, or will be.
        return runtime.check(&network, &invocation);
    }
    let Some(before) = &attached.cached.result else {
        return Err(Error::new(Code::INVALID_CONFIG, "the cache has no result of its ADD"));
    };
    require_plugins(&network, &runtime.calls(Command::Add, &network, &invocation)?)?;
    if network.plugins().iter().any(|plugin| ipam_type(plugin.members()) == "dhcp") {
        keep_lease(&invocation)?;
    }
    runtime.del(&network, &invocation)?;
    let added =
        runtime.add(&keeping_addresses(&network, &invocation, before)?, &keeping_mac(&invocation, before));
    let mut result = match added {
        Ok(result) => result,
        Err(err) => {
            runtime.keep(&network, &invocation, before)?;
            return Err(err.context("attaching it again"));
        }
    };
    restore_mac(&invocation, before, &mut result)?;
    // As it was asked for the first time: not with what was added to keep its addresses.
    runtime.keep(&network, &invocation, &result)?;
    require_same(before, &result)?;
    runtime.check(&network, &invocation)
}

/// Without one of the plugins, what was detached could not be attached again.
fn require_plugins(network: &NetworkConf, calls: &[cni_core::request::Request]) -> Result<()> {
    for call in calls {
        for plugin_type in call.conf.plugin_type.iter().chain(&call.conf.ipam) {
            delegate::find(plugin_type, &call.env.path)
                .map_err(|err| err.context(format_args!("network {}", network.name())))?;
        }
    }
    Ok(())
}

/// Sets the interface down, so that the DEL of dhcp can't give the lease back: a server may have another
/// address for a client that comes again after that, and has the same for one whose lease it knows.
fn keep_lease(invocation: &Invocation) -> Result<()> {
    let Some(netns) = &invocation.netns else { return Ok(()) };
    let container = Netlink::open_in(&Netns::open_existing(netns)?)?;
    match container.link(&invocation.attachment.ifname)? {
        Some(link) => Ok(container.set_down(&link)?),
        None => Ok(()),
    }
}

fn ipam_type(members: &Members) -> String {
    let ipam: Value = member(members, "ipam").unwrap_or_default();
    ipam["type"].as_str().unwrap_or_default().to_owned()
}

/// The configuration with a request for the addresses, where an IPAM plugin takes one: `args.cni.ips`.
fn keeping_addresses(
    network: &NetworkConf,
    invocation: &Invocation,
    before: &AddResult,
) -> Result<NetworkConf> {
    network.map_plugins(|members| {
        if ipam_type(members) != "host-local" {
            return Ok(());
        }
        let mut args: Value = member(members, "args").filter(Value::is_object).unwrap_or_else(|| json!({}));
        let requested = requested(invocation, &args);
        let missing = before.ips.iter().map(|ip| ip.address.ip()).filter(|ip| !requested.contains(ip));
        let mut ips: Vec<Value> = args["cni"]["ips"].as_array().cloned().unwrap_or_default();
        ips.extend(missing.map(|ip| json!(ip.to_string())));
        if !args["cni"].is_object() {
            args["cni"] = json!({});
        }
        args["cni"]["ips"] = ips.into();
        members.retain(|key, _| !same_key("args", key));
        let raw = serde_json::value::to_raw_value(&args)
            .map_err(|err| Error::invalid_config(format!("writing a configuration: {err}")))?;
        members.insert("args".to_owned(), raw);
        Ok(())
    })
}

fn member(members: &Members, key: &str) -> Option<Value> {
    let (_, raw) = members.iter().rev().find(|(other, _)| same_key(key, other))?;
    from_json(raw.get().as_bytes(), key).ok()
}

/// The addresses that are requested already.
fn requested(invocation: &Invocation, args: &Value) -> Vec<IpAddr> {
    let lists = [invocation.capability_args.get("ips"), Some(&args["cni"]["ips"])];
    let of_lists =
        lists.into_iter().flatten().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    let texts = of_lists.chain(invocation.args.get("IP"));
    texts.filter_map(|text| text.split('/').next()?.parse().ok()).collect()
}

/// The parameters with a request for the MAC address, by `CNI_ARGS`, and where the runtime requested one,
/// by its capability.
fn keeping_mac(invocation: &Invocation, before: &AddResult) -> Invocation {
    let Some(mac) = mac_of(invocation, before) else { return invocation.clone() };
    let mut keeping = invocation.clone();
    keeping.args = keeping.args.with("MAC", &mac.to_string()).with("IgnoreUnknown", "1");
    if let Some(requested) = keeping.capability_args.get_mut("mac") {
        *requested = json!(mac.to_string());
    }
    keeping
}

fn mac_of(invocation: &Invocation, result: &AddResult) -> Option<Mac> {
    let is_own = |interface: &&cni_core::spec::Interface| {
        !interface.sandbox.is_empty() && interface.name == invocation.attachment.ifname.as_str()
    };
    result.interfaces.iter().find(is_own)?.mac.parse().ok()
}

/// Sets the MAC address where a plugin gave another one, as those do that take no request.
fn restore_mac(invocation: &Invocation, before: &AddResult, result: &mut AddResult) -> Result<()> {
    let (Some(wanted), Some(netns)) = (mac_of(invocation, before), &invocation.netns) else { return Ok(()) };
    if mac_of(invocation, result) == Some(wanted) {
        return Ok(());
    }
    let container = Netlink::open_in(&Netns::open_existing(netns)?)?;
    let ifname = &invocation.attachment.ifname;
    let Some(link) = container.link(ifname)? else { return Ok(()) };
    container.set_mac(&link, wanted)?;
    let own = result.interfaces.iter_mut();
    for interface in
        own.filter(|interface| !interface.sandbox.is_empty() && interface.name == ifname.as_str())
    {
        interface.mac = wanted.to_string();
    }
    Ok(())
}

/// Requires the addresses and routes of before. Routes differ where multus had removed some for a pod's
/// `default-route`.
fn require_same(before: &AddResult, after: &AddResult) -> Result<()> {
    let shown = |result: &AddResult| {
        let ips = result.ips.iter().map(|ip| ip.address.to_string());
        let routes = result.routes.iter().map(|route| format!("the route to {}", route.dst));
        let mut all: Vec<String> = ips.chain(routes).collect();
        all.sort();
        all
    };
    let (before, after) = (shown(before), shown(after));
    if before == after {
        return Ok(());
    }
    let msg = format!("it was attached again with {}, not with {}", after.join(", "), before.join(", "));
    Err(Error::check(msg))
}

#[cfg(test)]
mod tests {
    use cni_core::spec::CniArgs;

    use super::*;

    #[test]
    fn addresses_are_requested_once() {
        let text = br#"{"cniVersion":"1.0.0","name":"n","type":"bridge","args":{"cni":{"ips":["10.0.0.3"]}},
            "ipam":{"type":"host-local"}}"#;
        let network = NetworkConf::parse(text, "it", &Default::default()).unwrap();
        let before =
            br#"{"ips":[{"address":"10.0.0.2/24"},{"address":"10.0.0.3/24"},{"address":"10.0.0.4/24"}]}"#;
        let before = AddResult::from_json(before, cni_core::spec::Version::V1_0_0).unwrap();
        let invocation = Invocation {
            attachment: cni_core::spec::Attachment {
                container_id: "c".parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            },
            netns: None,
            args: CniArgs::parse("IP=10.0.0.4/24").unwrap(),
            capability_args: Default::default(),
        };
        let kept = keeping_addresses(&network, &invocation, &before).unwrap();
        let args: Value = member(kept.plugins()[0].members(), "args").unwrap();
        assert_eq!(args, json!({"cni": {"ips": ["10.0.0.3", "10.0.0.2"]}}));
    }
}
