//! Hosts of a network, and a container in its namespace, that send to the dhcp daemon without end: it takes little of that
//! in, and keeps its other leases meanwhile.

use std::net::{Ipv6Addr, SocketAddrV4, SocketAddrV6, UdpSocket};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use oxcni_tests::dhcp::{Flood, Message as _, Process, Request, Scripted, ScriptedIpv6};
use oxcni_tests::{Container, Host, Network, both_flavours, eventually};
use serde_json::json;

/// The least that a flood has.
const DATAGRAMS: u64 = 50_000;

/// How many lines an attachment may cause at once.
const LINES: usize = 100;

fn network<'h>(host: &'h Host, name: &str, master: &str, family: &str) -> Network<'h> {
    host.network(json!({
        "cniVersion": "1.1.0", "name": name, "type": "macvlan", "master": master,
        "ipam": { "type": "dhcp", "family": family },
    }))
}

/// An answer with a lease that is renewed every second.
fn short(request: &Request) -> Vec<u8> {
    let reply = request.answer().with(51, &60_u32.to_be_bytes());
    reply.with(58, &1_u32.to_be_bytes()).with(59, &50_u32.to_be_bytes()).bytes()
}

/// A lease on the network of the master `eth2`, which has nothing to do with what happens to others.
struct Quiet<'h> {
    server: Scripted,
    daemon: &'h Process,
    memory: u64,
}

impl<'h> Quiet<'h> {
    fn start(host: &'h Host, daemon: &'h Process) -> Quiet<'h> {
        let machine = host.veth_pair("eth2", "quiet", &["10.1.2.1/24"]);
        let server = Scripted::start(&machine, |request, _| vec![(67, short(request))]);
        network(host, "quiet", "eth2", "ipv4").add(&host.container()).succeeds();
        let quiet = Quiet { server, daemon, memory: daemon.status("RssAnon") };
        quiet.goes_on();
        quiet
    }

    /// Its lease is renewed again and again.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.server.seen(3).len();
        assert!(eventually(|| self.server.seen(3).len() >= before + 3), "{}", self.daemon.log());
    }

    /// The daemon has little more memory than before, and has written little about the others.
    #[track_caller]
    fn is_all_that_counts(&self) {
        let memory = self.daemon.status("RssAnon");
        assert!(memory < self.memory + 1024, "{} KiB, then {memory} KiB", self.memory);
        let log = self.daemon.log();
        let lines = log.lines().filter(|line| !line.contains("network=quiet")).count();
        assert!(lines < 2 * LINES, "{lines} lines:\n{log}");
    }
}

/// A socket of a machine that sends on its link `eth0`.
fn sender(machine: &Container<'_>, open: impl FnOnce() -> UdpSocket + Send) -> UdpSocket {
    let socket = machine.enter(open);
    setsockopt(&socket, sockopt::BindToDevice, &"eth0".into()).expect("binding to eth0");
    socket
}

fn link_local(container: &Container<'_>) -> Ipv6Addr {
    let list = container.sh("ip -6 -o addr show dev eth0 scope link");
    let cidr = list.split_whitespace().nth(3).unwrap_or_default();
    cidr.trim_end_matches("/64").parse().unwrap_or_else(|err| panic!("{err}: {list}"))
}

fn index(container: &Container<'_>) -> u32 {
    container.enter(|| nix::net::if_::if_nametoindex("eth0").expect("eth0"))
}

/// What was not received of what came to the container's UDP sockets at a port, of `udp` or `udp6`.
fn lost(container: &Container<'_>, protocol: &str, port: u16) -> u64 {
    let table = container.sh(&format!("cat /proc/net/{protocol}"));
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines = table.lines().map(fields).filter(|it| it[1].ends_with(&format!(":{port:04X}")));
    lines.filter_map(|it| it.last().and_then(|drops| drops.parse::<u64>().ok())).sum()
}

