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
    let (host_mac, mac) = (format!("02:77:00:00:00:{number:02x}"), format!("02:77:00:00:01:{number:02x}"));
    sandbox::ip_batch(
        "host",
        &[
            format!(
                "link add {host} address {host_mac} type veth peer name eth0 address {mac} netns {container}"
            ),
            format!("link set {host} up"),
            format!("address add 10.77.{number}.1/24 dev {host}"),
        ],
    )?;
    sandbox::ip_batch(
        container,
        &[
            format!("address add 10.77.{number}.2/24 dev eth0"),
            format!("address add fd00:77:{number}::2/64 dev eth0 nodad"),
            "link set eth0 up".to_owned(),
            format!("route add default via 10.77.{number}.1"),
        ],
    )?;
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
            {"name": host, "mac": host_mac},
            {"name": "eth0", "mac": mac,
                "sandbox": format!("{}/{container}", sandbox::NAMESPACES)},
        ],
        "ips": ips,
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["10.77.0.53"], "search": ["conformance.example"]},
    }))
}
