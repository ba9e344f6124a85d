//! The pod's annotations that name networks.
//!
//! Two forms: `a,namespace/b,c@eth5`, or a JSON array of objects with more keys
//! (Kubernetes Network Custom Resource Definition De-facto Standard, section 4).

use std::net::IpAddr;

use cni_core::spec::{Cidr, Error, IfName, Result, from_json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The networks of a pod.
pub(crate) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The network that takes the place of the default one.
pub(crate) const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// The key of an earlier program, read where [`NETWORKS`] is missing.
pub(crate) const LEGACY_NETWORKS: &str = "networks";

/// The longest annotation that is read, in bytes; Kubernetes has the same limit for all of a pod.
const MAX_LENGTH: usize = 256 << 10;
/// The most networks that one pod may name.
const MAX_NETWORKS: usize = 64;
/// The most addresses that a pod may request of one network. They are in an environment variable, too, which
/// execve(2) limits to 128 KiB.
const MAX_IPS: usize = 256;

/// One network that a pod names, with its requests.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Selection {
    /// The definition.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The name of the interface in the pod.
    pub(crate) interface: Option<IfName>,
    /// Addresses, with or without a prefix length.
    pub(crate) ips: Vec<String>,
    /// The hardware address.
    pub(crate) mac: Option<String>,
    /// The GUID of an InfiniBand interface.
    pub(crate) infiniband_guid: Option<String>,
    /// Ports of the host that lead to the pod; an empty list keeps the runtime's ports off this network.
    pub(crate) port_mappings: Option<Vec<PortMapping>>,
    /// Limits of the traffic.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// The device to attach.
    pub(crate) device_id: Option<String>,
    /// What goes into `args.cni` of the configuration.
    pub(crate) cni_args: Option<Map<String, Value>>,
    /// Gateways of the pod's default routes; an empty list keeps the default routes of the network
    /// itself.
    pub(crate) default_route: Option<Vec<IpAddr>>,
}

/// A port of the host that leads to one of the pod.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PortMapping {
    /// The port on the host.
    #[serde(default)]
    pub(crate) host_port: u16,
    /// The port in the pod.
    #[serde(default)]
    pub(crate) container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) protocol: String,
    /// The address of the host that is listened on.
    #[serde(default, rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub(crate) host_ip: String,
}

/// Limits of the traffic, rates in bits per second and bursts in bits.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bandwidth {
    /// Rate towards the pod.
    #[serde(default)]
    pub(crate) ingress_rate: u64,
    /// Burst towards the pod.
    #[serde(default)]
    pub(crate) ingress_burst: u64,
    /// Rate from the pod.
    #[serde(default)]
    pub(crate) egress_rate: u64,
    /// Burst from the pod.
    #[serde(default)]
    pub(crate) egress_burst: u64,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    interface: String,
    #[serde(default, rename = "interfaceRequest")]
    interface_request: String,
    #[serde(default)]
    ips: Vec<String>,
    #[serde(default)]
    mac: String,
    #[serde(default, rename = "infiniband-guid")]
    infiniband_guid: String,
    #[serde(default, rename = "portMappings")]
    port_mappings: Option<Vec<PortMapping>>,
    #[serde(default)]
    bandwidth: Option<Bandwidth>,
    #[serde(default, rename = "deviceID")]
    device_id: String,
    #[serde(default, rename = "cni-args")]
    cni_args: Option<Map<String, Value>>,
    #[serde(default, rename = "default-route")]
    default_route: Option<Vec<IpAddr>>,
}

/// Reads an annotation; `key` names it in errors, `namespace` is that of networks without one.
///
/// # Errors
/// When it has neither form, or a part of it is invalid.
pub(crate) fn parse(text: &str, key: &str, namespace: &str) -> Result<Vec<Selection>> {
    if text.len() > MAX_LENGTH {
        return Err(Error::invalid_config(format!(
            "annotation {key} is longer than {} KiB",
            MAX_LENGTH >> 10
        )));
    }
    let selections: Vec<Selection> = if text.contains(['[', '{', '"']) {
        let wires: Vec<Wire> = from_json(text.as_bytes(), &format!("annotation {key}")).map_err(forms)?;
        wires.into_iter().map(|wire| from_wire(wire, namespace)).collect::<Result<_>>()
    } else {
        text.split(',').map(|item| from_short(item.trim(), namespace)).collect()
    }
    .map_err(|err| err.context(format_args!("annotation {key}")))?;
    if selections.len() > MAX_NETWORKS {
        let msg = format!("annotation {key} names {} networks", selections.len());
        return Err(
            Error::invalid_config(msg).details(format!("at most {MAX_NETWORKS} are attached to one pod"))
        );
    }
    Ok(selections)
}

fn forms(err: Error) -> Error {
    err.details(
        "it is either names separated by commas (a,namespace/b,c@eth5) or a JSON array of objects with a name",
    )
}

