//! The form of results, version by version (section 5 of the specification).

use crate::pattern::{Difference, is};
use crate::version::Version;
use serde_json::Value;

type Result = std::result::Result<(), Difference>;

/// Whether an ADD's result has the form of `version`; `ipam`: the abbreviated form of IPAM plugins.
pub(crate) fn check(result: &Value, version: Version, ipam: bool) -> Result {
    want(result.is_object(), "", "an object", result)?;
    let answered = &result["cniVersion"];
    // Results of 0.1.0 need not have it: the field came with 0.2.0.
    if version >= Version(0, 2, 0) || !answered.is_null() {
        let equal = answered.as_str() == Some(&version.to_string());
        want(equal, "cniVersion", &format!("the version of the configuration, {version}"), answered)?;
    }
    if version < Version(0, 3, 0) {
        return ["ip4", "ip6"].iter().try_for_each(|family| old_ip(&result[family], family));
    }
    if ipam {
        want(
            result["interfaces"].is_null(),
            "interfaces",
            "absent: it is an IPAM plugin",
            &result["interfaces"],
        )?;
    }
    let interfaces = list(result, "interfaces")?;
    for (index, interface) in interfaces.iter().enumerate() {
        check_interface(interface, &format!("interfaces.{index}"))?;
    }
    for (index, ip) in list(result, "ips")?.iter().enumerate() {
        check_ip(ip, &format!("ips.{index}"), version, (!ipam).then_some(interfaces.len()))?;
    }
    for (index, route) in list(result, "routes")?.iter().enumerate() {
        check_route(route, &format!("routes.{index}"))?;
    }
    check_dns(&result["dns"])
}

fn check_interface(interface: &Value, path: &str) -> Result {
    want(interface.is_object(), path, "an object", interface)?;
    let name = &interface["name"];
    want(name.as_str().is_some_and(|name| !name.is_empty()), &format!("{path}.name"), "a name", name)?;
    // Without an address of the link layer the key is absent or empty.
    let mac = &interface["mac"];
    optional(interface, path, "mac", "a hardware address", |v| v == "" || is("mac", v))?;
    want(!mac.is_number(), &format!("{path}.mac"), "a string", mac)?;
    optional(interface, path, "sandbox", "a string", Value::is_string)?;
    optional(interface, path, "mtu", "an unsigned number", |v| is("uint", v))?;
    optional(interface, path, "socketPath", "a string", Value::is_string)?;
    optional(interface, path, "pciID", "a string", Value::is_string)
}

fn check_ip(ip: &Value, path: &str, version: Version, interfaces: Option<usize>) -> Result {
    want(ip.is_object(), path, "an object", ip)?;
    let address = &ip["address"];
    want(is("cidr", address), &format!("{path}.address"), "an address in CIDR notation", address)?;
    if version < Version(1, 0, 0) {
        let family = if address.as_str().is_some_and(|text| text.contains(':')) { "6" } else { "4" };
        want(ip["version"] == family, &format!("{path}.version"), &format!("{family:?}"), &ip["version"])?;
    }
    optional(ip, path, "gateway", "an address", |v| is("ip", v))?;
    match interfaces {
        Some(count) => optional(ip, path, "interface", &format!("an index below {count}"), |v| {
            v.as_u64().is_some_and(|index| index < count as u64)
        }),
        None => want(
            ip["interface"].is_null(),
            &format!("{path}.interface"),
            "absent: it is an IPAM plugin",
            &ip["interface"],
        ),
    }
}

fn check_route(route: &Value, path: &str) -> Result {
    want(is("cidr", &route["dst"]), &format!("{path}.dst"), "a destination in CIDR notation", &route["dst"])?;
    optional(route, path, "gw", "an address", |v| is("ip", v))?;
    ["mtu", "advmss", "priority", "table", "scope"]
        .iter()
        .try_for_each(|key| optional(route, path, key, "an unsigned number", |v| is("uint", v)))
}

