//! The commands, on folders of their own.

mod fixture;
mod hostile;
mod model;
mod reclaim;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use cni_core::fs::Folder;
use cni_core::spec::Code;
use fixture::{Fixture, addresses};
use serde_json::json;

fn small() -> serde_json::Value {
    json!({"subnet": "10.1.2.0/29"})
}

#[test]
fn an_attachment_gets_an_address_a_gateway_and_routes() {
    let fixture = Fixture::new();
    let conf = fixture.conf(json!({
        "ranges": [[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10"}], [{"subnet": "fd00::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.2.9"}],
    }));
    let result = fixture.add(&conf, "c1").unwrap();
    assert_eq!(addresses(&result), ["10.1.2.10/24", "fd00::2/64"]);
    let gateways: Vec<_> = result.ips.iter().map(|ip| ip.gateway.unwrap().to_string()).collect();
    assert_eq!(gateways, ["10.1.2.1", "fd00::1"]);
    assert_eq!(result.routes.len(), 2);
    assert_eq!(fixture.reservations(), ["10.1.2.10", "fd00::2"]);
}

#[test]
fn the_files_are_those_of_the_go_plugin() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    let file = fixture.folder().join("10.1.2.2");
    assert_eq!(std::fs::read(&file).unwrap(), b"c1\r\neth0");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::metadata(fixture.folder()).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(std::fs::read(fixture.folder().join("last_reserved_ip.0")).unwrap(), b"10.1.2.2");
    let mut names: Vec<_> =
        std::fs::read_dir(fixture.folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["10.1.2.2", "last_reserved_ip.0", "lock"]);
}

#[test]
fn addresses_are_allocated_in_turn() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    for turn in 0..7 {
        let result = fixture.add(&conf, "c1").unwrap();
        fixture.del(&conf, "c1");
        assert_eq!(addresses(&result), [format!("10.1.2.{}/29", 2 + turn % 5)]);
    }
    assert!(fixture.reservations().is_empty());
}

#[test]
fn a_set_of_several_ranges_is_used_up_range_by_range() {
    let fixture = Fixture::new();
    let conf = fixture.conf(json!({"ranges": [[{"subnet": "10.1.2.0/30"}, {"subnet": "10.1.3.0/30"}, {"subnet": "10.1.4.0/30"}]]}));
    let mut given = Vec::new();
    for i in 0..3 {
        given.extend(addresses(&fixture.add(&conf, &format!("c{i}")).unwrap()));
    }
    assert_eq!(given, ["10.1.2.2/30", "10.1.3.2/30", "10.1.4.2/30"]);
    assert_eq!(fixture.add(&conf, "c3").unwrap_err().code(), Code::EXHAUSTED);
    fixture.del(&conf, "c1");
    assert_eq!(addresses(&fixture.add(&conf, "c3").unwrap()), ["10.1.3.2/30"]);
}

#[test]
fn the_error_of_an_exhausted_range_has_its_size_and_the_holders() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    for i in 0..5 {
        fixture.add(&conf, &format!("c{i}")).unwrap();
    }
    let err = fixture.add(&conf, "c5").unwrap_err();
    assert_eq!(err.code(), Code::EXHAUSTED);
    assert!(err.msg().contains("no IP addresses available in range set: 10.1.2.1-10.1.2.6"), "{err}");
    assert!(err.to_string().contains("5 addresses to allocate, 5 are held by 5 containers; GC"), "{err}");
    assert_eq!(fixture.status(&conf).unwrap_err().code(), Code::EXHAUSTED);
    fixture.gc(&conf, &["c1", "c3"]).unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.3", "10.1.2.5"]);
    fixture.status(&conf).unwrap();
}

#[test]
fn a_removed_file_is_found_before_a_range_is_reported_exhausted() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    for i in 0..5 {
        fixture.add(&conf, &format!("c{i}")).unwrap();
    }
    // As when it was removed during a call.
    unnoticed(&fixture, || std::fs::remove_file(fixture.folder().join("10.1.2.4")).unwrap());
    fixture.status(&conf).unwrap();
    assert_eq!(addresses(&fixture.add(&conf, "c5").unwrap()), ["10.1.2.4/29"]);
}

#[test]
fn the_address_of_one_set_is_released_when_another_is_exhausted() {
    let fixture = Fixture::new();
    let conf = fixture.conf(
        json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/126", "rangeEnd": "fd00::2"}]]}),
    );
    fixture.add(&conf, "c1").unwrap();
    let err = fixture.add(&conf, "c2").unwrap_err();
    assert!(err.msg().starts_with("range set 1: "), "{err}");
    assert_eq!(fixture.reservations(), ["10.1.2.2", "fd00::2"]);
}

