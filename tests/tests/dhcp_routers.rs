//! The dhcp daemon and router advertisements: name servers, routers that change their mind, attachments that have no
//! lease.

use oxcni_tests::dhcp::Dnsmasq;
use oxcni_tests::dhcp::dual_stack::{LEASED, RANGE, SLAAC, config, ipv6_of, server};
use oxcni_tests::{both_flavours, eventually};
use serde_json::json;

both_flavours! {
    fn name_servers_of_router_advertisements_are_reported(host) needs [Macvlan] {
        let machine = server(&host);
        let dns = ["--dhcp-option=option6:dns-server,[fd00:1::9],[fd00:1::8]", "--dhcp-option=option6:domain-search,a.example,b.example"];
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &[SLAAC, "--enable-ra", dns[0], dns[1]]);
        let _daemon = host.dhcp_daemon(&[]);
        for family in ["ipv6", "dual"] {
            let net = host.network(config(family));
            let pod = host.container();
            let result = net.add(&pod).result();
            assert_eq!(result["dns"]["nameservers"], json!(["fd00:1::9", "fd00:1::8"]), "{result}");
            assert_eq!(result["dns"]["search"], json!(["a.example", "b.example"]), "{result}");
            net.del(&pod).succeeds();
        }
    }

    fn a_router_that_announces_dhcpv6_later_is_believed(host) needs [Macvlan] {
        let machine = server(&host);
        let first = Dnsmasq::start(&machine, RANGE, &[SLAAC, "--enable-ra"]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config("ipv6"));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert!(!ipv6_of(&pod).contains("/128"), "{}", ipv6_of(&pod));
        drop(first);
        let second = Dnsmasq::start(&machine, RANGE, &[LEASED, "--enable-ra"]);
        // Left alone the daemon looks every ten minutes.
        let leased = || {
            host.dhcp(&format!("leases --renew {}", pod.id()));
            ipv6_of(&pod).contains("/128")
        };
        assert!(eventually(leased), "{}\n{}", ipv6_of(&pod), daemon.log());
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert!(eventually(|| second.leased().is_empty()), "{:?}", second.leased());
    }

    fn an_attachment_without_a_lease_is_there_after_a_restart(host) needs [Macvlan] {
        let machine = server(&host);
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &[SLAAC, "--enable-ra"]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config("ipv6"));
        let pod = host.container();
        let result = net.add(&pod).result();
        daemon.kill();
        let _daemon = host.dhcp_daemon(&[]);
        let stopped = || host.leases()[0]["ipv6"]["state"] == "stopped";
        assert!(eventually(stopped), "{}", host.leases());
        assert_eq!(host.leases()[0]["ipv6"]["slaac"][0], result["ips"][0]["address"]);
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert_eq!((host.leases(), host.sh("ls /run/cni/dhcp")), (json!([]), "lock\n".to_owned()));
    }

    fn addresses_that_the_container_gave_itself_stay(host) needs [Macvlan] {
        let machine = server(&host);
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &[LEASED, "--enable-ra"]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config("ipv6"));
        let pod = host.container();
        net.add(&pod).succeeds();
        pod.sh("ip addr add fd00:1::aaaa/128 dev eth0 nodad");
        host.dhcp(&format!("leases --renew {}", pod.id()));
        daemon.prints("event=lease ", 2);
        assert!(ipv6_of(&pod).contains("fd00:1::aaaa/128"), "{}\n{}", ipv6_of(&pod), daemon.log());
        net.del(&pod).succeeds();
    }
}