both_flavours! {
    on_any_kernel: "what is measured is the daemon";

    fn messages_without_end_are_left_out(host) needs [Macvlan] {
        let loud = host.veth_pair("eth1", "loud", &["10.1.2.1/24"]);
        // It grants a lease, and renews none.
        let server = Scripted::start(&loud, |request, before| match (request.kind(), before) {
            (1, _) | (3, 0) => vec![(67, short(request))],
            _ => Vec::new(),
        });
        let daemon = host.dhcp_daemon(&[]);
        let quiet = Quiet::start(&host, &daemon);
        let pod = host.container();
        network(&host, "loud", "eth1", "ipv4").add(&pod).succeeds();
        assert!(eventually(|| server.seen(3).len() == 2));
        // An ACK of a server that was not asked, one of another transaction, and nothing that makes sense.
        let other = server.seen(3)[1].answer().with(54, &[10, 1, 2, 9]);
        let mut late = server.seen(3)[0].answer();
        late.header[4] ^= 1;
        for message in [other.bytes(), late.bytes(), vec![0; 200]] {
            let socket = sender(&loud, || UdpSocket::bind("10.1.2.1:0").expect("a port"));
            let to: SocketAddrV4 = "10.1.2.77:68".parse().expect("an address");
            let before = lost(&pod, "udp", 68);
            let flood = Flood::start(socket, to.into(), move |_| message.clone());
            flood.sends(DATAGRAMS);
            quiet.goes_on();
            let sent = flood.stop();
            let lost = lost(&pod, "udp", 68) - before;
            assert!(lost >= sent / 2, "only {lost} of {sent}");
        }
        quiet.is_all_that_counts();
    }

    fn messages_of_dhcpv6_without_end_are_left_out(host) needs [Macvlan] {
        let loud = host.veth_pair("eth1", "loud", &["fd00:1::1/64"]);
        let server = ScriptedIpv6::start(&loud, |_, _| Vec::new());
        let daemon = host.dhcp_daemon(&["-resendtimeout", "10m"]);
        let quiet = Quiet::start(&host, &daemon);
        let pod = host.container();
        let adding = network(&host, "loud", "eth1", "ipv6").start_add(&pod);
        assert!(eventually(|| !server.seen(1).is_empty()));
        let (link, to) = (index(&loud), link_local(&pod));
        // An ADVERTISE without an address, and one of another transaction.
        let empty = server.seen(1)[0].answer().with(3, &[]);
        let mut late = server.seen(1)[0].answer();
        late.header[1] ^= 1;
        for message in [empty.bytes(), late.bytes()] {
            let socket = sender(&loud, || UdpSocket::bind("[::]:0").expect("a port"));
            let before = lost(&pod, "udp6", 546);
            let flood = Flood::start(socket, SocketAddrV6::new(to, 546, 0, link).into(), move |_| message.clone());
            flood.sends(DATAGRAMS);
            quiet.goes_on();
            let sent = flood.stop();
            let lost = lost(&pod, "udp6", 546) - before;
            assert!(lost >= sent / 2, "only {lost} of {sent}");
        }
        quiet.is_all_that_counts();
        pod.sh("ip link del eth0");
        adding.wait().fails(11, &["eth0"]);
    }

    fn router_advertisements_without_end_cause_few_messages(host) needs [Macvlan] {
        let loud = host.veth_pair("eth1", "loud", &["fd00:1::1/64"]);
        let server = ScriptedIpv6::start(&loud, |_, _| Vec::new());
        let daemon = host.dhcp_daemon(&["-resendtimeout", "10s"]);
        let quiet = Quiet::start(&host, &daemon);
        let pod = host.container();
        let adding = network(&host, "loud", "eth1", "ipv6").start_add(&pod);
        assert!(eventually(|| !server.seen(1).is_empty()));
        let socket = sender(&loud, || {
            let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::IcmpV6);
            let socket = socket.expect("a raw socket");
            setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).expect("a hop limit");
            UdpSocket::from(socket)
        });
        let all_nodes = SocketAddrV6::new("ff02::1".parse().expect("an address"), 0, 0, index(&loud));
        let flood = Flood::start(socket, all_nodes.into(), advertisement);
        let failure = adding.wait().fails(11, &["eth0"]);
        quiet.goes_on();
        drop(flood);
        // One each second at most.
        let solicits = server.seen(1).len();
        assert!(solicits <= 15, "{solicits} in 10 s");
        assert!(failure.text().contains(&format!("sent {solicits} SOLICIT")), "{failure:?}");
        quiet.is_all_that_counts();
    }

    fn changes_of_links_without_end_are_looked_at_now_and_then(host) needs [Macvlan] {
        let loud = host.veth_pair("eth1", "loud", &["10.1.2.1/24"]);
        let server = Scripted::start(&loud, |request, before| {
            let brief = request.answer().with(51, &3_u32.to_be_bytes()).bytes();
            if before == 0 { vec![(67, brief)] } else { Vec::new() }
        });
        let daemon = host.dhcp_daemon(&[]);
        let quiet = Quiet::start(&host, &daemon);
        let pod = host.container();
        network(&host, "loud", "eth1", "ipv4").add(&pod).succeeds();
        assert!(eventually(|| server.seen(1).len() >= 3), "{}", daemon.log());
        pod.sh("yes 'link set eth0 alias a' | head -n 50000 | ip -batch -");
        quiet.goes_on();
        quiet.is_all_that_counts();
    }
}

/// A router advertisement (RFC 4861, section 4.2) with prefixes and name servers of its own; every second one says
/// that there is a DHCPv6 server.
fn advertisement(number: u64) -> Vec<u8> {
    let mut bytes =
        vec![134, 0, 0, 0, 64, if number.is_multiple_of(2) { 0x80 } else { 0 }, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let n = number as u32;
    for i in 0..20_u32 {
        let [a, b, c, d] = (n * 20 + i).to_be_bytes();
        bytes.extend([3, 4, 64, 0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0]);
        bytes.extend([0xfd, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes.extend([25, 41, 0, 0, 0, 0, 7, 8]);
    for i in 0..20_u32 {
        let [a, b, c, d] = (n * 20 + i).to_be_bytes();
        bytes.extend([0xfd, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
    bytes
}