#[test]
fn requested_addresses_come_from_three_places_and_add_up() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(json!({"ranges": [
        [{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}], [{"subnet": "10.1.3.0/24"}]]}));
    conf["args"] = json!({"cni": {"ips": ["fd00::77"]}});
    conf["runtimeConfig"] = json!({"ips": ["10.1.3.9/24"]});
    let result = fixture.add_with(&conf, "c1", "IP=10.1.2.50/16;K8S=1;IgnoreUnknown=1").unwrap();
    assert_eq!(addresses(&result), ["10.1.2.50/24", "fd00::77/64", "10.1.3.9/24"]);
}

#[test]
fn ranges_of_the_runtime_come_first_and_the_older_form_before_the_newer() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(json!({"subnet": "10.1.2.0/24", "ranges": [[{"subnet": "10.1.3.0/24"}]]}));
    conf["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.1.1.0/24"}]]});
    let result = fixture.add(&conf, "c1").unwrap();
    assert_eq!(addresses(&result), ["10.1.1.2/24", "10.1.2.2/24", "10.1.3.2/24"]);
}

#[test]
fn a_request_that_cannot_be_met_reserves_nothing() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add_with(&conf, "c1", "IP=10.1.2.3").unwrap();
    for (args, code, message) in [
        ("IP=10.9.9.9", Code::INVALID_CONFIG, "10.9.9.9 is outside every range"),
        ("IP=fd00::9", Code::INVALID_CONFIG, "no IPv6 range"),
        ("IP=10.1.2.1", Code::INVALID_CONFIG, "10.1.2.1 is the gateway"),
        ("IP=10.1.2.3", Code::EXHAUSTED, "container c1 (eth0) holds it"),
        ("IP=ten", Code::INVALID_ENVIRONMENT, "\"ten\" is not an IP address"),
        ("MAC=x", Code::INVALID_ENVIRONMENT, "MAC"),
    ] {
        let err = fixture.add_with(&conf, "c2", args).unwrap_err();
        assert_eq!(err.code(), code, "{args}: {err}");
        assert!(err.to_string().contains(message), "{args}: {err}");
        assert_eq!(fixture.reservations(), ["10.1.2.3"]);
    }
}

#[test]
fn an_attachment_is_added_once() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    let err = fixture.add(&conf, "c1").unwrap_err();
    assert!(err.msg().contains("10.1.2.2 has been allocated to container c1"), "{err}");
    fixture.go_reserves("10.1.2.5", "old");
    assert!(fixture.add(&conf, "old").is_err());
}

#[test]
fn a_wrong_value_has_the_code_of_an_invalid_configuration() {
    let fixture = Fixture::new();
    for (ipam, message) in [
        (json!({}), "no IP ranges"),
        (json!({"ranges": []}), "no IP ranges"),
        (json!({"ranges": [[]]}), "empty"),
        (json!({"ranges": [{"subnet": "10.0.0.0/8"}]}), "line 1, column"),
        (
            json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.5"}),
            "10.1.2.9 is after rangeEnd 10.1.2.5",
        ),
        (json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.0.0/16"}]]}), "overlap"),
        (json!({"subnet": "10.1.2.0/24", "routes": [{"dst": "nowhere"}]}), "nowhere"),
        (json!({"subnet": "10.1.2.0/24", "resolvConf": "/nonexistent"}), "/nonexistent"),
    ] {
        let err = fixture.add(&fixture.conf(ipam.clone()), "c1").unwrap_err();
        assert!([Code::INVALID_CONFIG, Code::IO].contains(&err.code()), "{ipam}: {err}");
        assert!(err.to_string().contains(message), "{ipam}: {err}");
    }
    assert!(!fixture.data_dir().exists());
    let many: Vec<_> =
        (0..2000).map(|i| json!([{"subnet": format!("10.{}.{}.0/24", i / 256, i % 256)}])).collect();
    assert!(
        fixture.add(&fixture.conf(json!({"ranges": many})), "c1").unwrap_err().msg().contains("2000 ranges")
    );
}

#[test]
fn old_versions_have_one_address_of_each_family() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}], [{"subnet": "fd00::/64"}]]}));
    conf["cniVersion"] = "0.2.0".into();
    let err = fixture.add(&conf, "c1").unwrap_err();
    assert_eq!(err.code(), Code::INVALID_CONFIG);
    conf["ipam"]["ranges"].as_array_mut().unwrap().remove(0);
    fixture.add(&conf, "c1").unwrap();
}

