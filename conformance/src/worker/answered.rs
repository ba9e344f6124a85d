//! Values that cases take out of results, whatever version a result is of.

use super::{look, sandbox};
use crate::variables::at_path;
use serde_json::{Value, json};

/// The value that `what` stands for in a result.
pub(crate) fn value(result: &Value, what: &str) -> Option<Value> {
    match what {
        "result" => Some(result.clone()),
        "address" => first_address(result, '.').map(Value::from),
        "ip" => first_address(result, '.').map(|text| without_length(&text)),
        "ip6" => first_address(result, ':').map(|text| without_length(&text)),
        "interface-of-address" => {
            let index = result["ips"][0]["interface"].as_u64()?;
            result["interfaces"].get(usize::try_from(index).ok()?).cloned()
        }
        "missing-interfaces" => Some(missing(result)),
        _ => at_path(result, what.strip_prefix("result.")?).cloned(),
    }
}

/// The first address of a family (its separator: `.` or `:`), with its prefix length.
fn first_address(result: &Value, separator: char) -> Option<String> {
    let new = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = ["ip4", "ip6"].iter().map(|family| &result[family]["ip"]);
    new.chain(old).filter_map(Value::as_str).find(|text| text.contains(separator)).map(str::to_owned)
}

fn without_length(address: &str) -> Value {
    Value::from(address.split('/').next().unwrap_or_default())
}

/// The interfaces of a result that are not where it says they are.
fn missing(result: &Value) -> Value {
    let is_missing = |interface: &&Value| {
        let sandbox = interface["sandbox"].as_str().unwrap_or_default();
        let container = sandbox.strip_prefix(sandbox::NAMESPACES).map(|name| name.trim_start_matches('/'));
        let namespace = if sandbox.is_empty() { Some("host") } else { container };
        let links = namespace.and_then(|namespace| look::links(namespace).ok()).unwrap_or_default();
        !links.iter().any(|link| link["ifname"] == interface["name"])
    };
    json!(result["interfaces"].as_array().into_iter().flatten().filter(is_missing).collect::<Vec<_>>())
}
