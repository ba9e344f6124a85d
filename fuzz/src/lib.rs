//! Fuzz targets: whatever a tenant, a container, a file or the kernel may hand to a plugin.
//!
//! A target takes any bytes. It must not panic, overflow, or work without bound, and what it reads must
//! survive being written. `cargo xtask fuzz` runs all targets under libFuzzer; the tests of this package
//! run them on the files of `corpus/` and `crashes/`, in an ordinary build.
//!
//! No target reads or writes files, executes programs, or enters namespaces.

use cni_core::chained::ChainedPlugin;
use cni_core::interface::InterfacePlugin;
use cni_core::request::{Environment, ExecOptions, Request};
use cni_core::spec::{AddResult, NetConf, Version};
use dhcp_client::v4::{Action, Client, Config, Event, MessageType, Packet, Timing, code, frame};
use dhcp_client::{Time, v6};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Each has a folder in `corpus/`.
pub const TARGETS: &[Target] = &[
    ("configuration", configuration),
    ("result", result),
    ("annotation", annotation),
    ("definition", definition),
    ("manifests", manifests),
    ("kubeconfig", kubeconfig),
    ("caches", caches),
    ("reservations", reservations),
    ("netfilter", netfilter),
    ("netlink", netlink),
    ("dhcp", dhcp),
];

/// How each plugin reads a network configuration.
pub const READERS: [fn(&Request); 9] = [
    |request| drop(oxcni_bridge::Bridge.config(request)),
    |request| drop(oxcni_dummy::Dummy.config(request)),
    |request| drop(oxcni_ipvlan::Ipvlan.config(request)),
    |request| drop(oxcni_macvlan::Macvlan.config(request)),
    |request| drop(oxcni_vlan::Vlan.config(request)),
    |request| drop(oxcni_tuning::Tuning.config(request)),
    oxcni_host_local::fuzzing::config,
    oxcni_static::fuzzing::config,
    oxcni_multus::fuzzing::config,
];

/// Reads a network configuration as one of the plugins reads it: the one that the length selects, so that an
/// execution is short. White space behind the text has any of them read it.
///
/// What precedes the first zero byte, if there is one, is `CNI_ARGS`.
pub fn configuration(bytes: &[u8]) {
    let (args, text) = split(bytes);
    let Some(request) = request(&String::from_utf8_lossy(args), text) else { return };
    READERS[bytes.len() % READERS.len()](&request);
}

/// The call of an ADD; `None` where it is refused before any plugin sees it.
fn request(args: &str, text: &[u8]) -> Option<Request> {
    let env = Environment::read(|name| match name {
        "CNI_COMMAND" => Some("ADD".to_owned()),
        "CNI_CONTAINERID" => Some("container".to_owned()),
        "CNI_IFNAME" => Some("eth0".to_owned()),
        "CNI_NETNS" => Some("/nonexistent".to_owned()),
        "CNI_PATH" => Some("/nonexistent".to_owned()),
        "CNI_ARGS" => Some(args.to_owned()),
        _ => None,
    });
    let (env, conf) = (env.ok()?, NetConf::parse(text).ok()?);
    let _ = conf.prev_result();
    Some(Request { env, conf, text: text.to_owned(), plugins: &[], exec: ExecOptions::default() })
}

/// Reads a result, and writes it in every version.
pub fn result(bytes: &[u8]) {
    for version in [Version::V0_1_0, Version::V0_4_0, Version::V1_1_0] {
        let Ok(result) = AddResult::from_json(bytes, version) else { continue };
        for version in Version::ALL {
            let _ = result.to_json(version);
        }
        let text = result.to_json(Version::V1_1_0).expect("the newest version holds every result");
        let again = AddResult::from_json(text.as_bytes(), version).expect("our own results can be read");
        assert_eq!(again, result, "a result does not survive being written");
    }
}

/// Reads the annotation of a pod that selects networks.
pub fn annotation(bytes: &[u8]) {
    oxcni_multus::fuzzing::annotation(&String::from_utf8_lossy(bytes));
}

/// Reads the configuration in a definition.
pub fn definition(bytes: &[u8]) {
    oxcni_multus::fuzzing::definition(&String::from_utf8_lossy(bytes));
}

/// Reads manifests in YAML.
pub fn manifests(bytes: &[u8]) {
    oxcni_multus::fuzzing::manifests(&String::from_utf8_lossy(bytes));
}

/// Reads a kubeconfig.
pub fn kubeconfig(bytes: &[u8]) {
    oxcni_multus::fuzzing::kubeconfig(&String::from_utf8_lossy(bytes));
}

/// Reads a file of multus' cache, of the result cache, and of the kubelet's devices.
///
/// What precedes the first zero byte, if there is one, is the name of the file.
pub fn caches(bytes: &[u8]) {
    let (name, content) = split(bytes);
    cni_runtime::fuzzing::cached(&String::from_utf8_lossy(name), content);
    oxcni_multus::fuzzing::delegates(content);
    oxcni_multus::fuzzing::devices(content);
}

