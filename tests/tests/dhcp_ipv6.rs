//! The dhcp plugin and its daemon with `family` ipv6 and dual: router advertisements, SLAAC, DHCPv6.

use oxcni_tests::dhcp::dual_stack::{LEASED, RANGE, SLAAC, config, ipv6_of, server, settled};
use oxcni_tests::dhcp::{Dnsmasq, Kea};
use oxcni_tests::{Container, Host, both_flavours, eventually};
use serde_json::{Value, json};

/// The addresses of a result of a family, with their prefixes.
fn addresses(result: &Value, ipv6: bool) -> Vec<String> {
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    let texts = ips.iter().map(|ip| ip["address"].as_str().unwrap_or_default().to_owned());
    texts.filter(|text| text.contains(':') == ipv6).collect()
}

fn without_prefix(cidr: &str) -> &str {
    cidr.split('/').next().unwrap_or_default()
}

both_flavours! {
    fn a_lease_of_dhcpv6_comes_beside_one_of_dhcpv4(host) needs [Macvlan] {
        let machine = server(&host);
        let options = [LEASED, "--enable-ra", "--dhcp-option=option6:dns-server,[fd00:1::9]", "--dhcp-option=option6:domain-search,a.example"];
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &options);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config("dual"));
        let pod = host.container();
        let result = net.add(&pod).result();
        let leased = addresses(&result, true);
        assert!(matches!(&leased[..], [cidr] if cidr.starts_with("fd00:1::") && cidr.ends_with("/128")), "{result}");
        assert_eq!(addresses(&result, false).len(), 1);
        let servers = result["dns"]["nameservers"].to_string();
        assert!(servers.contains("fd00:1::9"), "{result}");
        assert_eq!(result["dns"]["search"], json!(["a.example"]));
        assert!(dnsmasq.leased().contains(&without_prefix(&leased[0]).to_owned()));
        // Routes are those of the router advertisement.
        assert!(eventually(|| pod.sh("ip -6 route").contains("default via fe80:")), "{}", pod.sh("ip -6 route"));
        assert!(pod.reaches("fd00:1::1"));
        settled(&pod, "eth0");
        let list = ipv6_of(&pod);
        assert!(list.contains("noprefixroute") && list.contains("valid_lft 43"), "{list}");
        net.check(&pod, &result).succeeds();
        assert_eq!(host.dhcp("leases").lines().count(), 3);
        pod.sh(&format!("ip addr del {} dev eth0", leased[0]));
        net.check(&pod, &result).fails(102, &[&leased[0]]);
        net.del(&pod).succeeds();
        let left = || dnsmasq.leased();
        assert!(eventually(|| left().is_empty()), "not released: {:?}", left());
        net.del(&pod).succeeds();
        assert_eq!(host.sh("ls /run/cni/dhcp"), "lock\n");
    }

    fn addresses_that_the_kernel_makes_are_reported(host) needs [Macvlan] {
        let machine = server(&host);
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &[SLAAC, "--enable-ra"]);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config("ipv6"));
        let pod = host.container();
        let result = net.add(&pod).result();
        let made = addresses(&result, true);
        assert!(matches!(&made[..], [cidr] if cidr.starts_with("fd00:1::") && cidr.ends_with("/64")), "{result}");
        assert_eq!(addresses(&result, false), [""; 0]);
        assert!(result["routes"].as_array().is_none_or(Vec::is_empty), "they are the kernel's: {result}");
        assert!(pod.reaches("fd00:1::1"));
        net.check(&pod, &result).succeeds();
        let list = host.leases();
        assert_eq!((&list[0]["ipv6"]["state"], &list[0]["state"]), (&json!("stopped"), &json!("off")), "no server is asked: {list}");
        net.del(&pod).succeeds();
        // Both at once.
        let net = host.network(config("dual"));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!((addresses(&result, true).len(), addresses(&result, false).len()), (1, 1), "{result}");
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
    }

    fn without_ipv6_on_the_network_dual_succeeds_and_ipv6_says_so(host) needs [Macvlan] {
        let machine = server(&host);
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let _daemon = host.dhcp_daemon(&["-resendtimeout", "4s"]);
        let net = host.network(config("ipv6"));
        let pod = host.container();
        let error = net.add(&pod).fails(11, &["eth0", "no router and no DHCPv6 server answered", "SOLICIT"]);
        assert!(error.text().contains("no router advertisement"), "{error:?}");
        assert!(pod.link("eth0").is_null());
        let net = host.network(config("dual"));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!((addresses(&result, true).len(), addresses(&result, false).len()), (0, 1), "{result}");
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
    }
}

/// Kea's DHCPv6 server with leases that are renewed, rebound and over after so many seconds.
fn kea(machine: &Container<'_>, times: [u32; 3]) -> Kea {
    kea_of(machine, "fd00:1::50-fd00:1::99", times)
}