/// `namespace/name@interface`.
fn from_short(item: &str, namespace: &str) -> Result<Selection> {
    let wrong = |why: &str| forms(Error::invalid_config(format!("{item:?} {why}")));
    let (space, rest) = match item.split('/').collect::<Vec<_>>()[..] {
        [rest] => (namespace, rest),
        [space, rest] => (space.trim(), rest),
        _ => return Err(wrong("has more than one '/'")),
    };
    let (name, interface) = match rest.split('@').collect::<Vec<_>>()[..] {
        [name] => (name.trim(), None),
        [name, interface] => (name.trim(), Some(interface.trim().parse()?)),
        _ => return Err(wrong("has more than one '@'")),
    };
    check_names(name, space)?;
    Ok(Selection { name: name.to_owned(), namespace: space.to_owned(), interface, ..Selection::default() })
}

fn from_wire(wire: Wire, namespace: &str) -> Result<Selection> {
    let namespace = if wire.namespace.is_empty() { namespace } else { &wire.namespace };
    check_names(&wire.name, namespace)?;
    let of = |err: Error| err.context(format_args!("network {}", wire.name));
    let interface = if wire.interface.is_empty() { &wire.interface_request } else { &wire.interface };
    let interface = if interface.is_empty() { None } else { Some(interface.parse().map_err(of)?) };
    if wire.ips.len() > MAX_IPS {
        let msg = format!("ips: {} addresses are requested, at most {MAX_IPS} can be", wire.ips.len());
        return Err(of(Error::invalid_config(msg)));
    }
    for ip in &wire.ips {
        check_ip(ip).map_err(of)?;
    }
    let hardware = |text: &str, what: &str, lengths: &[usize]| -> Result<Option<String>> {
        if text.is_empty() {
            return Ok(None);
        }
        check_hardware_address(text, what, lengths).map_err(of)?;
        Ok(Some(text.to_owned()))
    };
    Ok(Selection {
        namespace: namespace.to_owned(),
        interface,
        mac: hardware(&wire.mac, "mac", &[6, 8, 20])?,
        infiniband_guid: hardware(&wire.infiniband_guid, "infiniband-guid", &[8])?,
        device_id: Some(wire.device_id).filter(|id| !id.is_empty()),
        name: wire.name,
        ips: wire.ips,
        port_mappings: wire.port_mappings,
        bandwidth: wire.bandwidth,
        cni_args: wire.cni_args,
        default_route: wire.default_route,
    })
}

/// Checks names of objects and namespaces, which become part of a request's path (RFC 1123 labels; dots
/// between them in the name of an object).
fn check_names(name: &str, namespace: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid_config("a network without a name"));
    }
    check_object_name(name)?;
    check_label(namespace).map_err(|why| Error::invalid_config(format!("namespace {namespace:?} {why}")))
}

/// Checks the name of an object, which becomes part of a request's path.
///
/// # Errors
/// When it is not such a name.
pub(crate) fn check_object_name(name: &str) -> Result<()> {
    let checked = if name.len() > 253 {
        Err("is longer than 253 bytes")
    } else {
        name.split('.').try_for_each(check_label)
    };
    checked.map_err(|why| Error::invalid_config(format!("name {name:?} {why}")))
}

fn check_label(label: &str) -> Result<(), &'static str> {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if label.len() > 253 {
        return Err("is too long");
    }
    match label.as_bytes() {
        [] => Err("is empty, or has an empty part"),
        [first, ..] if !is_alphanumeric(*first) => Err("must begin with a lower-case letter or a digit"),
        [.., last] if !is_alphanumeric(*last) => Err("must end with a lower-case letter or a digit"),
        bytes if bytes.iter().all(|b| is_alphanumeric(*b) || *b == b'-') => Ok(()),
        _ => Err("may only have lower-case letters, digits and '-'"),
    }
}

fn check_ip(text: &str) -> Result<()> {
    let checked = if text.contains('/') {
        text.parse::<Cidr>().map(|_| ())
    } else {
        text.parse::<IpAddr>().map(|_| ()).map_err(|_| format!("{text:?} is not an IP address"))
    };
    checked.map_err(|why| Error::invalid_config(format!("ips: {why}")))
}