#[test]
fn del_releases_what_go_reserved_and_nothing_of_others() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.go_reserves("10.1.2.2", "c1\r\neth0");
    fixture.go_reserves("10.1.2.3", "c1\r\nnet1");
    fixture.go_reserves("10.1.2.4", "c2\r\neth0");
    fixture.go_reserves("10.1.2.5", "c1");
    fixture.go_reserves("10.1.2.6", "c11");
    fixture.del(&conf, "c1");
    assert_eq!(fixture.reservations(), ["10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]);
    fixture.del(&conf, "c1");
    assert_eq!(fixture.reservations(), ["10.1.2.3", "10.1.2.4", "10.1.2.6"]);
    fixture.del(&conf, "c1");
    assert_eq!(fixture.reservations(), ["10.1.2.3", "10.1.2.4", "10.1.2.6"]);
}

#[test]
fn del_needs_no_folder_and_no_valid_ranges() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.del(&conf, "c1");
    assert!(!fixture.data_dir().exists());
    fixture.add(&conf, "c1").unwrap();
    fixture.del(&fixture.conf(json!({"ranges": "broken", "routes": 7})), "c1");
    assert!(fixture.reservations().is_empty());
}

#[test]
fn every_command_reads_the_data_folder_from_the_configuration_in_the_same_way() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(small());
    // More levels than a parser of values without types accepts.
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let data_dir = conf["ipam"].as_object_mut().unwrap().remove("dataDir").unwrap();
    conf["ipam"]["DataDir"] = data_dir;
    let text = conf.to_string().replacen('{', &format!("{{\"deep\":{deep},"), 1).into_bytes();
    let request = cni_core::request::Request { text, ..fixture.request(&conf, "c1", "") };
    crate::add(&fixture.node, &request).unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.2"]);
    crate::check(&fixture.node, &request).unwrap();
    crate::del(&fixture.node, &request).unwrap();
    assert!(fixture.reservations().is_empty());
    conf["ipam"]["dataDir"] = 7.into();
    let err = crate::del(&fixture.node, &fixture.request(&conf, "c1", "")).unwrap_err();
    assert!(err.msg().contains("dataDir"), "{err}");
}

#[test]
fn a_reservation_of_the_go_plugin_is_seen_at_once() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    fixture.go_reserves("10.1.2.3", "go\r\neth0");
    assert_eq!(addresses(&fixture.add(&conf, "c2").unwrap()), ["10.1.2.4/29"]);
    std::fs::remove_file(fixture.folder().join("10.1.2.2")).unwrap();
    std::fs::remove_file(fixture.folder().join("10.1.2.4")).unwrap();
    let request = |id| fixture.add_with(&conf, id, "IP=10.1.2.2").map(|result| addresses(&result));
    assert_eq!(request("c3").unwrap(), ["10.1.2.2/29"]);
    assert!(fixture.check(&conf, "c2").is_err());
    fixture.check(&conf, "go").unwrap();
}

/// Changes the folder and restores its modification time.
fn unnoticed(fixture: &Fixture, change: impl Fn()) {
    let folder = Folder::open(&fixture.folder()).unwrap();
    let time = folder.stat().unwrap().modified;
    change();
    folder.set_modified(time).unwrap();
}

#[test]
fn the_folder_is_searched_only_when_another_program_changed_it() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    // A search of the folder removes this file.
    let witness = fixture.folder().join(".oxcni-witness");
    unnoticed(&fixture, || std::fs::write(&witness, "").unwrap());
    fixture.add(&conf, "c2").unwrap();
    fixture.check(&conf, "c2").unwrap();
    fixture.del(&conf, "c2");
    fixture.status(&conf).unwrap();
    assert!(witness.exists());
    fixture.go_reserves("10.1.2.6", "go\r\neth0");
    fixture.del(&conf, "c1");
    assert!(!witness.exists());
}

#[test]
fn a_file_that_the_index_does_not_have_is_respected() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    unnoticed(&fixture, || fixture.go_reserves("10.1.2.3", "go\r\neth0"));
    assert_eq!(addresses(&fixture.add(&conf, "c2").unwrap()), ["10.1.2.4/29"]);
    assert_eq!(fixture.reservations(), ["10.1.2.2", "10.1.2.3", "10.1.2.4"]);
}

/// Returns when a process waits for the lock on an inode (proc_locks(5)).
fn await_waiter(inode: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let waits = |line: &str| line.contains("->") && line.contains(&format!(":{inode} "));
    while !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        assert!(Instant::now() < deadline, "no process waits for the lock");
        std::thread::yield_now();
    }
}

#[test]
fn a_lock_that_another_process_holds_is_waited_for() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    let lock = Folder::open(&fixture.folder()).unwrap().lock("lock").unwrap();
    std::thread::scope(|scope| {
        let added = scope.spawn(|| fixture.add(&conf, "c2"));
        let inode = std::fs::metadata(fixture.folder().join("lock")).unwrap().ino();
        await_waiter(inode);
        assert_eq!(fixture.reservations(), ["10.1.2.2"]);
        drop(lock);
        added.join().unwrap().unwrap();
    });
    assert_eq!(fixture.reservations(), ["10.1.2.2", "10.1.2.3"]);
}

