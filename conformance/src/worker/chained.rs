//! What stands before a chained plugin: an interface, and the result that describes it.

use super::{look, sandbox};
use crate::Result;
use crate::version::Version;
use serde_json::{Value, json};

/// Makes a veth pair into a container, gives its end addresses, and gives the result that the plugin
/// before would have returned.
pub(crate) fn stand_before(container: &str, version: Version) -> Result<Value> {
    let number = look::links("host")?.len();
    let host = format!("before-{container}");
    for line in [
        format!("ip link add {host} type veth peer name eth0 netns {container}"),
        format!("ip link set {host} up"),
        format!("ip address add 10.77.{number}.1/24 dev {host}"),
        format!("ip -n {container} address add 10.77.{number}.2/24 dev eth0"),
        format!("ip -n {container} -6 address add fd00:77:{number}::2/64 dev eth0 nodad"),
        format!("ip -n {container} link set eth0 up"),
        format!("ip -n {container} route add default via 10.77.{number}.1"),
    ] {
        sandbox::shell(&line)?;
    }
    let mac = |namespace: &str, name: &str| -> Result<Value> {
        let links = look::links(namespace)?;
        let link = links.into_iter().find(|link| link["ifname"] == name);
        link.map(|link| link["address"].clone()).ok_or_else(|| format!("{name} is not there"))
    };
    let mut ips = json!([
        {"address": format!("10.77.{number}.2/24"), "gateway": format!("10.77.{number}.1"), "interface": 1},
        {"address": format!("fd00:77:{number}::2/64"), "interface": 1},
    ]);
    if version < Version(1, 0, 0) {
        ips[0]["version"] = json!("4");
        ips[1]["version"] = json!("6");
    }
    Ok(json!({
        "cniVersion": version,
        "interfaces": [
            {"name": host, "mac": mac("host", &host)?},
            {"name": "eth0", "mac": mac(container, "eth0")?,
                "sandbox": format!("{}/{container}", sandbox::NAMESPACES)},
        ],
        "ips": ips,
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["10.77.0.53"], "search": ["conformance.example"]},
    }))
}
