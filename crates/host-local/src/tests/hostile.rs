//! Any bytes as input and in files: a result or an error, and no file outside the data folder.

use std::fs;

use cni_core::spec::{CniArgs, NetConf};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::Fixture;
use crate::config::Config;

fn whole() -> Value {
    json!({
        "ranges": [[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10", "gateway": "10.1.2.1"}], [{"subnet": "fd00::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "reclaimAfterReboot": true,
    })
}

fn run_all(fixture: &Fixture, request: &cni_core::request::Request) {
    let node = &fixture.node;
    let _ = crate::add(node, request);
    let _ = crate::check(node, request);
    let _ = crate::status(node, request);
    let _ = crate::del(node, request);
    let _ = crate::gc(node, request);
}

/// A name in a data folder: of a reservation, of another file of host-local, or any.
fn file_name() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u8..=255).prop_map(|n| format!("10.1.2.{n}")),
        (0u8..20).prop_map(|n| format!("fd00::{n:x}")),
        Just("last_reserved_ip.0".to_owned()),
        Just("last_reserved_ip.1".to_owned()),
        Just("lock".to_owned()),
        "[^/\0]{1,40}".prop_filter("not a folder", |name| name != "." && name != ".."),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_files_in_the_folder(files in vec((file_name(), vec(any::<u8>(), 0..80)), 0..12), id in "[a-z0-9]{1,3}") {
        let fixture = Fixture::new();
        let mut conf = fixture.conf(whole());
        fs::create_dir_all(fixture.folder()).unwrap();
        for (name, contents) in &files {
            fs::write(fixture.folder().join(name), contents).unwrap();
        }
        conf["cni.dev/valid-attachments"] = json!([]);
        let beside = || fs::read_dir(fixture.data_dir()).unwrap().count();
        let added = fixture.add(&conf, &id);
        if let Ok(result) = added {
            for ip in &result.ips {
                prop_assert!(fixture.reservations().contains(&ip.address.ip().to_string()));
            }
        }
        run_all(&fixture, &fixture.request(&conf, &id, ""));
        prop_assert_eq!(beside(), 1);
    }

    #[test]
    fn any_bytes_as_a_file_of_the_index(bytes in vec(any::<u8>(), 0..9000), file in 0usize..2, at in any::<usize>(), kept in any::<bool>()) {
        let fixture = Fixture::new();
        let conf = fixture.conf(whole());
        fixture.add(&conf, "c1").unwrap();
        let path = &fixture.index()[file];
        let mut bytes = bytes;
        if kept && !bytes.is_empty() {
            // The same but for one byte.
            let byte = bytes[0];
            bytes = fs::read(path).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        fs::write(path, bytes).unwrap();
        fixture.check(&conf, "c1").unwrap();
        prop_assert!(fixture.add(&conf, "c1").is_err());
        fixture.del(&conf, "c1");
        prop_assert!(fixture.reservations().is_empty());
    }

    #[test]
    fn any_member_of_the_configuration(key in 0usize..11, text in "[-0-9a-f:./\"{}\\[\\],]{0,40}", string in ".{0,40}", args in ".{0,40}") {
        let fixture = Fixture::new();
        let mut conf = fixture.conf(whole());
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::String(string));
        match key {
            0 => conf["runtimeConfig"] = value,
            1 => conf["runtimeConfig"] = json!({"ips": [value]}),
            2 => conf["runtimeConfig"] = json!({"ipRanges": [[{"subnet": value}]]}),
            3 => conf["args"] = json!({"cni": {"ips": [value]}}),
            4 => conf["prevResult"] = json!({"ips": [{"address": value}]}),
            5 => conf["prevResult"] = value,
            6 => conf["ipam"]["routes"] = json!([{"dst": value}]),
            7 => conf["ipam"]["resolvConf"] = value,
            8 => conf["ipam"]["ranges"] = value,
            9 => conf["ipam"]["ranges"][0][0]["rangeEnd"] = value,
            _ => conf["ipam"]["reclaimAfterReboot"] = value,
        }
        conf["cni.dev/valid-attachments"] = json!([]);
        let args = if CniArgs::parse(&args).is_ok() { args } else { String::new() };
        run_all(&fixture, &fixture.request(&conf, "c1", &args));
        prop_assert!(fixture.reservations().is_empty());
        prop_assert!(!fixture.data_dir().exists() || fs::read_dir(fixture.data_dir()).unwrap().count() == 1);
    }

    #[test]
    fn any_cut_and_twist_of_the_configuration(cut in 0usize..500, byte in any::<u8>(), put in any::<bool>()) {
        let fixture = Fixture::new();
        let mut text = fixture.conf(whole()).to_string().into_bytes();
        let at = cut.min(text.len());
        if put { text.insert(at, byte) } else { text.truncate(at) }
        if let Ok(conf) = NetConf::parse(&text) {
            let base = fixture.request(&fixture.conf(whole()), "c1", "");
            let request = cni_core::request::Request { conf, text, ..base };
            // The folder may have become any other: only what does not touch it is run.
            let _ = Config::parse(&request);
            let _ = crate::config::folder(&request);
        }
    }

    #[test]
    fn no_network_name_and_no_address_leaves_the_data_dir(name in ".{0,40}") {
        let fixture = Fixture::new();
        let mut conf = fixture.conf(whole());
        conf["name"] = name.into();
        if let Ok(parsed) = NetConf::parse(conf.to_string().as_bytes()) {
            let request = cni_core::request::Request { conf: parsed, ..fixture.request(&fixture.conf(whole()), "c1", "") };
            let folder = crate::config::folder(&request).unwrap();
            prop_assert_eq!(folder.parent().unwrap(), fixture.data_dir());
        }
    }
}
