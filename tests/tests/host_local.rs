//! host-local: its results, its files on disk, and its behaviour under failures.

use std::fs;
use std::path::Path;

use oxcni_tests::{Container, Host, Network, both_flavours, eventually};
use serde_json::{Value, json};

/// The attribute of a reservation: the boot in which it was made, and a hash of its content.
const MARK: &str = "user.oxcni.boot_id";
const DATA: &str = "/var/lib/cni/networks/net";

fn config(ipam: Value) -> Value {
    let mut config = json!({ "cniVersion": "1.1.0", "name": "net", "type": "host-local" });
    config["ipam"] = json!({ "type": "host-local" });
    for (key, value) in ipam.as_object().expect("an object") {
        config["ipam"][key] = value.clone();
    }
    config
}

fn subnet(host: &Host) -> Network<'_> {
    host.network(config(json!({ "subnet": "10.1.2.0/24" })))
}

fn range<'h>(host: &'h Host, start: &str, end: &str) -> Network<'h> {
    host.network(config(
        json!({ "ranges": [[{ "subnet": "10.1.2.0/24", "rangeStart": start, "rangeEnd": end }]] }),
    ))
}

/// The ID of this boot.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id").trim().to_owned()
}

/// The effect of a reboot on a reservation: its mark has another boot ID, and /run is empty.
fn reboot(host: &Host, address: &str) {
    let file = format!("{DATA}/{address}");
    let mark = oxcni_tests::get_xattr(&host.path(&file), MARK).expect("our mark");
    host.set_xattr(&file, MARK, &mark.replace(&boot(), "00000000-0000-4000-8000-000000000000"));
    host.sh("rm -rf /run/oxcni");
}