fn check_dns(dns: &Value) -> Result {
    if dns.is_null() {
        return Ok(());
    }
    want(dns.is_object(), "dns", "an object", dns)?;
    let strings = |v: &Value| v.as_array().is_some_and(|array| array.iter().all(Value::is_string));
    optional(dns, "dns", "domain", "a string", Value::is_string)?;
    ["nameservers", "search", "options"]
        .iter()
        .try_for_each(|key| optional(dns, "dns", key, "a list of strings", strings))
}

/// `ip4` and `ip6` of 0.1.0 and 0.2.0.
fn old_ip(ip: &Value, path: &str) -> Result {
    if ip.is_null() {
        return Ok(());
    }
    want(is("cidr", &ip["ip"]), &format!("{path}.ip"), "an address in CIDR notation", &ip["ip"])?;
    optional(ip, path, "gateway", "an address", |v| is("ip", v))?;
    for (index, route) in list(ip, "routes")?.iter().enumerate() {
        check_route(route, &format!("{path}.routes.{index}"))?;
    }
    Ok(())
}

/// A key that may be absent; `null` counts as absent, as in every reader of results that exists.
fn optional(object: &Value, path: &str, key: &str, expected: &str, valid: impl Fn(&Value) -> bool) -> Result {
    let value = &object[key];
    want(value.is_null() || valid(value), &format!("{path}.{key}"), &format!("{expected}, or absent"), value)
}

fn list<'a>(object: &'a Value, key: &str) -> std::result::Result<&'a [Value], Difference> {
    match &object[key] {
        Value::Null => Ok(&[]),
        Value::Array(array) => Ok(array),
        other => want(false, key, "a list", other).map(|()| &[][..]),
    }
}

fn want(holds: bool, path: &str, expected: &str, actual: &Value) -> Result {
    if holds {
        return Ok(());
    }
    Err(Difference { path: path.to_owned(), expected: expected.to_owned(), actual: actual.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(result: Value, version: Version, ipam: bool) -> String {
        check(&result, version, ipam).map_or_else(|difference| difference.path, |()| "ok".to_owned())
    }

    #[test]
    fn each_version_has_its_own_form() {
        let new = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01"}],
            "ips": [{"address": "10.0.0.2/24", "interface": 0}], "routes": [{"dst": "::/0"}], "dns": {}});
        assert_eq!(path(new.clone(), Version(1, 0, 0), false), "ok");
        assert_eq!(path(new.clone(), Version(1, 1, 0), false), "cniVersion");
        assert_eq!(path(new.clone(), Version(1, 0, 0), true), "interfaces");
        let mut old = new;
        old["cniVersion"] = json!("0.4.0");
        assert_eq!(path(old.clone(), Version(0, 4, 0), false), "ips.0.version");
        old["ips"][0]["version"] = json!("4");
        assert_eq!(path(old.clone(), Version(0, 4, 0), false), "ok");
        old["ips"][0]["interface"] = json!(1);
        assert_eq!(path(old, Version(0, 4, 0), false), "ips.0.interface");
        let oldest = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2", "gateway": "10.0.0.1"}});
        assert_eq!(path(oldest, Version(0, 2, 0), false), "ip4.ip");
    }

    #[test]
    fn types_are_looked_at() {
        let with = |key: &str, value: Value| {
            let mut result = json!({"cniVersion": "1.1.0"});
            result[key] = value;
            path(result, Version(1, 1, 0), false)
        };
        assert_eq!(with("interfaces", json!([{"name": ""}])), "interfaces.0.name");
        assert_eq!(with("interfaces", json!([{"name": "x", "mtu": "1500"}])), "interfaces.0.mtu");
        assert_eq!(with("ips", json!([{"address": "10.0.0.2"}])), "ips.0.address");
        assert_eq!(with("ips", json!({})), "ips");
        assert_eq!(with("routes", json!([{"dst": "default"}])), "routes.0.dst");
        assert_eq!(with("routes", json!([{"dst": "0.0.0.0/0", "table": -1}])), "routes.0.table");
        assert_eq!(with("dns", json!({"nameservers": "x"})), "dns.nameservers");
    }
}
