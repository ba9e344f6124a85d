//! The status of a pod's networks, in the JSON form of the Go program.

use cni_core::spec::{AddResult, Dns, Interface};
use serde::Serialize;
use serde_json::Value;

/// The key of the annotation that holds it.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// What a pod got of one network on one interface.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NetworkStatus {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    interface: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    dns: Dns,
    #[serde(rename = "device-info", skip_serializing_if = "Option::is_none")]
    device_info: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gateway: Vec<String>,
}

/// The entries of one network: one for each interface in the pod.
///
/// A result of one interface, or none, gives one entry that has all addresses, whether they
/// are said to belong to that interface or not: older plugins don't say.
pub fn entries(
    result: &AddResult,
    label: &str,
    is_default: bool,
    device_info: Option<&Value>,
) -> Vec<NetworkStatus> {
    let entry = |interface: Option<&Interface>, default, ips| NetworkStatus {
        name: label.to_owned(),
        interface: interface.map(|interface| interface.name.clone()).unwrap_or_default(),
        ips,
        mac: interface.map(|interface| interface.mac.clone()).unwrap_or_default(),
        mtu: interface.and_then(|interface| interface.mtu).filter(|mtu| *mtu > 0),
        default,
        dns: result.dns.clone(),
        device_info: device_info.cloned(),
        gateway: gateways(result),
    };
    let in_pod = |interface: &&Interface| !interface.sandbox.is_empty();
    if result.interfaces.len() <= 1 {
        let ips = result.ips.iter().map(|ip| ip.address.ip().to_string()).collect();
        return vec![entry(result.interfaces.iter().find(in_pod), is_default, ips)];
    }
    let mut entries = Vec::new();
    for (i, interface) in result.interfaces.iter().enumerate().filter(|(_, interface)| in_pod(interface)) {
        let here = result.ips.iter().filter(|ip| ip.interface == Some(i));
        let ips = here.map(|ip| ip.address.ip().to_string()).collect();
        let default = is_default && entries.is_empty() && !result.ips.is_empty();
        entries.push(entry(Some(interface), default, ips));
    }
    entries
}

/// The gateways of the default routes.
fn gateways(result: &AddResult) -> Vec<String> {
    result
        .routes
        .iter()
        .filter(|route| route.is_default())
        .filter_map(|route| route.gw)
        .map(|gw| gw.to_string())
        .collect()
}

/// The annotation's value: each entry indented by four spaces.
pub fn to_text(entries: &[NetworkStatus]) -> String {
    let entries: Vec<String> = entries.iter().map(indented).collect();
    format!("[{}]", entries.join(","))
}

fn indented(entry: &NetworkStatus) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    // Strings and numbers always have a JSON form, and a vector takes all of it.
    let _ = entry.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter));
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use cni_core::spec::Version;
    use serde_json::json;

    use super::*;

    fn result(text: &str) -> AddResult {
        AddResult::from_json(text.as_bytes(), Version::V1_1_0).unwrap()
    }

    #[test]
    fn the_text_is_that_of_the_go_program() {
        let result = result(
            r#"{"interfaces":[{"name":"br0"},{"name":"veth1"},{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1400,"sandbox":"/n"}],
            "ips":[{"interface":2,"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"interface":2,"address":"fd00::5/64"}],
            "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"::/0"}]}"#,
        );
        let expected = "[{\n    \"name\": \"net\",\n    \"interface\": \"eth0\",\n    \"ips\": [\n        \"10.1.0.5\",\n        \"fd00::5\"\n    ],\n    \"mac\": \"02:00:00:00:00:02\",\n    \"mtu\": 1400,\n    \"default\": true,\n    \"dns\": {},\n    \"gateway\": [\n        \"10.1.0.1\"\n    ]\n}]";
        assert_eq!(to_text(&entries(&result, "net", true, None)), expected);
    }

    #[test]
    fn every_interface_in_the_pod_has_an_entry_with_its_addresses() {
        let result = result(
            r#"{"interfaces":[{"name":"a","sandbox":"/n"},{"name":"host"},{"name":"b","sandbox":"/n"}],
            "ips":[{"interface":2,"address":"10.0.0.2/24"},{"interface":0,"address":"10.0.0.1/24"}]}"#,
        );
        let entries = entries(&result, "ns/net", true, Some(&json!({"type": "pci"})));
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].interface.as_str(), entries[0].default), ("a", true));
        assert_eq!(
            (entries[1].ips.as_slice(), entries[1].default),
            (["10.0.0.2".to_owned()].as_slice(), false)
        );
        assert_eq!(entries[1].device_info, Some(json!({"type": "pci"})));
    }

    #[test]
    fn a_result_without_interfaces_has_one_entry_with_all_addresses() {
        let result = result(r#"{"ips":[{"address":"10.0.0.2/24"}]}"#);
        let text = to_text(&entries(&result, "net", false, None));
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!([{"name":"net","ips":["10.0.0.2"],"dns":{}}])
        );
        assert_eq!(to_text(&[]), "[]");
    }
}