both_flavours! {
    fn reservation_has_the_format_of_the_go_plugin(host) {
        let pod = host.container();
        assert_eq!(subnet(&host).add_addresses(&pod), ["10.1.2.2"]);
        let held = host.reservations("net");
        assert_eq!(held.get("10.1.2.2").map(String::as_str), Some("c1\r\neth0"));
        assert_eq!(held.len(), 1);
        let mark = fs::read_to_string(host.path(&format!("{DATA}/last_reserved_ip.0"))).expect("the mark");
        assert_eq!(mark, "10.1.2.2");
        assert!(host.path(&format!("{DATA}/lock")).exists());
    }

    fn gives_addresses_round_robin(host) {
        let net = range(&host, "10.1.2.10", "10.1.2.12");
        let (one, two, three) = (host.container(), host.container(), host.container());
        assert_eq!(net.add_addresses(&one), ["10.1.2.10"]);
        net.del(&one).succeeds();
        assert_eq!(net.add_addresses(&two), ["10.1.2.11"]);
        assert_eq!(net.add_addresses(&one), ["10.1.2.12"]);
        assert_eq!(net.add_addresses(&three), ["10.1.2.10"]);
    }

    fn error_of_an_exhausted_range_has_its_size_and_what_is_held(host) {
        let net = range(&host, "10.1.2.10", "10.1.2.12");
        for _ in 0..3 {
            net.add(&host.container()).succeeds();
        }
        let before = host.reservations("net");
        let error = net.add(&host.container()).error();
        assert!(error.code >= 11, "{error:?}");
        assert!(error.text().contains("3 addresses to allocate, 3 are held"), "{}", error.text());
        assert!(error.text().contains("10.1.2.10"), "the range is not named: {}", error.text());
        assert_eq!(host.reservations("net"), before);
    }

    fn address_in_use_is_refused(host) {
        let net = subnet(&host).args("IP=10.1.2.44");
        net.add(&host.container()).succeeds();
        let before = host.reservations("net");
        assert!(net.add(&host.container()).error().text().contains("10.1.2.44"));
        assert_eq!(host.reservations("net"), before);
    }

    fn failure_of_the_second_set_releases_the_address_of_the_first(host) {
        let net = host.network(config(json!({ "ranges": [
            [{ "subnet": "10.1.2.0/24" }],
            [{ "subnet": "10.1.3.0/24", "rangeStart": "10.1.3.9", "rangeEnd": "10.1.3.9" }] ] })));
        net.add(&host.container()).succeeds();
        let before = host.reservations("net");
        assert!(!net.add(&host.container()).ok());
        assert_eq!(host.reservations("net"), before);
    }

    fn same_attachment_twice_is_refused(host) {
        let net = subnet(&host);
        let pod = host.container();
        net.add(&pod).succeeds();
        net.add(&pod).fails(4, &["10.1.2.2", "c1"]);
        net.clone().args("IP=10.1.2.9").add(&pod).fails(4, &["10.1.2.2", "c1"]);
        assert_eq!(host.reservations("net").into_keys().collect::<Vec<_>>(), ["10.1.2.2"]);
    }

    fn two_interfaces_of_one_container_hold_an_address_each(host) {
        let pod = host.container();
        let first = subnet(&host);
        let second = subnet(&host).ifname("net1");
        assert_eq!(first.add_addresses(&pod), ["10.1.2.2"]);
        assert_eq!(second.add_addresses(&pod), ["10.1.2.3"]);
        first.del(&pod).succeeds();
        assert_eq!(host.reservations("net").get("10.1.2.3").map(String::as_str), Some("c1\r\nnet1"));
        assert_eq!(host.reservations("net").len(), 1);
    }

    fn del_of_another_attachment_releases_nothing(host) {
        let net = subnet(&host);
        let pod = host.container();
        net.add(&pod).succeeds();
        // Ids and names of which one begins with the other.
        net.del(&host.named_container("c")).succeeds();
        net.del(&host.named_container("c11")).succeeds();
        subnet(&host).ifname("eth").del(&pod).succeeds();
        subnet(&host).ifname("eth01").del(&pod).succeeds();
        assert_eq!(host.reservations("net").len(), 1);
    }

    fn del_releases_older_files_without_an_interface_name(host) {
        host.sh(&format!("mkdir -p {DATA}; printf c1 > {DATA}/10.1.2.9; printf 'c1 \\n' > {DATA}/10.1.2.8; printf c2 > {DATA}/10.1.2.7"));
        subnet(&host).del(&host.container()).succeeds();
        assert_eq!(host.reservations("net").into_keys().collect::<Vec<_>>(), ["10.1.2.7"]);
    }

    fn del_succeeds_where_nothing_ever_was(host) {
        subnet(&host).del(&host.container()).succeeds();
    }

    fn del_finds_changes_of_another_program(host) {
        let net = subnet(&host);
        let (one, two) = (host.container(), host.container());
        net.add(&one).succeeds();
        net.add(&two).succeeds();
        // The Go plugin released one address and reserved others.
        host.sh(&format!("rm {DATA}/10.1.2.3; printf 'c9\\r\\neth0' > {DATA}/10.1.2.4; printf 'c2\\r\\neth0' > {DATA}/10.1.2.77"));
        net.del(&two).succeeds();
        assert_eq!(host.reservations("net").into_keys().collect::<Vec<_>>(), ["10.1.2.2", "10.1.2.4"]);
        assert_eq!(net.add_addresses(&two), ["10.1.2.5"]);
    }

    fn check_requires_the_reservation(host) {
        let net = subnet(&host);
        let pod = host.container();
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        host.sh(&format!("rm {DATA}/10.1.2.2"));
        assert!(!net.check(&pod, &result).ok());
    }

    fn gc_releases_all_but_the_valid(host) {
        let net = subnet(&host);
        let (keep, lose, other) = (host.container(), host.container(), host.container());
        net.add(&keep).succeeds();
        net.add(&lose).succeeds();
        net.clone().ifname("net1").add(&keep).succeeds();
        host.sh(&format!("printf 'gone\\r\\neth0' > {DATA}/10.1.2.200; : > {DATA}/10.1.2.201"));
        net.gc(&[&keep, &other]).succeeds();
        // An empty file may be an administrator's.
        assert_eq!(host.reservations("net").into_keys().collect::<Vec<_>>(), ["10.1.2.2", "10.1.2.201"]);
        net.gc(&[]).succeeds();
        assert_eq!(host.reservations("net").into_keys().collect::<Vec<_>>(), ["10.1.2.201"]);
    }

    fn gc_without_a_list_collects_nothing(host) {
        let net = subnet(&host);
        net.add(&host.container()).succeeds();
        net.hostwide("GC", net.config()).succeeds();
        assert_eq!(host.reservations("net").len(), 1);
    }

    fn status_is_good(host) {
        subnet(&host).status().succeeds();
    }

    fn status_reports_a_folder_that_can_not_be_written(host) {
        host.sh("mkdir -p /var/lib/cni/networks; printf x > /var/lib/cni/networks/net");
        let error = subnet(&host).status().error();
        assert!([50, 51].contains(&error.code), "{error:?}");
    }

    fn empty_file_is_removed_where_the_range_is_exhausted(host) {
        let net = range(&host, "10.1.2.10", "10.1.2.12");
        host.sh(&format!("mkdir -p {DATA}; : > {DATA}/10.1.2.10; : > {DATA}/10.1.2.11"));
        assert_eq!(net.add_addresses(&host.container()), ["10.1.2.12"]);
        let added = net.add(&host.container());
        assert_eq!(added.result()["ips"][0]["address"], "10.1.2.10/24");
        assert!(added.stderr.contains("removing the empty file of 10.1.2.10"), "{added}");
        assert_eq!(net.add_addresses(&host.container()), ["10.1.2.11"]);
        assert!(!net.add(&host.container()).ok());
    }

    fn resolv_conf_that_is_a_device_is_refused(host) {
        for file in ["/dev/null", "/dev", "/run/pipe"] {
            host.sh("[ -p /run/pipe ] || mkfifo /run/pipe");
            let net = host.network(config(json!({ "subnet": "10.1.2.0/24", "resolvConf": file })));
            net.add(&host.container()).fails(5, &[file, "not a regular file"]);
        }
        assert!(host.reservations("net").is_empty());
    }

    fn network_name_of_250_bytes_is_accepted_by_all_commands(host) {
        let name = "n".repeat(250);
        let net = subnet(&host).with("name", json!(name));
        let pod = host.container();
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert!(host.reservations(&name).is_empty());
    }

    fn reservation_carries_this_boot(host) needs [UserXattr] {
        host.mount_xattr_data().expect("checked before");
        subnet(&host).add(&host.container()).succeeds();
        let file = host.path(&format!("{DATA}/10.1.2.2"));
        let mark = oxcni_tests::get_xattr(&file, MARK).expect("our mark");
        assert!(mark.starts_with(&boot()), "{mark}");
    }

    fn own_reservation_of_an_earlier_boot_is_reclaimed(host) needs [UserXattr] {
        host.mount_xattr_data().expect("checked before");
        let net = range(&host, "10.1.2.10", "10.1.2.11");
        net.add(&host.container()).succeeds();
        net.add(&host.container()).succeeds();
        assert!(!net.add(&host.container()).ok(), "a reservation of this boot was reclaimed");
        reboot(&host, "10.1.2.11");
        let after = host.container();
        assert_eq!(net.add_addresses(&after), ["10.1.2.11"]);
        let held = host.reservations("net");
        assert_eq!(held["10.1.2.11"], format!("{}\r\neth0", after.id()));
        assert_eq!(held["10.1.2.10"], "c1\r\neth0");
        assert!(!net.add(&host.container()).ok());
    }

    fn reclaiming_can_be_turned_off(host) needs [UserXattr] {
        host.mount_xattr_data().expect("checked before");
        let net = range(&host, "10.1.2.10", "10.1.2.10");
        net.add(&host.container()).succeeds();
        reboot(&host, "10.1.2.10");
        let mut off = net.config()["ipam"].clone();
        off["reclaimAfterReboot"] = json!(false);
        assert!(!net.clone().with("ipam", off).add(&host.container()).ok());
        assert_eq!(host.reservations("net")["10.1.2.10"], "c1\r\neth0");
        net.add(&host.container()).succeeds();
    }

    fn reservations_of_the_go_plugin_outlive_a_reboot(host) {
        let net = range(&host, "10.1.2.10", "10.1.2.10");
        host.sh(&format!("mkdir -p {DATA}; printf 'theirs\\r\\neth0' > {DATA}/10.1.2.10; touch -d '3 years ago' {DATA}/10.1.2.10"));
        host.sh("rm -rf /run/oxcni");
        assert!(!net.add(&host.container()).ok());
        assert_eq!(host.reservations("net")["10.1.2.10"], "theirs\r\neth0");
    }

    fn reservation_that_another_program_made_again_is_not_reclaimed(host) needs [UserXattr] {
        host.mount_xattr_data().expect("checked before");
        let net = range(&host, "10.1.2.10", "10.1.2.10");
        net.add(&host.container()).succeeds();
        // The Go plugin released the address and reserved it again: a new file without the mark.
        host.sh(&format!("rm {DATA}/10.1.2.10; printf 'theirs\\r\\neth0' > {DATA}/10.1.2.10; rm -rf /run/oxcni"));
        assert!(!net.add(&host.container()).ok());
        assert_eq!(host.reservations("net")["10.1.2.10"], "theirs\r\neth0");
    }

    fn reservation_that_another_program_overwrote_is_not_reclaimed(host) needs [UserXattr] {
        host.mount_xattr_data().expect("checked before");
        let net = range(&host, "10.1.2.10", "10.1.2.10");
        net.add(&host.container()).succeeds();
        // The same file with the mark of an earlier boot, and another owner.
        host.sh(&format!("printf 'theirs\\r\\neth0' > {DATA}/10.1.2.10"));
        reboot(&host, "10.1.2.10");
        assert!(!net.add(&host.container()).ok());
        assert_eq!(host.reservations("net")["10.1.2.10"], "theirs\r\neth0");
    }

    fn data_folder_missing_is_made(host) {
        let net = host.network(config(json!({ "subnet": "10.1.2.0/24", "dataDir": "/var/lib/some/where/else" })));
        net.add(&host.container()).succeeds();
        assert_eq!(host.reservations_in("/var/lib/some/where/else/net").len(), 1);
        assert!(!host.path(DATA).exists());
    }

    fn data_folder_that_is_a_file_is_an_io_error(host) {
        host.sh("mkdir -p /var/lib/cni/networks; printf x > /var/lib/cni/networks/net");
        subnet(&host).add(&host.container()).fails(5, &[DATA]);
        assert_eq!(host.sh("cat /var/lib/cni/networks/net"), "x");
    }

    fn data_folder_read_only_is_an_io_error(host) {
        host.sh("mkdir -p /var/lib/cni/networks; mount -t tmpfs -o ro tmpfs /var/lib/cni/networks");
        subnet(&host).add(&host.container()).fails(5, &["/var/lib/cni/networks"]);
    }

    fn full_data_folder_is_an_io_error_and_keeps_no_reservation(host) {
        let net = subnet(&host);
        host.sh("mkdir -p /var/lib/cni/networks; mount -t tmpfs -o size=64k,nr_inodes=64 tmpfs /var/lib/cni/networks");
        net.add(&host.container()).succeeds();
        // First no space for data, then none for names: an ADD fails, or its reservation is on disk.
        host.sh("dd if=/dev/zero of=/var/lib/cni/networks/fill bs=4k 2>/dev/null || true");
        reserves_what_it_returns(&host, &net);
        host.sh("rm /var/lib/cni/networks/fill; i=0; while touch /var/lib/cni/networks/f$i 2>/dev/null; do i=$((i+1)); done");
        let error = net.add(&host.container()).fails(5, &[]);
        assert!(error.text().to_lowercase().contains("no space"), "{error:?}");
        reserves_what_it_returns(&host, &net);
        host.sh("rm /var/lib/cni/networks/f*");
        net.add(&host.container()).succeeds();
        net.gc(&[]).succeeds();
        assert!(host.reservations("net").is_empty());
    }

    fn lock_held_by_another_is_waited_for(host) {
        let net = subnet(&host);
        let (first, second) = (host.container(), host.container());
        net.add(&first).succeeds();
        let lock = fs::File::open(host.path(&format!("{DATA}/lock"))).expect("the lock");
        let held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).expect("locking");
        let adding = net.start_add(&second);
        assert!(eventually(|| waits_for_a_lock(adding.id())), "ADD does not wait for the lock");
        assert_eq!(host.reservations("net").len(), 1, "reserved without the lock");
        let deleting = net.start_del(&first);
        assert!(eventually(|| waits_for_a_lock(deleting.id())), "DEL does not wait for the lock");
        drop(held);
        adding.wait().succeeds();
        deleting.wait().succeeds();
        assert_eq!(host.reservations("net").into_keys().collect::<Vec<_>>(), ["10.1.2.3"]);
    }

    fn sixty_four_at_once_get_an_address_each(host) {
        let net = subnet(&host);
        let containers: Vec<_> = (0..64).map(|_| host.container()).collect();
        let adding: Vec<_> = containers.iter().map(|container| net.start_add(container)).collect();
        let mut given: Vec<_> = adding
            .into_iter()
            .map(|running| running.wait().result()["ips"][0]["address"].as_str().expect("an address").to_owned())
            .collect();
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 64);
        assert_eq!(host.reservations("net").len(), 64);
        let deleting: Vec<_> = containers.iter().map(|container| net.start_del(container)).collect();
        for running in deleting {
            running.wait().succeeds();
        }
        assert!(host.reservations("net").is_empty());
    }

    fn folder_grows_no_files_but_its_own(host) {
        let net = subnet(&host);
        let pod = host.container();
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        let left = host.sh(&format!("ls -A {DATA}"));
        assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["last_reserved_ip.0", "lock"]);
    }

    fn mark_that_is_garbage_is_ignored(host) {
        for garbage in ["", "not an address", "10.99.99.99", "fd00::1", "\\377\\376"] {
            host.sh(&format!("mkdir -p {DATA}; printf '{garbage}' > {DATA}/last_reserved_ip.0"));
            let pod = host.container();
            let net = subnet(&host);
            assert_eq!(net.add_addresses(&pod), ["10.1.2.2"], "{garbage:?}");
            net.del(&pod).succeeds();
            host.sh(&format!("rm -r {DATA}"));
        }
    }

    fn other_files_in_the_folder_are_left_alone(host) {
        host.sh(&format!(
            "mkdir -p {DATA}/sub; printf c1 > {DATA}/sub/10.1.2.9; printf x > {DATA}/README; \
             ln -s /etc/passwd {DATA}/10.1.2.200; mkdir {DATA}/10.1.2.201; mkfifo {DATA}/10.1.2.202"
        ));
        let net = subnet(&host);
        let pod = host.container();
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        net.gc(&[]);
        for file in ["README", "sub"] {
            assert!(host.path(&format!("{DATA}/{file}")).exists(), "{file} is gone");
        }
        assert!(Path::new("/etc/passwd").exists());
    }

    fn keys_match_without_regard_to_case(host) {
        let config = json!({ "cniVersion": "1.1.0", "Name": "net", "type": "host-local",
            "Ipam": { "TYPE": "host-local", "SUBNET": "10.1.2.0/24", "DATADIR": "/var/lib/other" } });
        let pod = host.container();
        let call = |command: &str| subnet(&host).call(command, &pod).config(&config).run();
        let added = call("ADD");
        assert_eq!(added.result()["ips"][0]["address"], "10.1.2.2/24");
        for (key, name) in [("Ipam", "ipam"), ("SUBNET", "subnet"), ("DATADIR", "dataDir"), ("Name", "name")] {
            let line = format!("the key \"{key}\" of the configuration is read as \"{name}\"\n");
            assert_eq!(added.stderr.matches(&line).count(), 1, "{added}");
        }
        assert_eq!(host.reservations_in("/var/lib/other/net").len(), 1);
        call("DEL").succeeds();
        assert!(host.reservations_in("/var/lib/other/net").is_empty());
    }

    fn version_answers_in_the_version_of_its_input(host) {
        let call = oxcni_tests::Call::new(&host, "host-local").env("CNI_COMMAND", "VERSION");
        for (input, version) in [
            (r#"{"cniVersion":"0.2.0"}"#, "0.2.0"),
            (r#"{"cniVersion":"1.0.0","x":1}"#, "1.0.0"),
            (r#"{"cniVersion":"9.9.9"}"#, "1.1.0"),
            ("x", "1.1.0"),
            ("", "1.1.0"),
        ] {
            assert_eq!(call.clone().stdin(input).run().result()["cniVersion"], version, "{input}");
        }
    }

    fn version_waits_for_no_input_that_does_not_come(host) {
        let plugin = host.plugins().dir().join("host-local");
        let printed = host.sh(&format!(
            "mkfifo /run/input; exec 3<>/run/input; CNI_COMMAND=VERSION {} <&3",
            plugin.display()
        ));
        assert!(printed.contains("1.1.0"), "{printed}");
        // Nor for one that comes without an end.
        let endless = format!("while echo; do sleep 0.1; done | CNI_COMMAND=VERSION {}", plugin.display());
        assert!(host.sh(&endless).contains("1.1.0"));
    }

    fn value_of_cni_args_with_an_equals_sign_hurts_its_own_key_only(host) {
        let pod = host.container();
        subnet(&host).args("IgnoreUnknown=1;K8S_POD_NAME=a=b").add(&pod).succeeds();
        subnet(&host).args("IP=10.1.2.9=").add(&host.container()).fails(4, &["10.1.2.9="]);
    }

    fn names_that_would_leave_the_data_folder_are_refused(host) {
        for name in ["../../escape", "a/b", "", ".", ".."] {
            let net = subnet(&host).with("name", json!(name));
            net.add(&host.container()).fails(7, &[]);
            net.del(&host.container()).fails(7, &[]);
        }
        assert!(!host.path("/var/lib/escape").exists());
        assert_eq!(host.sh("ls -A /var/lib/cni"), "");
    }
}

/// An ADD either reserves the address that it returns, or fails and reserves nothing.
fn reserves_what_it_returns(host: &Host, net: &Network<'_>) {
    let before = host.reservations("net");
    let pod: Container<'_> = host.container();
    let outcome = net.add(&pod);
    let after = host.reservations("net");
    if outcome.ok() {
        assert_eq!(after.len(), before.len() + 1, "{outcome}");
        assert!(after.values().any(|holder| *holder == format!("{}\r\neth0", pod.id())), "{after:?}");
    } else {
        outcome.fails(5, &[]);
        assert_eq!(after, before);
    }
}

/// Whether the process or a child of it waits for a lock (proc_locks(5)).
fn waits_for_a_lock(process: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let processes = children.split_whitespace().map(str::to_owned).chain([process.to_string()]);
    let locks = fs::read_to_string("/proc/locks").expect("/proc/locks");
    let waiting: Vec<_> = locks.lines().filter(|line| line.contains("->")).collect();
    processes
        .into_iter()
        .any(|pid| waiting.iter().any(|line| line.split_whitespace().any(|word| word == pid)))
}
