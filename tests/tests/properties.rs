//! Any bytes at all, at every place where a plugin takes some in: an answer comes, nothing
//! panics, nothing hangs, nothing is written outside of the data folder.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use oxcni_tests::{Call, Host, Outcome, both_flavours};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// A process for each case: enough to find the shallow ones on every run.
const CASES: u32 = 96;

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: oxcni_tests::cases(CASES),
        failure_persistence: None,
        max_shrink_iters: 64,
        ..Config::default()
    })
}

fn base() -> Value {
    json!({ "cniVersion": "1.1.0", "name": "net", "type": "host-local",
        "ipam": { "type": "host-local", "subnet": "10.1.2.0/24", "rangeEnd": "10.1.2.200" } })
}

/// An answer as the specification has it: a result, nothing, or an error object; no panic.
fn answered(outcome: &Outcome) -> Result<(), TestCaseError> {
    use std::os::unix::process::ExitStatusExt as _;
    prop_assert!(outcome.status.signal().is_none(), "{outcome}");
    prop_assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    if !outcome.ok() {
        let object: Value = serde_json::from_str(&outcome.stdout)
            .map_err(|err| TestCaseError::fail(format!("no error object ({err}): {outcome}")))?;
        prop_assert!(object["code"].as_u64().is_some_and(|code| code != 105), "{outcome}");
    }
    Ok(())
}

/// Files and folders outside of the places where host-local may write.
fn files(host: &Host) -> String {
    host.sh("find /run /var/lib \\( -path /var/lib/cni/networks -o -path /run/oxcni -o -path /run/netns -o -path /run/xtables.lock \\) -prune -o -print | sort")
}

/// JSON of any shape, with the keys of a configuration more often than others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        prop_oneof![
            "10\\.1\\.2\\.[0-9]{1,3}(/[0-9]{1,3})?",
            "fd00::[0-9a-f]{0,4}(/[0-9]{1,3})?",
            "(\\.\\./){1,4}[a-z]{1,4}",
            "\\PC{0,6}"
        ]
        .prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "cniVersion",
            "name",
            "type",
            "ipam",
            "subnet",
            "ranges",
            "rangeStart",
            "rangeEnd",
            "gateway",
            "routes",
            "dst",
            "gw",
            "dataDir",
            "resolvConf",
            "args",
            "cni",
            "ips",
            "runtimeConfig",
            "ipRanges",
            "prevResult",
            "dns",
            "addresses",
            "address",
            "bridge",
            "vlan",
            "vlanTrunk",
            "mtu",
            "mac",
            "interfaces",
            "cni.dev/valid-attachments",
        ])
        .prop_map(str::to_owned),
        "[a-z]{0,5}",
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

/// A good configuration with one of its keys, or a new one, replaced by anything.
fn spoiled() -> impl Strategy<Value = Value> {
    let places = vec![
        "/cniVersion",
        "/name",
        "/type",
        "/ipam",
        "/ipam/type",
        "/ipam/subnet",
        "/ipam/rangeEnd",
        "/ipam/rangeStart",
        "/ipam/gateway",
        "/ipam/ranges",
        "/ipam/routes",
        "/ipam/dataDir",
        "/ipam/resolvConf",
        "/args",
        "/runtimeConfig",
        "/dns",
        "/prevResult",
        "/bridge",
        "/vlan",
        "/mtu",
        "/cni.dev~1valid-attachments",
    ];
    (prop::sample::select(places), any_json()).prop_map(|(place, value)| {
        let mut config = base();
        let (parent, key) = place.rsplit_once('/').expect("a pointer");
        if let Some(parent) = config.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.insert(key.replace("~1", "/"), value);
        }
        config
    })
}

fn call<'h>(host: &'h Host, plugin: &str, command: &str, netns: &str) -> Call<'h> {
    Call::new(host, plugin)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
}

/// A data folder that the configuration places elsewhere was requested so, and is not tried here.
fn leads_elsewhere(config: &Value) -> bool {
    config["ipam"]["dataDir"].is_string()
}