/// The same with these addresses.
fn kea_of(machine: &Container<'_>, pool: &str, [renew, rebind, end]: [u32; 3]) -> Kea {
    Kea::start_ipv6(
        machine,
        json!({
            "renew-timer": renew, "rebind-timer": rebind, "preferred-lifetime": end, "valid-lifetime": end,
            "subnet6": [{
                "id": 1, "subnet": "fd00:1::/64", "interface": "eth0", "pools": [{ "pool": pool }],
            }],
        }),
    )
}

fn bridge_config() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0", "enabledad": true,
        "ipam": { "type": "dhcp", "family": "ipv6" },
    })
}

/// A machine on the bridge that the containers are on.
fn on_bridge<'h>(host: &'h Host, name: &str, address: &str) -> Container<'h> {
    if host.try_sh("ip link show br0").is_err() {
        host.sh("ip link add name br0 type bridge; ip link set br0 up");
    }
    let port = format!("p-{name}");
    let machine = host.veth_pair(&port, name, &[address]);
    host.sh(&format!("ip link set {port} master br0"));
    settled(&machine, "eth0");
    machine
}

fn leased(result: &Value) -> String {
    without_prefix(&addresses(result, true)[0]).to_owned()
}

fn has(pod: &Container<'_>, address: &str) -> bool {
    ipv6_of(pod).contains(&format!(" {address}/128 "))
}

both_flavours! {
    fn a_lease_of_dhcpv6_is_renewed(host) {
        let machine = on_bridge(&host, "server", "fd00:1::1/64");
        let kea = kea(&machine, [1, 20, 40]);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(bridge_config());
        let pod = host.container();
        let result = net.add(&pod).result();
        let leased = leased(&result);
        assert!(eventually(|| kea.grants(&leased) >= 4), "{} grants", kea.grants(&leased));
        assert!(has(&pod, &leased), "{}", ipv6_of(&pod));
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert!(eventually(|| kea.has_released(&leased)));
    }

    fn a_daemon_that_was_killed_confirms_what_it_held(host) {
        let machine = on_bridge(&host, "server", "fd00:1::1/64");
        let kea = kea(&machine, [1000, 2000, 4000]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(bridge_config());
        let (pod, lost) = (host.container(), host.container());
        let results = [net.add(&pod).result(), net.add(&lost).result()];
        daemon.kill();
        // What is away is asked for, and put back.
        let address = leased(&results[1]);
        lost.sh(&format!("ip addr del {address}/128 dev eth0"));
        let daemon = host.dhcp_daemon(&[]);
        daemon.prints("event=started leases=2", 1);
        assert!(eventually(|| has(&lost, &address)), "{}\n{}", ipv6_of(&lost), daemon.log());
        daemon.prints("event=lease ", 3);
        assert_eq!(kea.grants(&address), 1, "it was confirmed, not leased anew");
        net.check(&pod, &results[0]).succeeds();
        net.check(&lost, &results[1]).succeeds();
        host.dhcp(&format!("leases --renew {}", pod.id()));
        assert!(eventually(|| kea.grants(&leased(&results[0])) == 2));
        net.del(&pod).succeeds();
        net.gc(&[]).succeeds();
        assert!(eventually(|| kea.has_released(&leased(&results[0])) && kea.has_released(&address)));
    }

    fn another_server_takes_over_by_rebinding_and_an_address_ends_with_its_lease(host) {
        let first = on_bridge(&host, "first", "fd00:1::1/64");
        let gone = kea(&first, [3, 6, 40]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(bridge_config());
        let pod = host.container();
        let result = net.add(&pod).result();
        let second = on_bridge(&host, "second", "fd00:1::2/64");
        drop(gone);
        let kea = kea(&second, [1, 2, 6]);
        assert!(eventually(|| kea.grants(&leased(&result)) > 0), "{}", daemon.log());
        assert!(!daemon.log().contains("event=expired"), "it is another lease: {}", daemon.log());
        assert!(has(&pod, &leased(&result)));
        drop(kea);
        daemon.prints("event=expired", 1);
        assert!(eventually(|| !has(&pod, &leased(&result))));
        net.check(&pod, &result).fails(102, &["lost"]);
        net.del(&pod).succeeds();
    }

    fn another_host_with_the_ipv6_address_means_another_lease(host) {
        let machine = on_bridge(&host, "server", "fd00:1::1/64");
        let _squatter = on_bridge(&host, "squatter", "fd00:1::50/64");
        let kea = kea_of(&machine, "fd00:1::50-fd00:1::50", [1000, 2000, 4000]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(bridge_config());
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(leased(&result), "fd00:1::50");
        daemon.prints("event=address-in-use", 1);
        assert!(eventually(|| kea.process().log().contains("DECLINE")), "{}", kea.process().log());
        assert!(eventually(|| !has(&pod, "fd00:1::50")), "{}", ipv6_of(&pod));
        drop(kea);
        let _kea = kea_of(&machine, "fd00:1::60-fd00:1::60", [1000, 2000, 4000]);
        assert!(eventually(|| has(&pod, "fd00:1::60")), "{}\n{}", ipv6_of(&pod), daemon.log());
        net.check(&pod, &result).succeeds();
    }
}
