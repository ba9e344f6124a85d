//! Killed at any moment, or left alone by what it works on: a DEL then leaves nothing behind.

use oxcni_tests::{Host, Network, both_flavours, cases, kill_at_syscall, with_keys};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-crash", "isGateway": true, "ipMasq": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

/// Nothing that belongs to an attachment; the bridge and its gateway address may stay.
fn nothing_is_left(host: &Host, when: &str) {
    let links = host.links();
    assert!(links.iter().all(|link| ["lo", "br-crash"].contains(&link.as_str())), "{when}: {links:?}");
    assert!(host.rules().is_empty(), "{when}: {:#?}", host.rules());
    assert!(host.reservations("net").is_empty(), "{when}: {:?}", host.reservations("net"));
}

/// Kills an ADD at about `points` moments, evenly over its life, each on a bridge that is not
/// there yet or already is, and looks what a DEL leaves.
fn killed_everywhere(host: &Host, net: &Network<'_>, points: u32) {
    let points = u64::from(cases(points));
    let whole = || {
        drop(host.try_sh("ip link del br-crash"));
        let pod = host.container();
        let (length, status) = kill_at_syscall(&net.call("ADD", &pod), u64::MAX);
        assert!(status.success(), "ADD fails under a tracer: {status}");
        net.del(&pod).succeeds();
        nothing_is_left(host, "not killed at all");
        length
    };
    // On a busy machine one may wait longer, for more events.
    let length = whole().min(whole());
    assert!(length > 50, "an ADD of {length} stops");

    let step = (length / points).max(1);
    let mut killed = 0;
    for (round, stop) in (1..=length).step_by(usize::try_from(step).expect("a step")).enumerate() {
        if round % 4 == 0 {
            drop(host.try_sh("ip link del br-crash"));
        }
        let pod = host.container();
        let (_, status) = kill_at_syscall(&net.call("ADD", &pod), stop);
        killed += u64::from(!status.success());
        net.del(&pod).succeeds();
        assert!(pod.link("eth0").is_null(), "killed at {stop} of {length}: the container keeps its link");
        nothing_is_left(host, &format!("killed at {stop} of {length}"));
        // And what comes after it works.
        if round % 8 == 0 {
            net.add(&pod).succeeds();
            net.del(&pod).succeeds();
        }
    }
    assert!(killed * 10 > points * 5, "only {killed} of {points} were killed");
}

