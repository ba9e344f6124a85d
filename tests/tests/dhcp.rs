//! The dhcp plugin and its daemon, against dnsmasq.

use oxcni_tests::dhcp::{Dnsmasq, Scripted};
use oxcni_tests::{Container, Host, both_flavours, eventually, with_keys};
use serde_json::{Value, json};

const RANGE: &str = "10.1.2.50,10.1.2.99,12h";

fn config(rest: Value) -> Value {
    with_keys(
        json!({ "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1", "ipam": { "type": "dhcp" } }),
        rest,
    )
}

/// A machine beside the master `eth1` that is to be a server.
fn server(host: &Host) -> Container<'_> {
    host.veth_pair("eth1", "server", &["10.1.2.1/24"])
}

/// The address of a result, without its prefix length.
fn address(result: &Value) -> String {
    let cidr = result["ips"][0]["address"].as_str().expect("an address");
    cidr.split('/').next().unwrap_or_default().to_owned()
}

both_flavours! {
    on_any_kernel: "the daemon's timers decide, not the kernel";

    fn a_lease_is_obtained_checked_and_released(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["ips"][0]["gateway"], "10.1.2.1");
        assert_eq!(result["ips"][0]["interface"], 0);
        assert_eq!(result["routes"], json!([{ "dst": "0.0.0.0/0", "gw": "10.1.2.1" }]));
        assert_eq!(dnsmasq.leased(), [address(&result)]);
        assert!(pod.reaches("10.1.2.1"));
        // The zero byte and the id of the Go daemon.
        let id: Vec<String> = b"\0c1/net/eth0".iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(dnsmasq.leases()[0][4], id.join(":"));
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert!(eventually(|| dnsmasq.leased().is_empty()), "not released: {:?}", dnsmasq.leases());
        net.del(&pod).succeeds();
    }
}

/// A daemon that gives up soon.
const IMPATIENT: [&str; 4] = ["-timeout", "100ms", "-resendtimeout", "1500ms"];

