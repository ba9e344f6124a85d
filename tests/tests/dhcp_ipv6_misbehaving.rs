//! The dhcp daemon against a DHCPv6 server that does everything wrong.

use oxcni_tests::dhcp::dual_stack::{config, server};
use oxcni_tests::dhcp::{Ipv6Request, Message as _, ScriptedIpv6, association};
use oxcni_tests::{Host, Outcome, both_flavours};
use serde_json::json;

/// ADD on a network with a server of this script.
fn add_with(
    host: &Host,
    daemon: &[&str],
    script: impl Fn(&Ipv6Request, usize) -> Vec<Vec<u8>> + Send + 'static,
    check: impl FnOnce(&Outcome, &ScriptedIpv6, &str),
) {
    let machine = server(host);
    let server = ScriptedIpv6::start(&machine, script);
    let daemon = host.dhcp_daemon(daemon);
    let net = host.network(config("ipv6"));
    let pod = host.container();
    let outcome = net.add(&pod);
    check(&outcome, &server, &daemon.log());
    net.del(&pod).succeeds();
    // Whatever came, the daemon is alive.
    net.status().succeeds();
}

/// The right answers to SOLICIT and REQUEST, after these before each of them.
fn after(wrong: impl Fn(&Ipv6Request) -> Vec<Vec<u8>>) -> impl Fn(&Ipv6Request, usize) -> Vec<Vec<u8>> {
    move |request, _| {
        let mut answers = wrong(request);
        answers.push(request.answer().bytes());
        answers
    }
}

#[track_caller]
fn is_leased(outcome: &Outcome) {
    assert_eq!(outcome.result()["ips"][0]["address"], "fd00:1::77/128");
}

const BRIEF: [&str; 2] = ["-resendtimeout", "6s"];

both_flavours! {
    on_any_kernel: "the daemon's timers decide, not the kernel";

    fn answers_that_come_late_or_twice_count(host) needs [Macvlan] {
        let script = |request: &Ipv6Request, before: usize| {
            if before < 1 { Vec::new() } else { vec![request.answer().bytes(); 2] }
        };
        add_with(&host, &[], script, |outcome, server, _| {
            is_leased(outcome);
            let solicits = server.seen(1);
            assert_eq!(solicits[0].option(1), solicits[1].option(1));
            assert_eq!(server.seen(3)[0].option(2), Some(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 9][..]));
        });
    }

    fn garbage_and_answers_for_others_do_not_count(host) needs [Macvlan] {
        let script = after(|request| {
            let bad = || {
                let reply = request.answer();
                reply.with(3, &association([300, 600], "fd00:1::66", [1000, 1000]))
            };
            let mut xid = bad();
            xid.header[3] ^= 1;
            let mut kind = bad();
            kind.header[0] = 10;
            let mut relayed = bad();
            relayed.header[0] = 13;
            let mut nameless = bad();
            nameless.options.retain(|(number, _)| *number != 2);
            let mut answers = vec![xid, kind, relayed, nameless, bad().with(1, &[0, 4, 1, 2, 3])];
            answers.push(bad().with(3, &association([300, 600], "ff02::66", [1000, 1000])));
            answers.push(bad().with(3, &association([300, 600], "fd00:1::66", [1000, 10])));
            let mut answers: Vec<Vec<u8>> = answers.iter().map(|it| it.bytes()).collect();
            let good = bad().bytes();
            answers.extend((0..good.len()).filter(|end| *end != good.len()).map(|end| good[..end].to_vec()));
            answers.extend((0..20_u8).map(|seed| (0..200_u8).map(|i| i.wrapping_mul(seed.wrapping_mul(2) | 1)).collect()));
            answers
        });
        add_with(&host, &[], script, |outcome, _, _| is_leased(outcome));
    }

    fn timers_in_disorder_are_refused(host) needs [Macvlan] {
        let script = |request: &Ipv6Request, _: usize| {
            vec![request.answer().with(3, &association([600, 300], "fd00:1::77", [1000, 1000])).bytes()]
        };
        add_with(&host, &BRIEF, script, |outcome, _, log| {
            outcome.fails(11, &["eth0", "no server granted"]);
            assert!(log.contains("event=message-refused") && log.contains("T1 is after its T2"), "{log}");
        });
    }

    fn a_server_that_refuses_every_request_is_not_stormed(host) needs [Macvlan] {
        let script = |request: &Ipv6Request, _: usize| {
            let reply = request.answer();
            vec![if request.kind() == 3 { reply.with(3, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 0, 2, 0, 2]) } else { reply }.bytes()]
        };
        add_with(&host, &["-resendtimeout", "8s"], script, |outcome, server, log| {
            outcome.fails(11, &["refusals"]);
            assert!(log.contains("NoAddrsAvail"), "{log}");
            assert!((2..=5).contains(&server.seen(3).len()), "{} requests in 8 s", server.seen(3).len());
        });
    }

    fn a_release_waits_for_no_server_that_is_silent(host) needs [Macvlan] {
        let script = |request: &Ipv6Request, _: usize| {
            if request.kind() == 8 { Vec::new() } else { vec![request.answer().bytes()] }
        };
        let machine = host.veth_pair("eth1", "server", &["fd00:1::1/64"]);
        let server = ScriptedIpv6::start(&machine, script);
        let _daemon = host.dhcp_daemon(&[]);
        let net = host.network(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1",
            "ipam": { "type": "dhcp", "family": "ipv6" },
        }));
        let pod = host.container();
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        let released = server.seen(8).len();
        assert!((1..=2).contains(&released), "{released} RELEASE messages");
    }
}
