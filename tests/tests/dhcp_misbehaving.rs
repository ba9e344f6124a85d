//! The dhcp daemon against a server that does everything wrong.

use oxcni_tests::dhcp::{Message as _, Request, Scripted};
use oxcni_tests::{Host, Outcome, both_flavours};
use serde_json::{Value, json};

type Answers = Vec<(u16, Vec<u8>)>;

/// ADD on a network with a server of this script.
fn add_with(
    host: &Host,
    daemon: &[&str],
    script: impl Fn(&Request, usize) -> Answers + Send + 'static,
    check: impl FnOnce(&Outcome, &Scripted, &str),
) {
    let machine = host.veth_pair("eth1", "server", &["10.1.2.1/24"]);
    let server = Scripted::start(&machine, script);
    let daemon = host.dhcp_daemon(daemon);
    let net = host.network(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1", "ipam": { "type": "dhcp" },
    }));
    let pod = host.container();
    let outcome = net.add(&pod);
    check(&outcome, &server, &daemon.log());
    net.del(&pod).succeeds();
    // Whatever came, the daemon is alive.
    net.status().succeeds();
}

/// Answers to DISCOVER and REQUEST, after these before each of them.
fn after(wrong: impl Fn(&Request) -> Answers) -> impl Fn(&Request, usize) -> Answers {
    move |request, _| {
        if !matches!(request.kind(), 1 | 3) {
            return Vec::new();
        }
        let mut answers = wrong(request);
        answers.push((67, request.answer().bytes()));
        answers
    }
}

fn leased(outcome: &Outcome) -> Value {
    outcome.result()["ips"][0]["address"].clone()
}

const QUICK: [&str; 2] = ["-timeout", "200ms"];
const BRIEF: [&str; 4] = ["-timeout", "200ms", "-resendtimeout", "6s"];

both_flavours! {
    on_any_kernel: "the daemon's timers decide, not the kernel";

    fn late_answers_count(host) needs [Macvlan] {
        // The first two messages of each type are lost; then all are answered, twice.
        let script = |request: &Request, before: usize| {
            if before < 2 { Vec::new() } else { vec![(67, request.answer().bytes()); 2] }
        };
        add_with(&host, &QUICK, script, |outcome, server, _| {
            assert_eq!(leased(outcome), "10.1.2.77/24");
            let ids: Vec<_> = server.seen(1).iter().map(|it| it.option(61).map(<[u8]>::to_vec)).collect();
            assert_eq!(ids[0], ids[2]);
        });
    }

    fn answers_from_another_port_count(host) needs [Macvlan] {
        let script = |request: &Request, _| vec![(1067, request.answer().bytes())];
        add_with(&host, &QUICK, script, |outcome, _, _| assert_eq!(leased(outcome), "10.1.2.77/24"));
    }

    fn answers_for_others_do_not_count(host) needs [Macvlan] {
        let script = after(|request| {
            let change = |at: usize| {
                let mut reply = request.answer();
                reply.header[at] ^= 1;
                reply.header[19] = 66;
                (67, reply.bytes())
            };
            // op, hardware type and length, transaction id, MAC address, magic cookie
            [0, 1, 2, 7, 33, 239].map(change).to_vec()
        });
        add_with(&host, &QUICK, script, |outcome, _, _| assert_eq!(leased(outcome), "10.1.2.77/24"));
    }

    fn garbage_does_not_count(host) needs [Macvlan] {
        let script = after(|request| {
            let good = request.answer().bytes();
            let mut answers: Answers = (0..good.len()).step_by(7).map(|end| (67, good[..end.min(245)].to_vec())).collect();
            answers.extend((0..20_u8).map(|seed| {
                let mut bytes = good.clone();
                bytes.truncate(240);
                bytes.extend((0..200_u8).map(|i| i.wrapping_mul(seed.wrapping_mul(2) | 1)));
                // What it says of itself is wrong, so that what it says of the lease is too.
                bytes[16..20].copy_from_slice(&[0, 0, 0, seed]);
                (67, bytes)
            }));
            answers
        });
        add_with(&host, &QUICK, script, |outcome, _, _| assert_eq!(leased(outcome), "10.1.2.77/24"));
    }

    fn options_in_other_fields_and_timers_in_disorder_are_understood(host) needs [Macvlan] {
        let script = |request: &Request, _: usize| {
            let mut reply = request.answer().with(52, &[3]).with(58, &[0, 0, 3, 0]).with(59, &[0, 0, 1, 0]);
            reply.header[108..115].copy_from_slice(&[3, 4, 10, 1, 2, 9, 255]);
            reply.header[44..51].copy_from_slice(&[6, 4, 10, 1, 2, 8, 255]);
            vec![(67, reply.bytes())]
        };
        let machine = host.veth_pair("eth1", "server", &["10.1.2.1/24"]);
        let _server = Scripted::start(&machine, script);
        let _daemon = host.dhcp_daemon(&QUICK);
        let net = host.network(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1", "ipam": { "type": "dhcp" },
        }));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["ips"][0]["gateway"], "10.1.2.9");
        assert_eq!(result["dns"]["nameservers"], json!(["10.1.2.8"]));
        let list = host.leases();
        let renewal = list[0]["renewal"].as_u64().expect("a time");
        assert!(renewal <= 256, "T1 after T2: {list}");
    }

    fn a_lease_without_time_is_refused(host) needs [Macvlan] {
        let script = |request: &Request, _: usize| vec![(67, request.answer().with(51, &[0; 4]).bytes())];
        add_with(&host, &BRIEF, script, |outcome, _, log| {
            outcome.fails(11, &["eth0"]);
            assert!(log.contains("event=message-refused") && log.contains("below 2 seconds"), "{log}");
        });
    }

    fn a_lease_without_end_is_kept(host) needs [Macvlan] {
        let script = |request: &Request, _: usize| vec![(67, request.answer().with(51, &[0xff; 4]).bytes())];
        add_with(&host, &QUICK, script, |outcome, _, log| {
            assert_eq!(leased(outcome), "10.1.2.77/24");
            assert!(log.contains("seconds=infinite"), "{log}");
        });
    }

    fn a_server_that_refuses_all_is_not_stormed(host) needs [Macvlan] {
        let script = |request: &Request, _: usize| {
            let reply = request.answer();
            vec![(67, if request.kind() == 3 { reply.with(53, &[6]).bytes() } else { reply.bytes() })]
        };
        add_with(&host, &["-timeout", "200ms", "-resendtimeout", "8s"], script, |outcome, server, _| {
            outcome.fails(11, &["NAK"]);
            assert!((2..=5).contains(&server.seen(3).len()), "{} requests in 8 s", server.seen(3).len());
        });
    }

    fn addresses_that_no_host_can_have_are_refused(host) needs [Macvlan] {
        let script = |request: &Request, _: usize| {
            let with = |address: [u8; 4]| {
                let mut reply = request.answer();
                reply.header[16..20].copy_from_slice(&address);
                (67, reply.bytes())
            };
            vec![with([0; 4]), with([255; 4]), with([224, 0, 0, 1]), with([127, 0, 0, 1])]
        };
        add_with(&host, &BRIEF, script, |outcome, _, _| drop(outcome.fails(11, &["eth0"])));
    }
}
