//! What a plugin is given: environment and configuration, as sections 2 and 3 of the specification
//! derive them.

use crate::case::{Call, Kind};
use crate::profile::Profile;
use crate::version::Version;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The network's name in every case that doesn't give another.
pub(crate) const NETWORK: &str = "conformance-net";

/// The container ID that stands for a container.
pub(crate) fn container_id(container: &str) -> String {
    format!("conformance-{container}")
}

/// A small number that no other attachment of a case has: a VLAN id, for example.
pub(crate) fn number((container, ifname): &(String, String)) -> u32 {
    let of = match container.strip_prefix('p').and_then(|digits| digits.parse::<u32>().ok()) {
        Some(index) => 10 + index,
        None => container.bytes().next().map_or(0, |letter| u32::from(letter.saturating_sub(b'a'))),
    };
    1 + of + if ifname == "eth0" { 0 } else { 100 }
}

/// The environment of a call before the case's own changes.
pub(crate) fn attachment_environment(
    call: &Call,
    profile: &Profile,
    netns: &str,
    search: &str,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("CNI_COMMAND".to_owned(), call.command.clone())]);
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    match call.command.as_str() {
        "VERSION" => {}
        "GC" | "STATUS" => {
            set("CNI_PATH", search.to_owned());
        }
        _ => {
            set("CNI_CONTAINERID", container_id(&call.container));
            set("CNI_NETNS", netns.to_owned());
            set("CNI_IFNAME", call.ifname.clone().unwrap_or_else(|| profile.ifname.clone()));
            set("CNI_PATH", search.to_owned());
        }
    }
    env
}

/// The configuration of a call, with variables still in it.
pub(crate) fn request(call: &Call, profile: &Profile, version: Version, prev_result: Option<Value>) -> Value {
    if call.command == "VERSION" && call.config.is_none() {
        let version = call.version.clone().unwrap_or_else(|| json!(version));
        return if version.is_null() { json!({}) } else { json!({ "cniVersion": version }) };
    }
    let mut config = match &call.config {
        Some(config) => config.clone(),
        None => Value::Object(profile.config.clone()),
    };
    if let Value::Object(object) = &mut config {
        complete(object, call, profile, version);
        if let Some(result) = prev_result {
            object.insert("prevResult".to_owned(), result);
        }
        if let Some(valid) = &call.valid {
            let list =
                valid.as_array().map(|list| list.iter().filter_map(Value::as_str).map(attachment).collect());
            object.insert("cni.dev/valid-attachments".to_owned(), list.unwrap_or(Value::Null));
        }
    }
    if let Some(patch) = &call.with {
        merge(&mut config, patch);
    }
    config
}

/// Puts in what every request configuration has.
fn complete(object: &mut Map<String, Value>, call: &Call, profile: &Profile, version: Version) {
    let mut set = |key: &str, value: Value| {
        object.entry(key).or_insert(value);
    };
    set("name", json!(NETWORK));
    // An IPAM plugin gets the configuration of the plugin that calls it.
    let plugin = call.plugin.as_ref().unwrap_or(&profile.plugin);
    set("type", if profile.kind == Kind::Ipam { json!("conformance") } else { json!(plugin) });
    match &call.version {
        None => set("cniVersion", json!(version)),
        Some(Value::Null) => drop(object.remove("cniVersion")),
        Some(version) => drop(object.insert("cniVersion".to_owned(), version.clone())),
    }
}

fn attachment(name: &str) -> Value {
    let (container, ifname) = name.split_once('/').unwrap_or((name, "eth0"));
    json!({ "containerID": container_id(container), "ifname": ifname })
}

/// Applies a JSON merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() || changes.contains_key("$replace") {
        *target = json!({});
    }
    if let Value::Object(object) = target {
        for (key, change) in changes.iter().filter(|(key, _)| *key != "$replace") {
            if change.is_null() {
                object.remove(key);
            } else {
                merge(object.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_section_3_inserts() {
        let profile = crate::profile::parse(
            "{type: x, kind: interface, config: {keyA: 1, keyB: 2, ipam: {subnet: x}}}",
        )
        .unwrap();
        let mut call = Call::new("ADD");
        call.with = Some(json!({"keyA": null, "ipam": {"$replace": true, "type": "y"}}));
        assert_eq!(
            request(&call, &profile, Version(1, 0, 0), Some(json!({"ips": []}))),
            json!({"cniVersion": "1.0.0", "name": NETWORK, "type": "x", "keyB": 2, "ipam": {"type": "y"},
                "prevResult": {"ips": []}})
        );
        let mut call = Call::new("GC");
        call.version = Some(Value::Null);
        call.valid = Some(json!(["a", "b/net1"]));
        let request = request(&call, &profile, Version(1, 1, 0), None);
        assert_eq!(request.get("cniVersion"), None);
        assert_eq!(
            request["cni.dev/valid-attachments"],
            json!([{"containerID": "conformance-a", "ifname": "eth0"},
                {"containerID": "conformance-b", "ifname": "net1"}])
        );
    }
}
