//! What happens to leases of the dhcp plugin over time: Kea says after how many seconds.
//!
//! A lease that is not to end lasts longer than a slow machine stands still.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use oxcni_tests::dhcp::Kea;
use oxcni_tests::{Container, Host, both_flavours, eventually};
use serde_json::{Value, json};

fn config() -> Value {
    json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0", "ipam": { "type": "dhcp" } })
}

/// A machine on the bridge that the containers are on.
fn machine<'h>(host: &'h Host, name: &str, address: &str) -> Container<'h> {
    if host.try_sh("ip link show br0").is_err() {
        host.sh("ip link add name br0 type bridge; ip link set br0 up");
    }
    let port = format!("p-{name}");
    let machine = host.veth_pair(&port, name, &[address]);
    host.sh(&format!("ip link set {port} master br0"));
    machine
}

/// The address of a result, without its prefix length.
fn address(result: &Value) -> String {
    let cidr = result["ips"][0]["address"].as_str().expect("an address");
    cidr.split('/').next().unwrap_or_default().to_owned()
}

/// The addresses of the container's interface, and the seconds that they are valid for.
fn addresses(pod: &Container<'_>) -> Vec<(String, u64)> {
    let text = pod.sh("ip -j -4 addr show dev eth0");
    let links: Value = serde_json::from_str(&text).expect("JSON of ip");
    let list = links[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let read = |it: &Value| {
        (
            it["local"].as_str().unwrap_or_default().to_owned(),
            it["valid_life_time"].as_u64().unwrap_or_default(),
        )
    };
    list.iter().map(read).collect()
}

fn has(pod: &Container<'_>, address: &str) -> bool {
    addresses(pod).iter().any(|(found, _)| found == address)
}

both_flavours! {
    on_any_kernel: "the daemon's timers decide, not the kernel";

    fn a_lease_is_renewed_and_the_kernel_knows_its_lifetime(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let kea = Kea::with_leases_of(&server, [1, 20, 40], 99);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let result = net.add(&pod).result();
        let leased = address(&result);
        assert!(eventually(|| addresses(&pod).iter().any(|(_, seconds)| (1..=40).contains(seconds))), "{:?}", addresses(&pod));
        assert!(eventually(|| kea.grants(&leased) >= 6), "{} grants", kea.grants(&leased));
        net.check(&pod, &result).succeeds();
        assert!(pod.reaches("10.1.2.1"));
        net.del(&pod).succeeds();
        assert!(eventually(|| kea.has_released(&leased)));
    }

    fn another_server_takes_over_by_rebinding(host) {
        let first = machine(&host, "first", "10.1.2.1/24");
        let kea = Kea::with_leases_of(&first, [4, 8, 40], 99);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let result = net.add(&pod).result();
        let second = machine(&host, "second", "10.1.2.2/24");
        kea.process().signal(Signal::SIGKILL);
        let kea = Kea::with_leases_of(&second, [100, 200, 400], 99);
        assert!(eventually(|| kea.grants(&address(&result)) > 0), "{}", daemon.log());
        daemon.prints("server=10.1.2.2", 1);
        assert!(!daemon.log().contains("event=expired"), "it is another lease: {}", daemon.log());
        assert!(has(&pod, &address(&result)));
        net.check(&pod, &result).succeeds();
    }

    fn a_server_that_gives_another_address_changes_the_interface(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        server.sh("ip addr add 10.9.0.1/16 dev eth0");
        let kea = Kea::start(&server, json!({
            "valid-lifetime": 60, "renew-timer": 1, "rebind-timer": 8, "authoritative": true,
            "subnet4": [{
                "id": 1, "subnet": "10.1.2.0/24", "pools": [{ "pool": "10.1.2.50-10.1.2.99" }],
                "option-data": [{ "name": "routers", "data": "10.1.2.1" }],
            }],
        }));
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let result = net.add(&pod).result();
        // With another address there, the kernel keeps the routes of the first one.
        pod.sh("ip addr add 10.77.0.1/24 dev eth0");
        drop(kea);
        // The network was renumbered: the old address is refused (NAK), and another one given.
        let _kea = Kea::start(&server, json!({
            "valid-lifetime": 4000, "authoritative": true,
            "subnet4": [{
                "id": 2, "subnet": "10.9.0.0/16", "pools": [{ "pool": "10.9.0.50-10.9.0.99" }], "interface": "eth0",
                "option-data": [{ "name": "routers", "data": "10.9.0.1" }],
            }],
        }));
        daemon.prints("event=address-changed", 1);
        assert!(daemon.log().contains("event=refused-by-server"), "{}", daemon.log());
        let changed = || addresses(&pod).iter().any(|(now, _)| now.starts_with("10.9.0.")) && !has(&pod, &address(&result));
        assert!(eventually(changed), "{:?}", addresses(&pod));
        let routes = || pod.sh("ip -4 route");
        assert!(eventually(|| routes().contains("default via 10.9.0.1")), "{}", routes());
        assert!(!routes().contains("via 10.1.2."), "{}", routes());
        assert!(pod.reaches("10.9.0.1"));
        // The runtime knows only the old address.
        net.check(&pod, &result).succeeds();
        pod.sh("ip addr flush dev eth0");
        net.check(&pod, &result).fails(102, &["leased address 10.9.0."]);
        net.del_after(&pod, &result).succeeds();
    }

    fn an_address_ends_with_its_lease_also_without_a_daemon(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let kea = Kea::with_leases_of(&server, [1, 3, 6], 99);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let (pod, other) = (host.container(), host.container());
        let results = [net.add(&pod).result(), net.add(&other).result()];
        daemon.prints("event=lease ", 4);
        drop(kea);
        daemon.kill();
        assert!(eventually(|| addresses(&pod).is_empty()), "{:?}", addresses(&pod));
        // The interface stays up, and has its address again as soon as a server confirms it.
        let _kea = Kea::with_leases_of(&server, [100, 200, 400], 99);
        let daemon = host.dhcp_daemon(&[]);
        assert!(eventually(|| has(&pod, &address(&results[0])) && has(&other, &address(&results[1]))), "{}", daemon.log());
        net.check(&pod, &results[0]).succeeds();
    }

    fn a_lease_outlives_its_daemon_and_its_server(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let kea = Kea::with_leases_of(&server, [8, 40, 60], 99);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let result = net.add(&pod).result();
        let leased = address(&result);
        daemon.kill();
        drop(kea);
        let daemon = host.dhcp_daemon(&[]);
        daemon.prints("event=started leases=1", 1);
        assert!(has(&pod, &leased) && pod.reaches("10.1.2.1"));
        let kea = Kea::with_leases_of(&server, [8, 40, 60], 99);
        let before = kea.grants(&leased);
        assert!(eventually(|| kea.grants(&leased) > before), "{}", daemon.log());
        assert!(!daemon.log().contains("event=expired"), "{}", daemon.log());
        net.check(&pod, &result).succeeds();
    }

    fn an_attachment_whose_lease_has_ended_is_not_forgotten(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let kea = Kea::with_leases_of(&server, [1, 3, 6], 99);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let result = net.add(&pod).result();
        drop(kea);
        daemon.prints("event=expired", 1);
        daemon.kill();
        let daemon = host.dhcp_daemon(&[]);
        daemon.prints("event=started leases=1", 1);
        net.check(&pod, &result).fails(102, &["lost"]);
        let _kea = Kea::with_leases_of(&server, [100, 200, 400], 99);
        assert!(eventually(|| has(&pod, &address(&result))), "{}", daemon.log());
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert_eq!(host.sh("ls /run/cni/dhcp"), "lock\n");
    }

    fn a_daemon_that_was_stopped_past_t2_catches_up(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let kea = Kea::with_leases_of(&server, [4, 5, 60], 99);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let result = net.add(&pod).result();
        daemon.signal(Signal::SIGSTOP);
        // A daemon that does not react is no reason to wait for ever.
        let grants = || kea.grants(&address(&result));
        let before = grants();
        sleep(Duration::from_millis(5500));
        assert_eq!(grants(), before);
        daemon.signal(Signal::SIGCONT);
        assert!(eventually(|| grants() > before));
        net.check(&pod, &result).succeeds();
        assert!(has(&pod, &address(&result)));
    }

    fn an_exhausted_pool_is_reported_and_heals(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let _kea = Kea::with_leases_of(&server, [100, 200, 400], 50);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let (one, two) = (host.container(), host.container());
        let result = net.add(&one).result();
        daemon.stop();
        let impatient = host.dhcp_daemon(&["-timeout", "100ms", "-resendtimeout", "1s"]);
        net.add(&two).fails(11, &["eth0", "sent "]);
        impatient.stop();
        let _daemon = host.dhcp_daemon(&[]);
        net.del(&one).succeeds();
        assert_eq!(address(&net.add(&two).result()), address(&result));
    }

    fn another_host_with_the_address_means_another_lease(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let squatter = machine(&host, "squatter", "10.1.2.50/24");
        let _kea = Kea::with_leases_of(&server, [100, 200, 400], 50);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(address(&result), "10.1.2.50");
        daemon.prints("event=address-in-use", 1);
        assert!(daemon.log().contains(&squatter.mac("eth0")), "{}", daemon.log());
        assert!(eventually(|| addresses(&pod).is_empty()));
    }

    fn an_address_that_the_daemon_configures_is_looked_for_too(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let _squatter = machine(&host, "squatter", "10.1.2.51/24");
        let kea = Kea::with_leases_of(&server, [1, 4, 10], 50);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        assert_eq!(address(&net.add(&pod).result()), "10.1.2.50");
        drop(kea);
        host.sh("rm /run/kea-dhcp4-server/leases.csv");
        let _kea = Kea::start(&server, json!({
            "valid-lifetime": 4000, "authoritative": true,
            "subnet4": [{ "id": 1, "subnet": "10.1.2.0/24", "pools": [{ "pool": "10.1.2.51-10.1.2.51" }] }],
        }));
        daemon.prints("event=address-changed", 1);
        daemon.prints("event=address-in-use", 1);
        assert!(eventually(|| addresses(&pod).is_empty()), "{:?}", addresses(&pod));
    }

    fn a_lease_is_listed_and_renewed_by_hand(host) {
        let server = machine(&host, "server", "10.1.2.1/24");
        let kea = Kea::with_leases_of(&server, [1000, 2000, 4000], 99);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config());
        let pod = host.container();
        let leased = address(&net.add(&pod).result());
        let table = host.dhcp("leases");
        let line: Vec<_> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        let cidr = format!("{leased}/24");
        assert_eq!(line[..6], ["c1", "net", "eth0", cidr.as_str(), "10.1.2.1", "bound"], "{table}");
        let list = host.leases();
        assert_eq!(list[0]["containerID"], "c1");
        assert!(list[0]["expiry"].as_u64().is_some_and(|seconds| (3900..=4000).contains(&seconds)), "{list}");
        host.dhcp("leases --renew c1");
        assert!(eventually(|| kea.grants(&leased) == 2));
        // Renewed once, and listed until the reader goes away.
        let dhcp = host.plugins().dir().join("dhcp").display().to_string();
        let watched = host.sh(&format!("{{ {dhcp} leases --watch --renew c1 2>&1 1>&3 | cat >/run/errors; }} 3>&1 | head -n 6"));
        assert_eq!(watched.matches("CONTAINER").count(), 3, "{watched}");
        assert!(eventually(|| kea.grants(&leased) == 3));
        let errors = || host.sh("cat /run/errors");
        assert!(eventually(|| errors().contains("Broken pipe")), "{}", errors());
        assert!(!errors().contains("panicked"), "{}", errors());
        assert_eq!(kea.grants(&leased), 3);
        assert!(host.try_sh(&format!("{dhcp} leases --renew nobody")).is_err());
    }
}