both_flavours! {
    fn any_bytes_as_configuration(host) {
        let before = files(&host);
        let pod = host.container();
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            any_json().prop_map(|value| value.to_string().into_bytes()),
            (any_json(), any::<prop::sample::Index>()).prop_map(|(value, cut)| {
                let mut bytes = value.to_string().into_bytes();
                bytes.truncate(cut.index(bytes.len().max(1)));
                bytes
            }),
        ];
        let commands = prop::sample::select(vec!["ADD", "DEL", "CHECK", "GC", "STATUS"]);
        let plugins = prop::sample::select(vec!["bridge", "host-local", "static", "loopback"]);
        runner().run(&(bytes, commands, plugins), |(bytes, command, plugin)| {
            answered(&call(&host, plugin, command, pod.netns()).stdin(bytes).run())
        }).expect("every configuration is answered");
        assert_eq!(files(&host), before);
        assert!(host.links().iter().all(|link| !link.contains('/')));
    }

    fn spoiled_configurations(host) {
        let before = files(&host);
        let pod = host.container();
        let plugins = prop::sample::select(vec!["bridge", "host-local", "static", "loopback"]);
        runner().run(&(spoiled(), plugins), |(config, plugin)| {
            prop_assume!(!leads_elsewhere(&config));
            for command in ["ADD", "CHECK", "DEL", "GC"] {
                answered(&call(&host, plugin, command, pod.netns()).config(&config).run())?;
            }
            Ok(())
        }).expect("every configuration is answered");
        assert_eq!(files(&host), before);
    }

    fn any_text_as_cni_args(host) {
        let pod = host.container();
        let args = prop_oneof!["\\PC{0,30}", "((IP|MAC|GATEWAY|IgnoreUnknown|K8S)=[0-9a-f:./]{0,18};?){0,4}"];
        runner().run(&args, |args| {
            prop_assume!(!args.contains('\0'));
            for plugin in ["host-local", "static", "bridge"] {
                let add = call(&host, plugin, "ADD", pod.netns()).config(&base()).env("CNI_ARGS", &args).run();
                answered(&add)?;
                answered(&call(&host, plugin, "DEL", pod.netns()).config(&base()).run())?;
            }
            Ok(())
        }).expect("every CNI_ARGS is answered");
        assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
    }

    fn any_prev_result(host) {
        let pod = host.container();
        let net = host.network(json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-prop",
            "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } }));
        let result = net.add(&pod).result();
        let places = prop::sample::select(vec!["", "/cniVersion", "/interfaces", "/interfaces/2", "/ips", "/ips/0", "/ips/0/address", "/ips/0/interface", "/routes", "/dns"]);
        runner().run(&(places, any_json()), |(place, value)| {
            let mut wrong = result.clone();
            match wrong.pointer_mut(place) {
                Some(part) => *part = value,
                None => wrong = value,
            }
            answered(&net.check(&pod, &wrong))?;
            // A DEL must not be led astray either; the attachment is put back for the next case.
            let del = net.del_after(&pod, &wrong);
            answered(&del)?;
            if del.ok() {
                net.add(&pod).succeeds();
            }
            Ok(())
        }).expect("every prevResult is answered");
    }

    fn any_bytes_as_reservation(host) {
        let before = files(&host);
        let pod = host.container();
        let folder = "/var/lib/cni/networks/net";
        host.sh(&format!("mkdir -p {folder}"));
        let names = prop_oneof![
            "10\\.1\\.2\\.[0-9]{1,3}", "last_reserved_ip\\.[0-9]{1,2}", "fd00::[0-9a-f]{1,4}", "[!-.0-~]{1,20}",
            prop::collection::vec(any::<u8>().prop_filter("in a name", |byte| ![0, b'/'].contains(byte)), 1..20)
                .prop_map(|bytes| OsString::from_vec(bytes).to_string_lossy().into_owned()),
        ];
        let content = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            Just(b"c1\r\neth0".to_vec()), Just(b"c1".to_vec()), Just(vec![]), Just(vec![b'x'; 100_000]),
        ];
        runner().run(&(names, content), |(name, content)| {
            prop_assume!(![".", "..", "lock"].contains(&name.as_str()));
            let file = host.path(folder).join(&name);
            prop_assume!(std::fs::write(&file, content).is_ok());
            for command in ["ADD", "CHECK", "DEL", "GC"] {
                let net = host.network(base()).with("cni.dev/valid-attachments", json!([]));
                let call = call(&host, "host-local", command, pod.netns()).config(net.config());
                answered(&call.run())?;
            }
            drop(std::fs::remove_file(&file));
            Ok(())
        }).expect("every reservation is answered");
        assert_eq!(files(&host), before);
    }
}