both_flavours! {
    on_any_kernel: "the daemon's timers decide, not the kernel";

    fn a_bridge_and_two_containers_get_leases_of_their_own(host) {
        host.sh("ip link add name br0 type bridge; ip link set br0 up");
        let machine = host.veth_pair("port", "server", &["10.1.2.1/24"]);
        host.sh("ip link set port master br0");
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &["--dhcp-option=option:dns-server,10.1.2.9"]);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br0", "ipam": { "type": "dhcp" },
        }));
        let (one, two) = (host.container(), host.container());
        let results = [net.add(&one).result(), net.add(&two).result()];
        assert_eq!(results[0]["dns"]["nameservers"], json!(["10.1.2.9"]));
        let mut addresses = results.each_ref().map(address);
        addresses.sort();
        assert_eq!(dnsmasq.leased(), addresses);
        assert!(one.reaches(&address(&results[1])) && two.reaches("10.1.2.1"));
        net.del_after(&one, &results[0]).succeeds();
        assert!(eventually(|| dnsmasq.leased() == [address(&results[1])]));
    }

    fn a_daemon_that_was_killed_finds_its_leases_again(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let (pod, lost) = (host.container(), host.container());
        let result = net.add(&pod).result();
        net.add(&lost).succeeds();
        daemon.kill();
        lost.vanish();
        // A socket of a dead daemon is no obstacle, nor is a file that was cut off.
        host.sh("echo '{\"version\":1' > /run/cni/dhcp/cut.json");
        let daemon = host.dhcp_daemon(&[]);
        daemon.prints("event=started leases=1", 1);
        daemon.prints("event=lease-file-dropped", 1);
        daemon.prints("event=lease-dropped", 1);
        net.check(&pod, &result).succeeds();
        assert!(pod.reaches("10.1.2.1"));
        net.del(&pod).succeeds();
        assert!(eventually(|| dnsmasq.leased().len() == 1), "not released: {:?}", dnsmasq.leases());
        net.del(&lost).succeeds();
        daemon.stop();
        assert!(!host.path("/run/oxcni/dhcp.sock").exists());
    }

    fn without_a_daemon_errors_say_where_it_should_be(host) needs [Macvlan] {
        server(&host);
        let net = host.network(config(json!({})));
        let pod = host.container();
        let how = ["/run/oxcni/dhcp.sock", "/run/cni/dhcp.sock", "dhcp daemon"];
        net.add(&pod).fails(11, &how);
        net.status().fails(50, &how);
        assert!(pod.link("eth0").is_null());
        net.del(&pod).succeeds();
        let elsewhere = config(json!({ "ipam": { "type": "dhcp", "daemonSocketPath": "/run/x.sock" } }));
        host.network(elsewhere).status().fails(50, &["/run/x.sock", "-socketpath"]);
        let _daemon = host.dhcp_daemon(&[]);
        net.status().succeeds();
    }

    fn without_a_server_the_error_says_what_was_tried(host) needs [Macvlan] {
        server(&host);
        let _daemon = host.dhcp_daemon(&IMPATIENT);
        let net = host.network(config(json!({})));
        let pod = host.container();
        let error = net.add(&pod).fails(11, &["eth0", "no DHCP server answered", "spanning tree"]);
        assert!(error.text().contains("sent "), "{error:?}");
        assert!(pod.link("eth0").is_null());
        assert_eq!(host.sh("ls /run/cni/dhcp"), "lock\n");
    }

    fn a_master_without_carrier_is_reported_while_it_is_waited_for(host) needs [Macvlan] {
        let machine = server(&host);
        machine.sh("ip link set eth0 down");
        let daemon = host.dhcp_daemon(&["-timeout", "100ms", "-resendtimeout", "2s"]);
        let net = host.network(config(json!({})));
        let (pod, late) = (host.container(), host.container());
        let outcome = net.add(&pod);
        outcome.fails(11, &["no carrier"]);
        assert!(outcome.stderr.contains("waiting for it"), "{outcome}");
        daemon.stop();
        let daemon = host.dhcp_daemon(&[]);
        // The message that was lost without a carrier is sent again as soon as there is one.
        let adding = net.start_add(&late);
        assert!(eventually(|| !late.link("eth0").is_null()));
        machine.sh("ip link set eth0 up; ip addr replace 10.1.2.1/24 dev eth0");
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        adding.wait().succeeds();
        daemon.stop();
    }

    fn a_caller_that_goes_away_ends_the_handshake(host) needs [Macvlan] {
        server(&host);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let pod = host.container();
        let adding = net.start_add(&pod);
        assert!(eventually(|| pod.link("eth0")["flags"].to_string().contains("UP")));
        // A program of its own is a child of the plugin's.
        host.sh(&format!("kill -9 {0} $(cat /proc/{0}/task/*/children)", adding.id()));
        daemon.prints("event=caller-gone", 1);
        drop(adding);
        net.del(&pod).succeeds();
    }

    fn a_lease_that_nobody_waits_for_any_more_is_released(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let daemon = host.dhcp_daemon(&[]);
        // It has its IPv4 address, and waits for IPv6.
        let net = host.network(config(json!({ "ipam": { "type": "dhcp", "family": "dual" } })));
        let pod = host.container();
        let adding = net.start_add(&pod);
        daemon.prints("event=lease ", 1);
        host.sh(&format!("kill -9 {0} $(cat /proc/{0}/task/*/children)", adding.id()));
        daemon.prints("event=caller-gone", 1);
        assert!(eventually(|| dnsmasq.leased().is_empty()), "{:?}\n{}", dnsmasq.leases(), daemon.log());
        assert_eq!(host.sh("ls /run/cni/dhcp"), "lock\n");
        drop(adding);
    }

    fn a_daemon_with_a_socket_of_its_own_keeps_its_leases_apart(host) needs [Macvlan] {
        let machine = server(&host);
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let own = ["-socketpath", "/run/own.sock"];
        let second = host.dhcp_daemon(&own);
        assert!(!host.path("/run/cni/dhcp.sock").exists() && !host.path("/run/oxcni").exists());
        let first = host.dhcp_daemon(&[]);
        let there = json!({ "ipam": { "type": "dhcp", "daemonSocketPath": "/run/own.sock" } });
        let nets = [host.network(config(json!({}))), host.network(config(there))];
        let pods = [host.container(), host.container()];
        let results = [nets[0].add(&pods[0]).result(), nets[1].add(&pods[1]).result()];
        second.kill();
        first.kill();
        let second = host.dhcp_daemon(&own);
        second.prints("event=started leases=1", 1);
        assert!(!host.dhcp("leases --socketpath /run/own.sock").contains("c1"));
        nets[0].status().fails(50, &["/run/cni/dhcp.sock"]);
        let _first = host.dhcp_daemon(&[]);
        assert_eq!(host.leases()[0]["containerID"], "c1");
        for ((net, pod), result) in nets.iter().zip(&pods).zip(&results) {
            net.check(pod, result).succeeds();
            net.del(pod).succeeds();
        }
    }

    fn an_interface_of_another_program_is_left_alone(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let (renamed, readdressed) = (host.container(), host.container());
        // As KubeVirt does: the machine in the pod has the MAC address, and its own client renews the lease.
        net.add(&renamed).succeeds();
        let leased = address(&net.add(&readdressed).result());
        renamed.sh("ip link set eth0 down; ip link set eth0 name k6t-eth0; ip link set k6t-eth0 up");
        readdressed.sh("ip link set eth0 address 02:00:00:00:00:07");
        let before = readdressed.sh("ip -4 -o addr show dev eth0");
        for pod in [&renamed, &readdressed] {
            let dhcp = host.plugins().dir().join("dhcp").display().to_string();
            let refused = host.try_sh(&format!("{dhcp} leases --renew {}", pod.id())).expect_err("it is another's");
            assert!(refused.contains("another name or MAC address"), "{refused}");
        }
        daemon.prints("event=given-up", 2);
        assert!(daemon.log().contains("another name or MAC address"), "{}", daemon.log());
        assert_eq!(readdressed.sh("ip -4 -o addr show dev eth0"), before);
        assert!(before.contains(&leased) && readdressed.link("eth0")["flags"].to_string().contains("UP"));
        assert_eq!(dnsmasq.leased().len(), 2, "the lease is the other program's: {:?}", dnsmasq.leases());
        assert_eq!(host.leases(), json!([]));
    }

    fn an_interface_that_goes_away_ends_the_handshake(host) needs [Macvlan] {
        server(&host);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let pod = host.container();
        let adding = net.start_add(&pod);
        assert!(eventually(|| pod.link("eth0")["flags"].to_string().contains("UP")));
        pod.sh("ip link del eth0");
        adding.wait().fails(11, &["eth0", "gone"]);
    }

    fn gc_releases_what_is_not_attached_any_more(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let (kept, stale) = (host.container(), host.container());
        let result = net.add(&kept).result();
        net.add(&stale).succeeds();
        net.gc(&[&kept]).succeeds();
        assert!(eventually(|| dnsmasq.leased() == [address(&result)]));
        net.check(&kept, &result).succeeds();
    }

    fn gc_waits_for_a_server_that_is_gone_once_and_not_for_each_lease(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let pods: Vec<_> = (0..30).map(|_| host.container()).collect();
        for pod in &pods {
            net.add(pod).succeeds();
        }
        drop(dnsmasq);
        machine.sh("ip link set eth0 arp off; ip addr flush dev eth0");
        net.gc(&[]).succeeds();
        daemon.prints("event=released", 30);
        assert_eq!(host.sh("ls /run/cni/dhcp"), "lock\n");
    }

    fn a_lease_of_a_namespace_that_is_gone_is_not_logged_as_released(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({})));
        let pod = host.container();
        net.add(&pod).succeeds();
        pod.vanish();
        net.del(&pod).succeeds();
        daemon.prints("event=given-up", 1);
        assert!(daemon.log().contains("namespace is gone: the lease is not renewed any more"), "{}", daemon.log());
        assert!(!daemon.log().contains("event=released"), "{}", daemon.log());
        assert_eq!((dnsmasq.leased().len(), host.sh("ls /run/cni/dhcp")), (1, "lock\n".to_owned()));
    }

    fn servers_options_become_routes_dns_and_mtu(host) needs [Macvlan] {
        let machine = server(&host);
        let options = [
            "--dhcp-option=option:router,10.1.2.1",
            "--dhcp-option=option:classless-static-route,10.7.0.0/16,10.1.2.7,10.7.0.0/16,10.1.2.7,0.0.0.0/0,10.1.2.8",
            "--dhcp-option=option:dns-server,10.1.2.3,10.1.2.4",
            "--dhcp-option=option:domain-name,example.com",
            "--dhcp-option=option:domain-search,a.example.com,b.example.com",
            "--dhcp-option=option:mtu,1400",
        ];
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &options);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(config(json!({ "ipam": { "type": "dhcp", "priority": 77 } })));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(
            result["routes"],
            json!([
                { "dst": "10.7.0.0/16", "gw": "10.1.2.7", "priority": 77 },
                { "dst": "0.0.0.0/0", "gw": "10.1.2.8", "priority": 77 },
            ])
        );
        assert_eq!(
            result["dns"],
            json!({
                "nameservers": ["10.1.2.3", "10.1.2.4"], "domain": "example.com",
                "search": ["a.example.com", "b.example.com"],
            })
        );
        assert_eq!((&pod.link("eth0")["mtu"], &result["interfaces"][0]["mtu"]), (&json!(1400), &json!(1400)));
        net.check(&pod, &result).succeeds();
        // The configuration has the last word.
        let net = host.network(config(json!({ "name": "other", "mtu": 1300 })));
        let pod = host.container();
        net.add(&pod).succeeds();
        assert_eq!(pod.link("eth0")["mtu"], 1300);
    }

    fn options_are_requested_and_provided_as_configured(host) needs [Macvlan] {
        let machine = server(&host);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let _daemon = host.dhcp_daemon(&[]);
        let ipam = json!({
            "type": "dhcp",
            "request": [{ "skipDefault": true, "option": "subnet-mask" }, { "option": "42" }],
            "provide": [
                { "option": "host-name", "value": "fixed", "fromArg": "K8S_POD_NAME" },
                { "option": "dhcp-client-identifier", "value": "mine" },
                { "option": "60", "fromArg": "ABSENT" },
            ],
        });
        let net = host.network(config(json!({ "ipam": ipam }))).args("IgnoreUnknown=1;K8S_POD_NAME=web");
        let pod = host.container();
        net.add(&pod).succeeds();
        let id: Vec<String> = b"mine".iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(dnsmasq.leases()[0][3..], ["web".to_owned(), id.join(":")]);
        assert!(dnsmasq.process().log().contains("requested options: 1:netmask, 42:ntp-server"));
        net.del(&pod).succeeds();
        assert!(eventually(|| dnsmasq.leased().is_empty()), "the RELEASE has another id");
        for (bad, named) in [
            (json!({ "provide": [{ "option": "53", "value": "x" }] }), "provide[0]"),
            (json!({ "provide": [{ "option": "60", "value": "x".repeat(256) }] }), "255"),
            (json!({ "request": [{ "option": "hostname" }] }), "request[0].option"),
            (json!({ "daemonSocketPath": "x.sock" }), "daemonSocketPath"),
        ] {
            let ipam = with_keys(json!({ "type": "dhcp" }), bad);
            host.network(config(json!({ "ipam": ipam }))).add(&pod).fails(7, &[named]);
        }
        let ipx = json!({ "type": "dhcp", "family": "ipx" });
        host.network(config(json!({ "ipam": ipx }))).add(&pod).fails(7, &["family", "ipx", "ipv4", "dual"]);
    }

    fn the_sockets_are_for_root_and_answer_a_go_client(host) needs [Macvlan] {
        let _daemon = host.dhcp_daemon(&[]);
        for socket in ["/run/oxcni/dhcp.sock", "/run/cni/dhcp.sock"] {
            assert_eq!(host.sh(&format!("stat -c '%a %U' {socket}")), "600 root\n");
        }
        assert_eq!(host.sh("stat -c %a /run/oxcni /run/cni/dhcp"), "700\n700\n");
        let call = |user: u32| host.enter(|| oxcni_tests::dhcp::exchange("/run/cni/dhcp.sock", user, b"CONNECT /_goRPC_ HTTP/1.0\n\n"));
        let answer = call(0);
        assert!(answer.starts_with(b"HTTP/1.0 501 "), "{:?}", String::from_utf8_lossy(&answer));
        host.sh("chmod 755 /run/cni; chmod 666 /run/cni/dhcp.sock");
        assert_eq!(call(65534), b"", "another user was answered");
    }

    fn neighbours_learn_who_has_the_address_now(host) needs [Macvlan] {
        let machine = server(&host);
        // dnsmasq would write the neighbour entry itself.
        let _server = Scripted::start(&machine, |request, _| vec![(67, request.answer().bytes())]);
        let _daemon = host.dhcp_daemon(&[]);
        machine.sh("ip neigh add 10.1.2.77 lladdr 02:00:00:00:00:99 nud stale dev eth0");
        let pod = host.container();
        host.network(config(json!({}))).add(&pod).succeeds();
        let mac = pod.mac("eth0");
        let known = || machine.sh("ip neigh show 10.1.2.77");
        assert!(eventually(|| known().contains(&mac)), "{}", known());
    }
}