/// Reads the files of host-local.
///
/// What precedes the first zero byte, if there is one, is the name of the file.
pub fn reservations(bytes: &[u8]) {
    let (name, content) = split(bytes);
    oxcni_host_local::fuzzing::reservation(&String::from_utf8_lossy(name), content);
    oxcni_host_local::fuzzing::index(0, 1, content);
    oxcni_host_local::fuzzing::resolv_conf(&String::from_utf8_lossy(content));
}

/// Reads answers of the kernel to requests of links, addresses, routes and VLANs.
pub fn netlink(bytes: &[u8]) {
    cni_core::netlink::fuzzing::datagram(bytes);
}

/// Reads answers of the kernel about rules and the elements of sets.
pub fn netfilter(bytes: &[u8]) {
    cni_core::netfilter::fuzzing::datagram(bytes);
}

/// Gives messages of a DHCP server to a client, also as packets of the link.
///
/// Each input is one message, which the client gets twice at each step of a lease: its transaction and
/// hardware address are those of the client, or nothing behind that check would be reached.
pub fn dhcp(bytes: &[u8]) {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let _ = frame::payload(bytes);
    v6::RouterDns::default().read(bytes, Time(0));
    dhcp_ipv6(bytes);
    let Some(mut packet) = Packet::parse(bytes) else { return };
    let again = Packet::parse(&packet.to_bytes()).expect("our own messages can be read");
    assert_eq!(again.options.get(code::MESSAGE_TYPE), packet.options.get(code::MESSAGE_TYPE));
    let (client_id, timing) = (vec![0, 1], Timing::default());
    let (request, provide) = (vec![1, 3, 6], Vec::new());
    let mut client =
        Client::new(Config { mac: MAC, client_id, request, provide, broadcast: false, timing }, 1);
    let mut now = Time(0);
    let mut actions = client.step(Event::Start, now);
    for _ in 0..4 {
        if let Some(sent) = actions.iter().find_map(message) {
            packet.xid = sent.xid;
        }
        packet.chaddr = MAC;
        packet.reply = true;
        for kind in [MessageType::Offer, MessageType::Ack] {
            packet.options.set(code::MESSAGE_TYPE, [kind as u8]);
            actions = client.step(Event::Received(&packet), now);
            if let Some(sent) = actions.iter().find_map(message) {
                packet.xid = sent.xid;
            }
        }
        if let Some(lease) = client.lease() {
            let _ = (lease.routes(), lease.name_servers(), lease.domain(), lease.search(), lease.mtu());
        }
        let Some(deadline) = client.deadline() else { return };
        assert!(deadline >= now, "a client waits for the past");
        now = deadline;
        actions = client.step(Event::Timer, now);
    }
}

/// The same for DHCPv6: the message is an answer to each that the client sends.
fn dhcp_ipv6(bytes: &[u8]) {
    let Some(read) = v6::Message::parse(bytes) else { return };
    assert_eq!(read.to_bytes(), bytes);
    let config = v6::Config { duid: vec![0, 4, 7], iaid: 1, request: vec![23] };
    let mut client = v6::Client::new(config, 1);
    let mut now = Time(0);
    let mut actions = client.step(v6::Event::Start, now);
    let mut options = v6::Options::default();
    options.push(v6::code::CLIENT_ID, [0, 4, 7]);
    for (number, value) in read.options.iter().filter(|(number, _)| *number != v6::code::CLIENT_ID) {
        options.push(number, value);
    }
    let mut xid = 0;
    for _ in 0..6 {
        for kind in [v6::MessageType::Advertise, v6::MessageType::Reply] {
            let sent = actions.iter().find_map(|action| match action {
                v6::Action::Send { message, .. } => v6::Message::parse(message),
                _ => None,
            });
            xid = sent.map_or(xid, |sent| sent.xid);
            let answer = v6::Message { kind, xid, options: options.clone() };
            actions = client.step(v6::Event::Received(&answer), now);
        }
        if let Some(lease) = client.lease() {
            let _ = (lease.name_servers(), lease.search());
            assert!(lease.expiry().is_none_or(|expiry| now < expiry));
        }
        let Some(deadline) = client.deadline() else { return };
        assert!(deadline >= now, "a client waits for the past");
        now = deadline;
        actions = client.step(v6::Event::Timer, now);
    }
}

/// The message that an action sends.
fn message(action: &Action) -> Option<Packet> {
    match action {
        Action::Send { message, .. } => Packet::parse(message),
        _ => None,
    }
}

/// What is before the first zero byte, and what is after it; all of it is after where there is none.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[], bytes),
    }
}
