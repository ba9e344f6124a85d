//! The status of a pod's networks, in the JSON form of the Go program.

use std::collections::BTreeMap;

use cni_core::spec::{AddResult, Code, Dns, Error, Interface, Result};
use serde::Serialize;

use crate::device::info::DeviceInfo;

/// The key of the annotation that holds it.
pub(crate) const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// One interface of a pod on one network.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct NetworkStatus {
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
    device_info: Option<DeviceInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gateway: Vec<String>,
}

/// The longest status that is written, in bytes; Kubernetes has the same limit for all annotations of
/// an object.
const MAX_LENGTH: usize = 256 << 10;

/// The text of the annotation while it grows.
#[derive(Debug, Default)]
pub(crate) struct StatusText(String);

impl StatusText {
    /// Adds the entries of one network: one for each interface in the pod.
    ///
    /// A result with one interface gives one entry with all addresses, because older plugins don't report
    /// the interface of an address. Of several interfaces, the last gets the addresses without one. A
    /// result without interfaces has no entry, as in the Go program.
    ///
    /// The default network's default interface is that of the first address with a gateway, or without a
    /// gateway the first interface.
    ///
    /// # Errors
    /// When the text becomes longer than an annotation can be.
    pub(crate) fn add(
        &mut self,
        result: &AddResult,
        label: &str,
        is_default: bool,
        device_info: Option<&DeviceInfo>,
    ) -> Result<()> {
        let gateways = gateways(result);
        let entry = |interface: Option<&Interface>, default, ips| NetworkStatus {
            name: label.to_owned(),
            interface: interface.map(|interface| interface.name.clone()).unwrap_or_default(),
            ips,
            mac: interface.map(|interface| interface.mac.clone()).unwrap_or_default(),
            mtu: interface.and_then(|interface| interface.mtu).filter(|mtu| *mtu > 0),
            default,
            dns: result.dns.clone(),
            device_info: device_info.cloned(),
            gateway: gateways.clone(),
        };
        let is_in_pod = |interface: &&Interface| !interface.sandbox.is_empty();
        if result.interfaces.len() == 1 {
            let ips = result.ips.iter().map(|ip| ip.address.ip().to_string()).collect();
            return self.push(&entry(result.interfaces.iter().find(is_in_pod), is_default, ips));
        }
        let in_pod: Vec<_> =
            result.interfaces.iter().enumerate().filter(|(_, interface)| is_in_pod(interface)).collect();
        let first = in_pod.first().map(|(i, _)| *i);
        let last = in_pod.last().map(|(i, _)| *i);
        let with_gateway = result.ips.iter().filter(|ip| ip.gateway.is_some()).find_map(|ip| ip.interface);
        let default = with_gateway.or(first).filter(|_| is_default);
        let mut ips: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for ip in &result.ips {
            if let Some(interface) = ip.interface.or(last) {
                ips.entry(interface).or_default().push(ip.address.ip().to_string());
            }
        }
        // One at a time: each entry repeats the network's DNS settings.
        for (i, interface) in in_pod {
            self.push(&entry(Some(interface), default == Some(i), ips.remove(&i).unwrap_or_default()))?;
        }
        Ok(())
    }

    fn push(&mut self, entry: &NetworkStatus) -> Result<()> {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&indented(entry));
        if self.0.len() > MAX_LENGTH {
            return Err(Error::new(
                Code::DELEGATE,
                format!("the status of the pod's networks is longer than {} KiB", MAX_LENGTH >> 10),
            )
            .details("results of plugins have too many interfaces or too long DNS settings"));
        }
        Ok(())
    }

    /// Whether it has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The annotation's value: each entry indented by four spaces.
    pub(crate) fn value(&self) -> String {
        format!("[{}]", self.0)
    }
}