both_flavours! {
    fn killed_add_leaves_nothing_after_del(host) {
        killed_everywhere(&host, &host.network(config(json!({}))), 80);
    }

    fn killed_add_with_spoof_check_leaves_nothing_after_del(host) needs [NftBridge] {
        killed_everywhere(&host, &host.network(config(json!({ "macspoofchk": true, "ipMasq": false }))), 30);
    }

    fn killed_add_leaves_no_half_of_a_vlan_gateway(host) needs [BridgeVlan] {
        let net = host.network(config(json!({ "vlan": 100, "ipMasq": false })));
        let measured = host.container();
        let (length, _) = kill_at_syscall(&net.call("ADD", &measured), u64::MAX);
        net.del(&measured).succeeds();
        for stop in (1..length).step_by(usize::try_from((length / u64::from(cases(40))).max(1)).expect("a step")) {
            drop(host.try_ip("link del br-crash.100; link del br-crash"));
            let (killed, next) = (host.container(), host.container());
            kill_at_syscall(&net.call("ADD", &killed), stop);
            net.del(&killed).succeeds();
            let result = net.add(&next).result();
            assert!(next.reaches("10.1.2.1"), "killed at {stop} of {length}");
            net.check(&next, &result).succeeds();
            net.del(&next).succeeds();
        }
    }

    fn killed_del_is_finished_by_the_next(host) {
        let net = host.network(config(json!({})));
        let measured = host.container();
        net.add(&measured).succeeds();
        let (length, _) = kill_at_syscall(&net.call("DEL", &measured), u64::MAX);
        for stop in (1..length).step_by(usize::try_from((length / u64::from(cases(25))).max(1)).expect("a step")) {
            let pod = host.container();
            net.add(&pod).succeeds();
            kill_at_syscall(&net.call("DEL", &pod), stop);
            net.del(&pod).succeeds();
            nothing_is_left(&host, &format!("DEL killed at {stop} of {length}"));
        }
    }

    fn killed_host_local_add_never_leaves_half_a_reservation(host) {
        let net = host.network(json!({ "cniVersion": "1.1.0", "name": "net", "type": "host-local",
            "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } }));
        let measured = host.container();
        let (length, _) = kill_at_syscall(&net.call("ADD", &measured), u64::MAX);
        net.del(&measured).succeeds();
        for stop in (1..length).step_by(usize::try_from((length / u64::from(cases(200))).max(1)).expect("a step")) {
            let pod = host.container();
            kill_at_syscall(&net.call("ADD", &pod), stop);
            for (address, holder) in host.reservations("net") {
                assert_eq!(holder, format!("{}\r\neth0", pod.id()), "{address}, killed at {stop} of {length}");
            }
            net.del(&pod).succeeds();
            let left = host.sh("ls -A /var/lib/cni/networks/net 2>/dev/null || true");
            let left: Vec<_> = left.split_whitespace().filter(|file| !["lock", "last_reserved_ip.0"].contains(file)).collect();
            assert!(left.is_empty(), "killed at {stop} of {length}: {left:?}");
        }
    }

    fn namespace_that_vanishes_during_add_leaves_nothing(host) {
        host.install_script("/run/plugins/vanish", "#!/bin/sh\n\
            if [ \"$CNI_COMMAND\" = ADD ]; then umount \"$CNI_NETNS\" && rm \"$CNI_NETNS\"; \
            echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.1.2.9/24\"}]}'; fi\n");
        let net = host.network(config(json!({ "ipam": { "type": "vanish" } }))).path_before("/run/plugins");
        let pod = host.container();
        // Success or failure, but no hang and no panic: it holds the namespace or does not.
        let outcome = net.add(&pod);
        if !outcome.ok() {
            outcome.error();
        }
        net.del(&pod).succeeds();
        // The kernel destroys a namespace that no process holds some time later.
        assert!(oxcni_tests::eventually(|| host.links() == ["br-crash", "lo"] || host.links() == ["lo"]), "{:?}", host.links());
        assert!(host.rules().is_empty(), "{:#?}", host.rules());
    }

    fn namespace_that_vanished_before_add_is_a_clear_error(host) {
        let net = host.network(config(json!({})));
        let pod = host.container();
        pod.vanish();
        let before = host.state();
        let error = net.add(&pod).error();
        assert!([4, 8].contains(&error.code), "{error:?}");
        assert!(error.text().contains("/run/netns/c1"), "{error:?}");
        assert_eq!(host.state(), before);
        assert!(host.reservations("net").is_empty());
    }

    fn failing_ipam_leaves_the_host_as_it_was(host) {
        let cases = [
            ("nothing", "#!/bin/sh\nexit 0\n"),
            ("garbage", "#!/bin/sh\necho not json\n"),
            ("error", "#!/bin/sh\necho '{\"cniVersion\":\"1.1.0\",\"code\":7,\"msg\":\"no such thing\",\"details\":\"as asked\"}'; exit 1\n"),
            ("crash", "#!/bin/sh\nkill -SEGV $$\n"),
            ("silent", "#!/bin/sh\nexit 3\n"),
            ("no-addresses", "#!/bin/sh\necho '{\"cniVersion\":\"1.1.0\",\"ips\":[]}'\n"),
            ("wrong-result", "#!/bin/sh\necho '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.1.2.300/24\"}]}'\n"),
        ];
        for (name, script) in cases {
            host.install_script(&format!("/run/plugins/{name}"), script);
            let net = host.network(config(json!({ "ipam": { "type": name } }))).path_before("/run/plugins");
            let pod = host.container();
            let before = host.state();
            let error = net.add(&pod).error();
            assert!(error.text().contains(name) || error.code == 7, "{error:?} does not name {name}");
            assert_eq!(host.state(), before, "{name}");
            assert!(pod.link("eth0").is_null(), "{name}");
        }
    }

    fn error_of_ipam_is_passed_on(host) {
        host.install_script("/run/plugins/refuse", "#!/bin/sh\n\
            echo '{\"cniVersion\":\"1.1.0\",\"code\":123,\"msg\":\"the moon is full\",\"details\":\"wait\"}'; exit 1\n");
        let net = host.network(config(json!({ "ipam": { "type": "refuse" } }))).path_before("/run/plugins");
        let error = net.add(&host.container()).error();
        assert!(error.text().contains("the moon is full"), "{error:?}");
    }

    fn reservation_is_given_back_when_the_link_can_not_be_made(host) {
        let net = host.network(config(json!({})));
        let pod = host.container();
        pod.sh("ip link add name eth0 type bridge");
        let before = host.state();
        assert!(net.add(&pod).error().text().contains("eth0"));
        assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
        assert_eq!(host.state(), before);
        assert_eq!(pod.link("eth0")["linkinfo"]["info_kind"], "bridge", "the link of another program is gone");
    }

    fn sixty_four_at_once_and_nothing_left(host) {
        let net = host.network(config(json!({})));
        let count = cases(64);
        let containers: Vec<_> = (0..count).map(|_| host.container()).collect();
        let adding: Vec<_> = containers.iter().map(|pod| net.start_add(pod)).collect();
        let mut given: Vec<_> = adding
            .into_iter()
            .map(|running| running.wait().result()["ips"][0]["address"].as_str().expect("an address").to_owned())
            .collect();
        given.sort();
        given.dedup();
        assert_eq!(given.len(), containers.len());
        assert!(containers[0].reaches("10.1.2.1"));
        let deleting: Vec<_> = containers.iter().map(|pod| net.start_del(pod)).collect();
        for running in deleting {
            running.wait().succeeds();
        }
        nothing_is_left(&host, "after 64");
    }
}
