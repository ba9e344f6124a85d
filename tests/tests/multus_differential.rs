//! Generated pods and definitions to Go's multus and to ours: the result, the status, the calls that
//! delegates see and the caches are the same.
//!
//! No distribution has a Go multus, so this runs where `OXCNI_RECORD_FROM` names a folder with one:
//! `cargo xtask differential --go DIR multus`. The number of cases and the seed are those of the other
//! comparisons.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oxcni_tests::apiserver::Role;
use oxcni_tests::{Node, Plugins};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

/// What the scripts that play plugins report: interfaces, and what else a result has.
const RESULTS: [(&str, &str); 6] = [
    (
        "one",
        r#""interfaces": [{ "name": "$CNI_IFNAME", "mac": "02:00:00:00:00:01", "sandbox": "$CNI_NETNS" }],
       "ips": [{ $family "interface": 0, "address": "10.9.0.1/24", "gateway": "10.9.0.254" }]"#,
    ),
    (
        "veth",
        r#""interfaces": [{ "name": "br0" }, { "name": "veth1", "mac": "02:00:00:00:00:02" }, { "name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS" }],
       "ips": [{ $family "interface": 2, "address": "10.9.0.2/24" }],
       "routes": [{ "dst": "0.0.0.0/0", "gw": "10.9.0.254" }, { "dst": "10.0.0.0/8" }], "dns": { "nameservers": ["10.0.0.53"], "search": ["x.test"] }"#,
    ),
    (
        "two",
        r#""interfaces": [{ "name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS" }, { "name": "more0", "sandbox": "$CNI_NETNS" }],
       "ips": [{ $family "address": "10.9.0.3/24" }, { $family "interface": 0, "address": "10.9.1.3/24", "gateway": "10.9.1.254" }]"#,
    ),
    ("host", r#""interfaces": [{ "name": "host0" }], "ips": [{ $family "address": "10.9.0.4/24" }]"#),
    ("bare", r#""ips": [{ $family "address": "10.9.0.5/24" }]"#),
    ("empty", r#""dns": {}"#),
];

/// The configuration of a network.
#[derive(Clone, Debug)]
struct Net {
    plugins: Vec<usize>,
    is_list: bool,
    has_name: bool,
    version: Option<&'static str>,
    extra: Vec<usize>,
}

/// Keys that a configuration has besides.
const EXTRA: [(&str, &str); 6] = [
    (
        "capabilities",
        r#"{"ips":true,"mac":true,"portMappings":true,"bandwidth":true,"deviceID":true,"infinibandGUID":true}"#,
    ),
    ("capabilities", r#"{"ips":true,"mac":false}"#),
    ("args", r#"{"cni":{"of":"definition","both":1},"x":2}"#),
    ("ipam", r#"{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/8"}]]}"#),
    ("dns", r#"{"nameservers":["10.0.0.1"]}"#),
    ("runtimeConfig", r#"{"mac":"02:00:00:00:00:aa"}"#),
];

/// Keys that a pod asks for a network with.
const REQUESTED: [(&str, &str); 8] = [
    ("interface", r#""ask0""#),
    ("ips", r#"["10.9.9.9/24"]"#),
    ("mac", r#""02:00:00:00:00:bb""#),
    ("portMappings", r#"[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]"#),
    ("bandwidth", r#"{"ingressRate":1000,"ingressBurst":2000,"egressRate":3000,"egressBurst":4000}"#),
    ("cni-args", r#"{"of":"pod","both":2}"#),
    ("deviceID", r#""0000:03:02.1""#),
    ("infiniband-guid", r#""c2:11:22:33:44:55:66:77""#),
];

#[derive(Clone, Debug)]
struct Case {
    default: Net,
    second: Option<Net>,
    selected: Vec<(Net, Vec<usize>)>,
    is_short: bool,
    /// `default-network` of the pod.
    replaced: Option<Net>,
    runtime_config: bool,
}

fn net(in_definition: bool) -> impl Strategy<Value = Net> {
    let versions = [Some("0.3.1"), Some("0.4.0"), Some("1.0.0"), Some("1.0.0"), None];
    let count = if in_definition { versions.len() } else { 4 };
    let plugins = prop::collection::vec(0..RESULTS.len(), 1..3);
    let extra = prop::collection::vec(0..EXTRA.len(), 0..3);
    (plugins, any::<bool>(), any::<bool>(), 0..count, extra).prop_map(
        move |(plugins, is_list, has_name, version, extra)| Net {
            is_list: is_list || plugins.len() > 1,
            has_name: has_name || !in_definition,
            version: versions[version],
            plugins,
            extra,
        },
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let requested = prop::collection::vec(0..REQUESTED.len(), 0..4);
    let selected = prop::collection::vec((net(true), requested), 0..4);
    (
        net(false),
        prop::option::weighted(0.2, net(false)),
        selected,
        any::<bool>(),
        prop::option::weighted(0.1, net(true)),
        any::<bool>(),
    )
        .prop_map(|(default, second, selected, is_short, replaced, runtime_config)| Case {
            default,
            second,
            selected,
            is_short,
            replaced,
            runtime_config,
        })
}

impl Net {
    fn json(&self, name: &str) -> Value {
        let mut config = Map::new();
        if self.has_name {
            config.insert("name".into(), json!(name));
        }
        config.extend(self.version.map(|version| ("cniVersion".to_owned(), json!(version))));
        let plugin = |number: &usize| {
            let mut plugin = Map::from_iter([("type".to_owned(), json!(RESULTS[*number].0))]);
            for (key, value) in self.extra.iter().map(|extra| EXTRA[*extra]) {
                plugin.insert(key.to_owned(), serde_json::from_str(value).expect("JSON"));
            }
            plugin
        };
        if self.is_list {
            config.insert("plugins".into(), self.plugins.iter().map(plugin).collect());
        } else {
            config.extend(plugin(&self.plugins[0]));
        }
        config.into()
    }
}

/// A node with the objects of a case; everything that has a number or a name has the same on each.
fn node_of(case: &Case) -> (Node, Value) {
    let mut node = Node::new(Plugins::Multicall);
    node.give_role(Role::Upstream);
    for (name, result) in RESULTS {
        node.script(
            name,
            &format!(
                r#"echo "$CNI_COMMAND $CNI_IFNAME $CNI_ARGS $config" >> /run/seen
if [ $CNI_COMMAND = ADD ]; then
version=$(printf '%s' "$config" | grep -o '"cniVersion": *"[^"]*"' | head -n 1)
case $version in *'"0.'*) family='"version":"4",' ;; *) family= ;; esac
cat << END
{{ $version, {result} }}
END
exit 0
fi"#
            ),
        );
    }
    let mut delegates = vec![case.default.json("default-net")];
    delegates.extend(case.second.as_ref().map(|second| second.json("second-net")));
    node.configure("delegates", delegates.into());
    if case.runtime_config {
        node.configure("capabilities", json!({ "portMappings": true, "ips": true, "mac": true }));
        node.configure(
            "runtimeConfig",
            json!({ "portMappings": [{ "hostPort": 1, "containerPort": 2, "protocol": "udp" }] }),
        );
    }
    let mut names = Vec::new();
    for (number, (net, requested)) in case.selected.iter().enumerate() {
        let name = format!("net-{number}");
        node.definition(&name, &net.json(&format!("of-{name}")));
        let mut entry = Map::from_iter([("name".to_owned(), json!(name))]);
        for (key, value) in requested.iter().map(|key| REQUESTED[*key]) {
            let value = value.replace("ask0", &format!("ask{number}"));
            entry.insert(key.to_owned(), serde_json::from_str(&value).expect("JSON"));
        }
        names.push((name, Value::from(entry)));
    }
    let mut annotations = Map::new();
    if !names.is_empty() {
        let text = if case.is_short {
            names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
        } else {
            Value::from_iter(names.iter().map(|(_, entry)| entry.clone())).to_string()
        };
        annotations.insert("k8s.v1.cni.cncf.io/networks".into(), text.into());
    }
    if let Some(net) = &case.replaced {
        node.definition("kube-system/replaced", &net.json("of-replaced"));
        annotations.insert("v1.multus-cni.io/default-network".into(), "replaced".into());
    }
    (node, annotations.into())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// The calls so far: command, interface, arguments and configuration.
fn calls(node: &Node) -> Vec<Value> {
    let seen = node.read("/run/seen");
    node.host.sh("rm -f /run/seen");
    let calls = seen.lines().filter(|line| !line.starts_with("VERSION")).map(|line| {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_default();
        let (command, ifname, args, config) = (next(), next(), next(), next());
        let args: BTreeMap<&str, &str> = args.split(';').filter_map(|arg| arg.split_once('=')).collect();
        json!({ "command": command, "ifname": ifname, "args": args, "config": parsed(config) })
    });
    calls.collect()
}

/// The files of the caches.
fn files(node: &Node) -> BTreeMap<String, Value> {
    let found = node.host.sh("cd /var/lib/cni/multus 2>/dev/null && find . -type f | sort || true");
    let read = |path: &str| parsed(&node.read(&format!("/var/lib/cni/multus/{path}")));
    found.lines().map(|path| (path.to_owned(), read(path))).collect()
}

fn observe(case: &Case, multus: Option<&PathBuf>) -> Value {
    let (node, annotations) = node_of(case);
    let pod = node.annotated_pod("default", "p", &annotations);
    let call = |command: &str| {
        let call = pod.call(command);
        match multus {
            Some(program) => call.program(program),
            None => call,
        }
    };
    let add = call("ADD").run();
    let after_add = json!({
        "ok": add.ok(),
        "result": add.ok().then(|| parsed(&add.stdout)),
        "status": pod.status_text(),
        "calls": calls(&node),
        "caches": files(&node),
    });
    let del = call("DEL").run();
    let after_del = json!({ "ok": del.ok(), "calls": calls(&node), "caches": files(&node) });
    let mut observed = json!({ "add": after_add, "del": after_del, "said": add.to_string() });
    normalize(&mut observed);
    observed
}

/// What may differ, each with its reason.
fn normalize(observed: &mut Value) {
    if observed["add"]["ok"] == false {
        // The texts of errors differ; a chain that failed is taken down by all its plugins.
        *observed = json!({ "add": { "ok": false }, "del": { "ok": observed["del"]["ok"] }, "said": observed["said"] });
        return;
    }
    // Multus returns the default network's result in that network's version; the specification wants the version
    // of multus' configuration.
    observed["add"]["result"] = without_version(&observed["add"]["result"]);
    let versionless: Vec<Value> =
        observed["add"]["calls"].as_array_mut().into_iter().flatten().filter_map(versionless).collect();
    for call in observed["del"]["calls"].as_array_mut().into_iter().flatten() {
        // Go calls the plugins of a list without a version in that of multus at DEL, without the keys that it does
        // not know; ours are called as at ADD.
        if versionless.contains(&call["ifname"]) {
            call["config"] = Value::Null;
        }
    }
    for step in ["add", "del"] {
        for call in observed[step]["calls"].as_array_mut().into_iter().flatten() {
            normalize_call(call, step);
        }
        let Some(caches) = observed[step]["caches"].as_object_mut() else { continue };
        // A count of events, which Go does not keep.
        caches.retain(|path, _| !path.starts_with("./events"));
        for cached in caches.values_mut() {
            normalize_cache(cached);
        }
    }
}

fn with_version(mut config: Value) -> Value {
    if config["cniVersion"].is_null() {
        config["cniVersion"] = json!("0.1.0");
    }
    config
}

fn without_version(result: &Value) -> Value {
    let mut result = result.clone();
    if let Some(keys) = result.as_object_mut() {
        keys.remove("cniVersion");
        keys.retain(|key, value| key != "dns" || *value != json!({}));
    }
    for ip in result["ips"].as_array_mut().into_iter().flatten() {
        ip.as_object_mut().map(|keys| keys.remove("version"));
    }
    result
}

/// The interface of a call whose configuration has no version. Go passes that on, ours say what it means.
fn versionless(call: &mut Value) -> Option<Value> {
    let config = call["config"].as_object_mut()?;
    let version = config.get("cniVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !["", "0.1.0"].contains(&version.as_str()) {
        return None;
    }
    config.remove("cniVersion");
    Some(call["ifname"].clone())
}

fn normalize_call(call: &mut Value, step: &str) {
    // "true" or "1"; and the address that is asked for, which Go leaves out at DEL.
    let left_out: &[&str] = if step == "del" { &["IgnoreUnknown", "IP", "MAC"] } else { &["IgnoreUnknown"] };
    if let Some(args) = call["args"].as_object_mut() {
        args.retain(|key, _| !left_out.contains(&key.as_str()));
    }
    if let Some(config) = call["config"].as_object_mut() {
        // The specification wants them removed; libcni leaves them.
        config.remove("capabilities");
        // Go's cache doesn't have these requests of a pod, so that its DEL goes without.
        if let Some(offered) =
            config.get_mut("runtimeConfig").and_then(Value::as_object_mut).filter(|_| step == "del")
        {
            offered.retain(|key, _| !["bandwidth", "portMappings"].contains(&key.as_str()));
            if offered.is_empty() {
                config.remove("runtimeConfig");
            }
        }
    }
}

fn normalize_cache(cached: &mut Value) {
    let decode = |value: &Value| value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let decoded = |value: &Value| decode(value).map(|bytes| parsed(&String::from_utf8_lossy(&bytes)));
    if let Some(delegates) = cached.as_array_mut() {
        for delegate in delegates {
            if let Some(bytes) = decoded(&delegate["Bytes"]) {
                delegate["Bytes"] = with_version(bytes);
            }
            let Some(keys) = delegate.as_object_mut() else { continue };
            // Go repeats the configuration here, with its own types; both read Bytes. The network is ours.
            keys.retain(|key, _| {
                !["CNINetworkConfigList", "Conf", "ConfList", "multusNetwork"].contains(&key.as_str())
            });
        }
    } else if let Some(config) = decoded(&cached["config"]) {
        // Go has the arguments of the runtime twice.
        let args = cached["cniArgs"].as_array().cloned().unwrap_or_default();
        let args = args.iter().filter_map(|arg| Some((arg[0].as_str()?.to_owned(), arg[1].clone())));
        cached["cniArgs"] = args.filter(|(key, _)| key != "IgnoreUnknown").collect::<Map<_, _>>().into();
        cached["config"] = with_version(config);
        if let Some(keys) = cached.as_object_mut() {
            // The network that a result is of, which GC needs; unknown keys are ignored by libcni.
            keys.retain(|key, _| !key.starts_with("oxcni") && key != "multusNetwork");
        }
    }
}

/// The first places where two values differ.
fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys.into_iter().filter(|key| *key != "said") {
                let at = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(json!("(absent)"));
                differences(&format!("{path}.{key}"), &at(a), &at(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (number, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{number}]"), a, b, found);
            }
        }
        _ if theirs == ours => {}
        _ => found.push(format!("{path}: Go {theirs}, ours {ours}")),
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn multus_is_that_of_go() {
    let folder = std::env::var_os("OXCNI_RECORD_FROM").map(PathBuf::from);
    let Some(go) = folder.map(|folder| folder.join("multus")).filter(|program| program.exists()) else {
        println!("skipped: OXCNI_RECORD_FROM names no folder with a Go multus");
        return;
    };
    let cases_wanted = u32::try_from(number("OXCNI_DIFFERENTIAL_CASES", 30)).expect("a count");
    let seed = number("OXCNI_DIFFERENTIAL_SEED", 1);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: cases_wanted, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let collect = std::env::var_os("OXCNI_DIFFERENTIAL_ALL").is_some();
    let (tried, succeeded) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let outcome = runner.run(&cases(), |case| {
        let (theirs, ours) = (observe(&case, Some(&go)), observe(&case, None));
        tried.set(tried.get() + 1);
        succeeded.set(succeeded.get() + u32::from(theirs["add"]["ok"] == true));
        let mut found = Vec::new();
        differences("", &theirs, &ours, &mut found);
        if collect {
            if !found.is_empty() {
                let wrong = |observed: &Value| observed["add"]["ok"] == false;
                let said = if wrong(&theirs) != wrong(&ours) {
                    format!("Go: {}\nours: {}", theirs["said"], ours["said"])
                } else {
                    found.join("\n")
                };
                println!("{case:?}\n{said}\n");
            }
            return Ok(());
        }
        let said = |observed: &Value| observed["said"].as_str().unwrap_or_default().to_owned();
        prop_assert!(found.is_empty(), "{}\nGo: {}\nours: {}", found.join("\n"), said(&theirs), said(&ours));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("seed {seed}: {failure}");
    }
    println!("multus, seed {seed}: {} cases, of which {} succeed in Go", tried.get(), succeeded.get());
    assert!(
        succeeded.get() * 2 >= tried.get(),
        "only {} of {} cases succeed in Go",
        succeeded.get(),
        tried.get()
    );
}