/// The gateways of the default routes. The Go program writes `<nil>` for a route without one.
fn gateways(result: &AddResult) -> Vec<String> {
    result
        .routes
        .iter()
        .filter(|route| route.is_default())
        .filter_map(|route| route.gw)
        .map(|gw| gw.to_string())
        .collect()
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

    fn text(result: &AddResult, label: &str, is_default: bool, info: Option<&DeviceInfo>) -> String {
        let mut text = StatusText::default();
        text.add(result, label, is_default, info).unwrap();
        text.value()
    }

    fn entries(result: &AddResult, is_default: bool, info: Option<&DeviceInfo>) -> Vec<serde_json::Value> {
        serde_json::from_str(&text(result, "ns/net", is_default, info)).unwrap()
    }

    fn result(text: &str) -> AddResult {
        AddResult::from_json(text.as_bytes(), Version::V1_1_0).unwrap()
    }

    #[test]
    fn the_text_is_that_of_the_go_program_but_for_a_route_without_gateway() {
        let result = result(
            r#"{"interfaces":[{"name":"br0"},{"name":"veth1"},{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1400,"sandbox":"/n"}],
            "ips":[{"interface":2,"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"interface":2,"address":"fd00::5/64"}],
            "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"::/0"}]}"#,
        );
        let expected = "[{\n    \"name\": \"net\",\n    \"interface\": \"eth0\",\n    \"ips\": [\n        \"10.1.0.5\",\n        \"fd00::5\"\n    ],\n    \"mac\": \"02:00:00:00:00:02\",\n    \"mtu\": 1400,\n    \"default\": true,\n    \"dns\": {},\n    \"gateway\": [\n        \"10.1.0.1\"\n    ]\n}]";
        assert_eq!(text(&result, "net", true, None), expected);
    }

    #[test]
    fn every_interface_in_the_pod_has_an_entry_with_its_addresses() {
        let result = result(
            r#"{"interfaces":[{"name":"a","sandbox":"/n"},{"name":"host"},{"name":"b","sandbox":"/n"}],
            "ips":[{"interface":2,"address":"10.0.0.2/24"},{"interface":0,"address":"10.0.0.1/24"}]}"#,
        );
        let info: DeviceInfo = serde_json::from_value(json!({"type": "pci"})).unwrap();
        let entries = entries(&result, true, Some(&info));
        assert_eq!(entries.len(), 2);
        assert_eq!((&entries[0]["interface"], &entries[0]["default"]), (&json!("a"), &json!(true)));
        assert_eq!((&entries[1]["ips"], &entries[1]["default"]), (&json!(["10.0.0.2"]), &json!(null)));
        assert_eq!(entries[1]["device-info"], json!({"type": "pci"}));
    }

    #[test]
    fn the_default_is_where_the_gateway_is_or_else_the_first() {
        let interfaces =
            r#""interfaces":[{"name":"host"},{"name":"a","sandbox":"/n"},{"name":"b","sandbox":"/n"}]"#;
        for (ips, default) in [
            (
                r#"{"interface":1,"address":"10.0.0.1/24"},{"interface":2,"address":"10.0.0.2/24","gateway":"10.0.0.9"}"#,
                Some("b"),
            ),
            (
                r#"{"address":"10.0.0.1/24","gateway":"10.0.0.9"},{"interface":2,"address":"10.0.0.2/24"}"#,
                Some("a"),
            ),
            (r#"{"interface":0,"address":"10.0.0.1/24","gateway":"10.0.0.9"}"#, None),
            ("", Some("a")),
        ] {
            let result = result(&format!(r#"{{{interfaces},"ips":[{ips}]}}"#));
            for is_default in [true, false] {
                let entries = entries(&result, is_default, None);
                let marked: Vec<_> = entries
                    .iter()
                    .filter(|it| it["default"] == true)
                    .filter_map(|it| it["interface"].as_str())
                    .collect();
                assert_eq!(marked, Vec::from_iter(default.filter(|_| is_default)), "{ips}");
            }
        }
    }

    #[test]
    fn addresses_without_an_interface_belong_to_the_last() {
        let result = result(
            r#"{"interfaces":[{"name":"a","sandbox":"/n"},{"name":"b","sandbox":"/n"},{"name":"host"}],
            "ips":[{"address":"10.0.0.1/24"},{"interface":0,"address":"10.0.0.2/24"},{"interface":1,"address":"10.0.0.3/24"}]}"#,
        );
        let ips: Vec<_> = entries(&result, true, None).into_iter().map(|it| it["ips"].clone()).collect();
        assert_eq!(ips, [json!(["10.0.0.2"]), json!(["10.0.0.1", "10.0.0.3"])]);
    }

    #[test]
    fn only_a_result_with_one_interface_has_an_entry_without_one() {
        let without = result(r#"{"ips":[{"address":"10.0.0.2/24"}]}"#);
        assert_eq!(text(&without, "net", false, None), "[]");
        let of_host = result(r#"{"interfaces":[{"name":"host"}],"ips":[{"address":"10.0.0.2/24"}]}"#);
        let text = text(&of_host, "net", false, None);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            json!([{"name":"net","ips":["10.0.0.2"],"dns":{}}])
        );
        assert_eq!(StatusText::default().value(), "[]");
    }

    #[test]
    fn a_status_longer_than_an_annotation_is_refused_before_it_takes_memory() {
        let interfaces: Vec<_> =
            (0..20_000).map(|i| json!({"name": format!("i{i}"), "sandbox": "/n"})).collect();
        let dns = json!({"search": ["x".repeat(500_000)]});
        let result = result(&json!({"interfaces": interfaces, "dns": dns}).to_string());
        let error = StatusText::default().add(&result, "net", true, None).unwrap_err();
        assert!(error.msg().contains("256 KiB"), "{error}");
    }
}