#[test]
fn check_compares_with_prev_result() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(small());
    assert_eq!(fixture.check(&conf, "c1").unwrap_err().code(), Code::CHECK_FAILED);
    fixture.add(&conf, "c1").unwrap();
    fixture.check(&conf, "c1").unwrap();
    // The second address is another plugin's.
    conf["prevResult"] =
        json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.2.2/29"}, {"address": "192.0.2.1/24"}]});
    fixture.check(&conf, "c1").unwrap();
    conf["prevResult"]["ips"][0]["address"] = "10.1.2.3/29".into();
    let err = fixture.check(&conf, "c1").unwrap_err();
    assert!(
        err.to_string().contains("10.1.2.3 of prevResult is not reserved for container c1 (eth0)"),
        "{err}"
    );
    assert!(err.to_string().contains("it is free"), "{err}");
}

#[test]
fn a_file_that_was_edited_in_place_is_found_by_check_and_del() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    fixture.add(&conf, "c2").unwrap();
    let edit = |ip: &str, contents: &str| std::fs::write(fixture.folder().join(ip), contents).unwrap();
    edit("10.1.2.2", "c9\r\neth0");
    fixture.check(&conf, "c9").unwrap();
    assert!(fixture.check(&conf, "c1").is_err());
    edit("10.1.2.2", "c8\r\neth0");
    fixture.del(&conf, "c8");
    assert_eq!(fixture.reservations(), ["10.1.2.3"]);
    // Beside another address of the same attachment: by its result.
    fixture.add(&conf, "c3").unwrap();
    edit("10.1.2.3", "c3\r\neth0");
    let ips = json!([{"address": "10.1.2.3/29"}, {"address": "10.1.2.4/29"}]);
    conf["prevResult"] = json!({"cniVersion": "1.1.0", "ips": ips});
    fixture.check(&conf, "c3").unwrap();
    fixture.del(&conf, "c3");
    assert!(fixture.reservations().is_empty());
}

#[test]
fn parent_folders_in_the_data_folder_are_resolved_by_its_text() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(small());
    std::fs::create_dir_all(fixture.path("far/away")).unwrap();
    std::os::unix::fs::symlink(fixture.path("far/away"), fixture.path("link")).unwrap();
    conf["ipam"]["dataDir"] = format!("{}/link/.././data/", fixture.path("").display()).into();
    fixture.add(&conf, "c1").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.2"]);
    fixture.del(&conf, "c1");
    assert!(fixture.reservations().is_empty());
}

#[test]
fn check_holds_when_the_range_was_narrowed() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(small());
    let result = fixture.add_with(&conf, "c1", "IP=10.1.2.6").unwrap();
    conf["prevResult"] =
        serde_json::from_str(&result.to_json(cni_core::spec::Version::NEWEST).unwrap()).unwrap();
    conf["ipam"]["rangeEnd"] = "10.1.2.3".into();
    crate::check(&fixture.node, &fixture.request(&conf, "c1", "IP=10.1.2.6")).unwrap();
    fixture.del(&conf, "c1");
    assert!(crate::check(&fixture.node, &fixture.request(&conf, "c1", "IP=10.1.2.6")).is_err());
}

#[test]
fn other_files_are_left_alone() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    std::fs::create_dir_all(fixture.folder().join("10.1.2.2")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", fixture.folder().join("10.1.2.3")).unwrap();
    std::fs::write(fixture.folder().join("notes"), "c1\r\neth0").unwrap();
    std::fs::write(fixture.folder().join(".oxcni-left-over"), "c1\r\neth0").unwrap();
    assert_eq!(addresses(&fixture.add(&conf, "c1").unwrap()), ["10.1.2.4/29"]);
    fixture.gc(&conf, &[]).unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(fixture.folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["10.1.2.2", "10.1.2.3", "last_reserved_ip.0", "lock", "notes"]);
}

#[test]
fn status_fails_where_an_add_would() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.status(&conf).unwrap();
    fixture.status(&fixture.conf(json!({}))).unwrap();
    assert!(!fixture.data_dir().exists());
    assert!(fixture.status(&fixture.conf(json!({"subnet": "10.1.2.0/31"}))).is_err());
    std::fs::write(fixture.data_dir(), "").unwrap();
    let err = fixture.status(&conf).unwrap_err();
    assert!(err.to_string().contains("is not a folder"), "{err}");
    let err = fixture.add(&conf, "c1").unwrap_err();
    assert_eq!(err.code(), Code::IO);
    assert!(err.to_string().contains("a file stands where a folder should be"), "{err}");
}
