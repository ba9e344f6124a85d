//! What GC collects, and what is reclaimed after a reboot and where a range is exhausted.

use super::fixture::{Fixture, addresses};
use super::small;
use cni_core::fs::Folder;
use cni_core::spec::Code;
use serde_json::json;

#[test]
fn gc_keeps_what_is_valid_and_does_nothing_without_a_list() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    fixture.add(&conf, "c2").unwrap();
    fixture.go_reserves("10.1.2.4", "c2\r\nnet1");
    fixture.go_reserves("10.1.2.5", "c1");
    fixture.go_reserves("10.1.2.6", "c2");
    crate::gc(&fixture.node, &fixture.request(&conf, "none", "")).unwrap();
    assert_eq!(fixture.reservations().len(), 5);
    fixture.gc(&conf, &["c1"]).unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.2", "10.1.2.5"]);
    fixture.gc(&conf, &[]).unwrap();
    assert!(fixture.reservations().is_empty());
}

#[test]
fn an_empty_file_holds_its_address_until_the_range_is_exhausted() {
    let fixture = Fixture::new();
    let conf = fixture.conf(json!({"subnet": "10.1.2.0/29", "rangeEnd": "10.1.2.5"}));
    fixture.go_reserves("10.1.2.2", "");
    fixture.go_reserves("10.1.2.3", "");
    assert_eq!(addresses(&fixture.add(&conf, "c1").unwrap()), ["10.1.2.4/29"]);
    assert_eq!(addresses(&fixture.add(&conf, "c2").unwrap()), ["10.1.2.5/29"]);
    fixture.del(&conf, "c9");
    fixture.gc(&conf, &["c1", "c2"]).unwrap();
    assert_eq!(fixture.reservations().len(), 4);
    assert_eq!(fixture.add_with(&conf, "c3", "IP=10.1.2.3").unwrap_err().code(), Code::EXHAUSTED);
    fixture.status(&conf).unwrap();
    // One for each address that is needed.
    assert_eq!(addresses(&fixture.add(&conf, "c3").unwrap()), ["10.1.2.2/29"]);
    assert_eq!(std::fs::read(fixture.folder().join("10.1.2.3")).unwrap(), b"");
    assert_eq!(addresses(&fixture.add(&conf, "c4").unwrap()), ["10.1.2.3/29"]);
    assert_eq!(fixture.add(&conf, "c5").unwrap_err().code(), Code::EXHAUSTED);
    assert!(fixture.status(&conf).is_err());
}

#[test]
fn a_file_that_a_power_cut_emptied_is_reclaimed_after_it() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(fixture.folder().join("10.1.2.2"))
        .unwrap()
        .set_len(0)
        .unwrap();
    fixture.boot(2);
    fixture.add(&conf, "c2").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.3"]);
}

#[test]
fn reservations_of_another_machine_are_neither_reclaimed_nor_collected() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    fixture.add(&conf, "of-1").unwrap();
    fixture.machine(2);
    fixture.boot(2);
    fixture.add(&conf, "of-2").unwrap();
    fixture.status(&conf).unwrap();
    fixture.gc(&conf, &[]).unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.2"]);
    fixture.machine(1);
    fixture.boot(3);
    fixture.add(&conf, "new").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.4"]);
    // Without a machine ID the host name counts, and without both nothing is reclaimed.
    std::fs::remove_file(&fixture.node.machine_id[0]).unwrap();
    fixture.boot(4);
    fixture.add(&conf, "unknown").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.4", "10.1.2.5"]);
    std::fs::write(&fixture.node.machine_id[1], "node\n").unwrap();
    fixture.add(&conf, "named").unwrap();
    fixture.boot(5);
    fixture.add(&conf, "after").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.2", "10.1.2.4", "10.1.2.5"]);
}

#[test]
fn on_a_network_file_system_gc_keeps_what_has_no_mark() {
    let mut fixture = Fixture::new();
    fixture.node.is_shared = |_| Ok(true);
    let conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    fixture.go_reserves("10.1.2.3", "go\r\neth0");
    fixture.gc(&conf, &[]).unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.3"]);
    fixture.node.is_shared = |_| Ok(false);
    fixture.gc(&conf, &[]).unwrap();
    assert!(fixture.reservations().is_empty());
    assert!(!Folder::open(std::path::Path::new("/proc")).unwrap().is_on_network().unwrap());
}

#[test]
fn gc_without_a_list_reclaims_earlier_boots_and_collects_nothing() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(small());
    fixture.add(&conf, "earlier").unwrap();
    fixture.go_reserves("10.1.2.5", "go\r\neth0");
    fixture.boot(2);
    let gc = |conf: &serde_json::Value| crate::gc(&fixture.node, &fixture.request(conf, "none", "")).unwrap();
    conf["cni.dev/valid-attachments"] = json!(null);
    conf["ipam"]["reclaimAfterReboot"] = false.into();
    gc(&conf);
    assert_eq!(fixture.reservations(), ["10.1.2.2", "10.1.2.5"]);
    conf["ipam"]["reclaimAfterReboot"] = true.into();
    gc(&conf);
    assert_eq!(fixture.reservations(), ["10.1.2.5"]);
}

#[test]
fn the_index_of_a_data_folder_that_is_gone_is_removed() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    let mut other = conf.clone();
    other["name"] = "other".into();
    let indices = || std::fs::read_dir(&fixture.node.index_dir).unwrap().count();
    fixture.add(&conf, "c1").unwrap();
    fixture.add(&other, "c1").unwrap();
    assert_eq!(indices(), 2);
    std::fs::remove_dir_all(fixture.folder()).unwrap();
    fixture.add(&other, "c2").unwrap();
    assert_eq!(indices(), 2, "only a search of a data folder looks for them");
    fixture.boot_id_only(2);
    fixture.add(&other, "c3").unwrap();
    assert_eq!(indices(), 1);
}

#[test]
fn unchanged_reservations_of_this_program_are_reclaimed_after_a_reboot() {
    let fixture = Fixture::new();
    let conf = fixture.conf(small());
    for id in ["c1", "c2", "c3"] {
        fixture.add(&conf, id).unwrap();
    }
    fixture.go_reserves("10.1.2.5", "go\r\neth0");
    std::fs::write(fixture.folder().join("10.1.2.3"), "pinned\r\neth0").unwrap();
    fixture.boot(2);
    fixture.del(&conf, "c3");
    assert_eq!(fixture.reservations(), ["10.1.2.2", "10.1.2.3", "10.1.2.5"], "DEL reclaims nothing");
    fixture.add(&conf, "new").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.3", "10.1.2.5", "10.1.2.6"]);
}

#[test]
fn reclaiming_can_be_turned_off_and_on_again() {
    let fixture = Fixture::new();
    let mut conf = fixture.conf(small());
    fixture.add(&conf, "c1").unwrap();
    fixture.boot(2);
    conf["ipam"]["reclaimAfterReboot"] = false.into();
    fixture.add(&conf, "c2").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.2", "10.1.2.3"]);
    conf["ipam"]["reclaimAfterReboot"] = true.into();
    fixture.add(&conf, "c3").unwrap();
    assert_eq!(fixture.reservations(), ["10.1.2.3", "10.1.2.4"]);
}