/// Pairs of hexadecimal digits with `:` or `-` between them, or groups of four with `.`.
fn check_hardware_address(text: &str, what: &str, lengths: &[usize]) -> Result<()> {
    let (separator, digits) = match text {
        _ if text.contains('.') => ('.', 4),
        _ if text.contains('-') => ('-', 2),
        _ => (':', 2),
    };
    let mut groups = 0;
    let is_valid = text.split(separator).all(|group| {
        groups += 1;
        group.len() == digits && group.bytes().all(|b| b.is_ascii_hexdigit())
    });
    if is_valid && lengths.contains(&(groups * digits / 2)) {
        return Ok(());
    }
    let bytes: Vec<String> = lengths.iter().map(usize::to_string).collect();
    Err(Error::invalid_config(format!("{what}: {text:?} is not an address of {} bytes", bytes.join(" or "))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Selection>> {
        parse(text, NETWORKS, "pods")
    }

    #[test]
    fn the_short_form_has_namespace_and_interface() {
        let selections = read("a, ns/b ,c@eth5,ns/d@x, a").unwrap();
        let short: Vec<_> = selections
            .iter()
            .map(|s| (s.namespace.as_str(), s.name.as_str(), s.interface.as_ref().map(IfName::as_str)))
            .collect();
        assert_eq!(
            short,
            [
                ("pods", "a", None),
                ("ns", "b", None),
                ("pods", "c", Some("eth5")),
                ("ns", "d", Some("x")),
                ("pods", "a", None)
            ]
        );
    }

    #[test]
    fn the_long_form_has_everything() {
        let text = r#"[{"name":"n","namespace":"ns","interface":"net9","ips":["10.0.0.1/24","fd00::1"],
            "mac":"02:00:00:00:00:01","infiniband-guid":"c2:11:22:33:44:55:66:77","deviceID":"0000:01:00.0",
            "portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"tcp"}],
            "bandwidth":{"ingressRate":1,"ingressBurst":2,"egressRate":3,"egressBurst":4},
            "cni-args":{"a":{"b":1}},"default-route":["10.0.0.254","fd00::fe"],"unknown":true},
            {"name":"o","interfaceRequest":"old0","default-route":[],"ips":null}]"#;
        let selections = read(text).unwrap();
        let first = &selections[0];
        assert_eq!((first.namespace.as_str(), first.interface.as_deref()), ("ns", Some("net9")));
        assert_eq!(first.ips, ["10.0.0.1/24", "fd00::1"]);
        assert_eq!(first.default_route.as_ref().unwrap().len(), 2);
        assert_eq!(first.cni_args.as_ref().unwrap()["a"]["b"], 1);
        assert_eq!(
            serde_json::to_string(first.port_mappings.as_ref().unwrap()).unwrap(),
            r#"[{"hostPort":80,"containerPort":8080,"protocol":"tcp"}]"#
        );
        assert_eq!(selections[1].interface.as_deref(), Some("old0"));
        assert_eq!(selections[1].default_route, Some(vec![]));
        assert_eq!(selections[1].namespace, "pods");
    }

    #[test]
    fn every_element_is_checked() {
        for bad in [
            "",
            "a,",
            "a//b",
            "a/b/c",
            "a@b@c",
            "A",
            "-a",
            "../x",
            "a@bad/name",
            "a@sixteen-bytes-xx",
            "{",
            r#"{"name":"a"}"#,
            r#"["a"]"#,
            r#"[{"namespace":"x"}]"#,
            r#"[{"name":"../a"}]"#,
            r#"[{"name":"a","namespace":"x/y"}]"#,
            r#"[{"name":"a","namespace":"x?y"}]"#,
            r#"[{"name":"a","interface":"x y"}]"#,
            r#"[{"name":"a","ips":"10.0.0.1"}]"#,
            r#"[{"name":"a","ips":["10.0.0"]}]"#,
            r#"[{"name":"a","ips":["10.0.0.1/33"]}]"#,
            r#"[{"name":"a","mac":"02:00"}]"#,
            r#"[{"name":"a","mac":7}]"#,
            r#"[{"name":"a","infiniband-guid":"02:00:00:00:00:01"}]"#,
            r#"[{"name":"a","portMappings":[{"hostPort":"x"}]}]"#,
            r#"[{"name":"a","portMappings":[{"hostPort":70000}]}]"#,
            r#"[{"name":"a","bandwidth":{"ingressRate":-1}}]"#,
            r#"[{"name":"a","deviceID":7}]"#,
            r#"[{"name":"a","cni-args":[]}]"#,
            r#"[{"name":"a","default-route":"10.0.0.1"}]"#,
            r#"[{"name":"a","default-route":["x"]}]"#,
        ] {
            let error = read(bad).expect_err(bad);
            assert!(error.msg().contains(NETWORKS), "{bad}: {error}");
        }
    }

    #[test]
    fn a_tenant_cannot_request_without_bound() {
        assert!(read(&vec!["a"; 64].join(",")).is_ok());
        assert!(read(&vec!["a"; 65].join(",")).unwrap_err().msg().contains("names 65 networks"));
        assert!(read(&"a".repeat(300 << 10)).unwrap_err().msg().contains("longer than 256 KiB"));
    }

    #[test]
    fn the_addresses_of_a_network_are_bounded() {
        let ips = |count: usize| {
            let ips: Vec<String> = (0..count).map(|i| format!("\"10.0.{}.{}\"", i / 256, i % 256)).collect();
            read(&format!(r#"[{{"name":"a","ips":[{}]}}]"#, ips.join(",")))
        };
        assert_eq!(ips(MAX_IPS).unwrap()[0].ips.len(), MAX_IPS);
        assert!(ips(MAX_IPS + 1).unwrap_err().msg().contains("257 addresses"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", key in "(name|namespace|interface|ips|mac|bandwidth|default-route)") {
            let _ = read(&text);
            if let Ok(selections) = read(&format!(r#"[{{"name":"n","{key}":{text}}}]"#)) {
                for selection in selections {
                    prop_assert!(!selection.name.contains('/') && !selection.namespace.contains(['/', '?', '.']));
                }
            }
        }
    }
}
