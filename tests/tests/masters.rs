//! What holds for interfaces on a master of either kind, macvlan and ipvlan: finding the master,
//! names, many at once, ends of all kinds.

use oxcni_tests::{Container, Host, Network, both_flavours, cases, kill_at_syscall, with_keys};
use serde_json::{Value, json};

fn config(kind: &str, rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": kind, "master": "eth1",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

fn outside(host: &Host) -> Container<'_> {
    host.veth_pair("eth1", "outside", &["10.1.2.250/24", "fd00:1::250/64", "10.1.3.250/24"])
}

/// Nothing of an attachment in the container, on the host, or in the reservations.
fn nothing_is_left(net: &Network<'_>, pod: &Container<'_>, when: &str) {
    let links = pod.sh("ip -br link show");
    assert_eq!(links.lines().count(), 1, "{when}: the container has {links}");
    let name = net.config()["name"].as_str().expect("a name");
    assert!(pod.host().reservations(name).is_empty(), "{when}: {:?}", pod.host().reservations(name));
}

/// Without `master` it is the link of the default route, of either family; without one an error.
fn default_master(kind: &str, host: &Host) {
    outside(host);
    host.veth_pair("eth2", "elsewhere", &[]);
    let net = host.network(config(kind, json!({}))).with("master", None);
    let pod = host.container();
    let before = host.state();
    net.add(&pod).fails(7, &["default route", "eth1", "eth2", "lo"]);
    assert_eq!(host.state(), before);
    nothing_is_left(&net, &pod, "without a default route");
    for (way, master) in [("10.1.2.251/24 dev eth1", "eth1"), ("fd00:1::251/64 dev eth2 nodad", "eth2")] {
        let gateway = if way.contains(':') { "fd00:1::250" } else { "10.1.2.250" };
        host.ip(&format!("addr add {way}; route add default via {gateway} dev {master}"));
        let result = net.add(&pod).result();
        assert_eq!(pod.link("eth0")["link_index"], host.link(master)["ifindex"], "{way}");
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        host.sh(&format!("ip route del default via {gateway} dev {master}"));
    }
}

/// Names an existing host interface that could have been meant.
fn missing_master(kind: &str, host: &Host) {
    outside(host);
    let (before, pod) = (host.state(), host.container());
    let net = host.network(config(kind, json!({ "master": "eth7" })));
    net.add(&pod).fails(7, &["eth7", "eth1", "lo"]);
    // In the container it is another list.
    pod.sh("ip link add name in-here type bridge");
    let error = net.with("linkInContainer", json!(true)).add(&pod).fails(7, &["eth7", "in-here"]);
    assert!(!error.text().contains("eth1"), "{error:?}");
    pod.sh("ip link del in-here");
    nothing_is_left(&host.network(config(kind, json!({}))), &pod, "after the errors");
    assert_eq!(host.state(), before);
}

fn mtu(kind: &str, host: &Host) {
    outside(host);
    host.sh("ip link set eth1 mtu 1400");
    let (before, pod) = (host.state(), host.container());
    let net = |mtu: u32| host.network(config(kind, json!({ "mtu": mtu })));
    if kind == "ipvlan" {
        // The kernel takes it, and so does the Go plugin.
        let result = net(1401).add(&pod).result();
        assert_eq!(pod.link("eth0")["mtu"], 1401);
        net(1401).check(&pod, &result).succeeds();
        net(1401).del(&pod).succeeds();
    } else {
        net(1401).add(&pod).fails(7, &["1401", "1400", "eth1"]);
    }
    // The kernel says what is wrong, and nothing else is named for a cause.
    let text = net(67).add(&pod).error().text();
    assert!(text.contains("mtu less than device minimum") && !text.contains("master"), "{text}");
    nothing_is_left(&net(0), &pod, "after an MTU that can't be");
    assert_eq!(host.state(), before);
    for (requested, expected) in [(0, 1400), (1400, 1400), (1300, 1300)] {
        let result = net(requested).add(&pod).result();
        assert_eq!(pod.link("eth0")["mtu"], expected);
        // The master's may fall, and the interface's with it.
        host.sh("ip link set eth1 mtu 1280");
        net(requested).check(&pod, &result).succeeds();
        host.sh("ip link set eth1 mtu 1400");
        net(requested).del(&pod).succeeds();
    }
}

/// The container has the master: two networks on it, and the host sees nothing of them.
fn link_in_container(kind: &str, host: &Host) {
    let pod = host.container();
    let outside = host.named_container("outside");
    host.sh("ip link add name eth1 netns c1 type veth peer name eth0 netns outside");
    pod.sh("ip link set eth1 up");
    outside.ip("link set eth0 up; addr add 10.1.2.250/24 dev eth0; addr add 10.1.3.250/24 dev eth0");
    let network = |name: &str, subnet: &str| {
        let rest = json!({ "name": name, "linkInContainer": true, "ipam": { "type": "host-local", "subnet": subnet } });
        host.network(config(kind, rest))
    };
    let first = network("net", "10.1.2.0/24").ifname("net1");
    let second = network("net2", "10.1.3.0/24").ifname("net2");
    let results = [first.add(&pod).result(), second.add(&pod).result()];
    assert_eq!(host.links(), ["lo"]);
    assert!(pod.reaches("10.1.2.250") && pod.reaches("10.1.3.250"));
    assert!(outside.reaches("10.1.2.2") && outside.reaches("10.1.3.2"));
    assert_eq!(results[1]["interfaces"][0]["sandbox"], pod.netns());
    for (net, result) in [(&first, &results[0]), (&second, &results[1])] {
        net.check(&pod, result).succeeds();
    }
    // A master of that name on the host is another one.
    host.sh("ip link add name eth1 type veth peer name other");
    first.clone().with("linkInContainer", json!(false)).check(&pod, &results[0]).error();
    first.del(&pod).succeeds();
    assert!(pod.reaches("10.1.3.250"), "the DEL of one network took another one's");
    pod.sh("ip link del eth1");
    second.del(&pod).succeeds();
    nothing_is_left(&first, &pod, "after DEL");
    assert!(host.reservations("net2").is_empty());
}

fn two_networks(kind: &str, host: &Host) {
    let outside = outside(host);
    let first = host.network(config(kind, json!({})));
    let second = host.network(config(
        kind,
        json!({ "name": "net2",
        "ipam": { "type": "host-local", "subnet": "10.1.3.0/24" } }),
    ));
    let (both, one, two) = (host.container(), host.container(), host.container());
    let second_link = second.clone().ifname("net1");
    first.add(&both).succeeds();
    second_link.add(&both).succeeds();
    first.add(&one).succeeds();
    second.add(&two).succeeds();
    assert!(both.reaches("10.1.2.3") && both.reaches("10.1.3.3") && both.reaches("fd00:1::3"));
    assert!(outside.reaches("10.1.2.2") && outside.reaches("10.1.3.2"));
    assert!(one.is_cut_off_from("10.1.3.3"));
    first.del(&both).succeeds();
    assert!(both.reaches("10.1.3.3"), "the DEL of one network took another one's");
    second_link.del(&both).succeeds();
    nothing_is_left(&host.network(config(kind, json!({ "name": "net3" }))), &both, "after DEL");
    assert_eq!(host.reservations("net").len(), 2);
    assert_eq!(host.reservations("net2").len(), 1);
}

/// The host's link, even the master itself, may have the name that the container's is to have.
fn same_name_on_both_sides(kind: &str, host: &Host) {
    let outside = host.veth_pair("eth0", "outside", &["10.1.2.250/24"]);
    let net = host.network(config(kind, json!({ "master": "eth0" })));
    let before = host.state();
    let (one, two) = (host.container(), host.container());
    let results = [&one, &two].map(|pod| net.add(pod).result());
    for (pod, result) in [&one, &two].into_iter().zip(&results) {
        assert_eq!(result["interfaces"][0]["name"], "eth0");
        assert_eq!(pod.sh("ip -br link show").lines().count(), 2, "{}", pod.sh("ip -br link show"));
        assert!(pod.reaches("10.1.2.250"));
        net.check(pod, result).succeeds();
    }
    assert!(one.reaches("10.1.2.3") && outside.reaches("10.1.2.2"));
    net.add(&one).fails(4, &["CNI_IFNAME", "eth0"]);
    assert!(one.reaches("10.1.2.250"), "a refused second ADD broke the first");
    for pod in [&one, &two] {
        net.del(pod).succeeds();
    }
    nothing_is_left(&net, &one, "after DEL");
    assert_eq!(host.state(), before);
}

fn sixty_four_at_once(kind: &str, host: &Host) {
    let outside = outside(host);
    let net =
        host.network(config(kind, json!({ "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } })));
    let containers: Vec<_> = (0..64).map(|_| host.container()).collect();
    let adding: Vec<_> = containers.iter().map(|pod| net.start_add(pod)).collect();
    let results: Vec<_> = adding.into_iter().map(|running| running.wait().result()).collect();
    let mut given: Vec<_> = results.iter().map(|result| result["ips"][0]["address"].to_string()).collect();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 64);
    for pod in [&containers[0], &containers[63]] {
        assert!(pod.reaches("10.1.2.250"));
    }
    assert!(outside.reaches("10.1.2.33"));
    let deleting: Vec<_> = containers.iter().map(|pod| net.start_del(pod)).collect();
    for running in deleting {
        running.wait().succeeds();
    }
    for pod in &containers {
        nothing_is_left(&net, pod, "after 64");
    }
}

/// Kills ADD at moments evenly over its life; on `eth0`, whose name the host has too, where older
/// kernels need a temporary name.
fn killed_add(kind: &str, host: &Host) {
    host.veth_pair("eth0", "outside", &[]);
    let net = host.network(config(kind, json!({ "master": "eth0" })));
    let before = host.state();
    let whole = host.container();
    let (length, status) = kill_at_syscall(&net.call("ADD", &whole), u64::MAX);
    assert!(status.success() && length > 50, "{length} stops, {status}");
    net.del(&whole).succeeds();
    nothing_is_left(&net, &whole, "not killed at all");
    let points = u64::from(cases(60));
    let step = (length / points).max(1);
    let mut killed = 0;
    for stop in (1..=length).step_by(usize::try_from(step).expect("a step")) {
        let pod = host.container();
        let (_, status) = kill_at_syscall(&net.call("ADD", &pod), stop);
        killed += u64::from(!status.success());
        net.del(&pod).succeeds();
        nothing_is_left(&net, &pod, &format!("killed at {stop} of {length}"));
    }
    assert!(killed * 10 > points * 5, "only {killed} of {points} were killed");
    net.add(&whole).succeeds();
    net.del(&whole).succeeds();
    assert_eq!(host.state(), before);
}

/// Kills ADD at every moment about the one at which the link comes to be: nothing of it stays under
/// whatever name.
fn killed_while_the_link_is_made(kind: &str, host: &Host) {
    host.veth_pair("eth0", "outside", &[]);
    let net = host.network(config(kind, json!({ "master": "eth0", "ipam": of_static() })));
    let links = |pod: &Container<'_>| pod.sh("ip -br link show").lines().count();
    let killed_at = |stop: u64| {
        let pod = host.container();
        let (length, _) = kill_at_syscall(&net.call("ADD", &pod), stop);
        let found = links(&pod);
        net.del(&pod).succeeds();
        assert_eq!(links(&pod), 1, "killed at {stop}: {}", pod.sh("ip -br link show"));
        (length, found)
    };
    let (mut before, mut after) = (1, killed_at(u64::MAX).0);
    while after - before > 1 {
        let middle = u64::midpoint(before, after);
        if killed_at(middle).1 > 1 { after = middle } else { before = middle }
    }
    for stop in after..after + 24 {
        killed_at(stop);
    }
}

fn of_static() -> Value {
    json!({ "type": "static", "addresses": [{ "address": "10.1.2.2/24" }] })
}

fn del_when_things_are_gone(kind: &str, host: &Host) {
    outside(host);
    let net = host.network(config(kind, json!({})));
    type TakeAway<'f> = &'f dyn Fn(&Container<'_>);
    let gone: [(&str, TakeAway<'_>); 5] = [
        ("nothing", &|_| {}),
        ("the link", &|pod| drop(pod.sh("ip link del eth0"))),
        ("the namespace", &|pod| pod.vanish()),
        ("the namespace's mount", &|pod| drop(host.sh(&format!("umount {}", pod.netns())))),
        ("the master", &|_| drop(host.sh("ip link del eth1"))),
    ];
    for (what, take_away) in gone {
        let pod = host.container();
        let result = net.add(&pod).result();
        take_away(&pod);
        if what != "nothing" {
            assert!(!net.check(&pod, &result).ok(), "CHECK does not see that {what} is gone");
        }
        net.del_after(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        net.call("DEL", &pod).without("CNI_NETNS").run().succeeds();
        assert!(host.reservations("net").is_empty(), "{what} is gone: {:?}", host.reservations("net"));
    }
}

fn check_finds_changes(kind: &str, other_mode: &str, host: &Host) {
    outside(host);
    let net = host.network(config(kind, json!({})));
    let spoil = |what: &str, spoiler: &dyn Fn(&Container<'_>), repair: &str| {
        let pod = host.container();
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        spoiler(&pod);
        let error = net.check(&pod, &result).error();
        assert!(!error.msg.is_empty(), "{what}");
        host.sh(repair);
        net.del(&pod).succeeds();
    };
    let on_host = |script: &'static str| move |_: &Container<'_>| drop(host.sh(script));
    spoil("an address that is gone", &|pod| drop(pod.sh("ip -4 addr flush dev eth0")), "true");
    spoil(
        "another kind of interface",
        &|pod| {
            let mac = pod.mac("eth0");
            pod.ip(&format!(
                "link del eth0; link add name eth0 address {mac} type bridge; link set eth0 up; \
            addr add 10.1.2.2/24 dev eth0; addr add fd00:1::2/64 dev eth0 nodad"
            ));
        },
        "true",
    );
    let rename = "ip link set eth1 down; ip link set eth1 name eth9; ip link set eth9 up";
    let back = "ip link set eth9 down; ip link set eth9 name eth1; ip link set eth1 up";
    spoil("a master that was renamed", &on_host(rename), back);
    let renamed_and_replaced = "ip link set eth1 down; ip link set eth1 name eth9; \
        ip link add name eth1 type veth peer name eth1p; ip link set eth1 up";
    spoil(
        "a master that was renamed and another in its place",
        &on_host(renamed_and_replaced),
        &format!("ip link del eth1; {back}"),
    );
    host.named_container("away");
    spoil(
        "a master that was moved",
        &on_host("ip link set eth1 netns away"),
        "ip -n away link set eth1 netns $$; ip link set eth1 up",
    );

    let pod = host.container();
    let result = net.add(&pod).result();
    let changed = net.clone().with("mode", json!(other_mode)).check(&pod, &result).error();
    assert!(changed.text().to_lowercase().contains(other_mode), "{changed:?}");
    host.veth_pair("eth2", "elsewhere", &[]);
    let moved = net.clone().with("master", json!("eth2")).check(&pod, &result).error();
    assert!(moved.text().contains("eth1") && moved.text().contains("eth2"), "{moved:?}");
    net.check(&pod, &result).succeeds();
}

mod macvlan {
    use super::*;

    both_flavours! {
        fn default_master_is_the_link_of_the_default_route(host) needs [Macvlan] {
            default_master("macvlan", &host);
        }

        fn missing_master_is_refused_with_the_links_that_exist(host) needs [Macvlan] {
            missing_master("macvlan", &host);
        }

        fn mtu_is_bounded_by_the_kernel_and_for_macvlan_by_the_master(host) needs [Macvlan] {
            mtu("macvlan", &host);
        }

        fn link_in_container_takes_a_master_of_the_container(host) needs [Macvlan] {
            link_in_container("macvlan", &host);
        }

        fn two_networks_share_a_master(host) needs [Macvlan] {
            two_networks("macvlan", &host);
        }

        fn the_host_may_have_a_link_of_the_same_name(host) needs [Macvlan] {
            same_name_on_both_sides("macvlan", &host);
        }

        fn sixty_four_at_once_and_nothing_left(host) needs [Macvlan] {
            sixty_four_at_once("macvlan", &host);
        }

        fn killed_add_leaves_nothing_after_del(host) needs [Macvlan] {
            killed_add("macvlan", &host);
        }

        fn killed_while_the_link_is_made_leaves_nothing_after_del(host) needs [Macvlan] {
            killed_while_the_link_is_made("macvlan", &host);
        }

        fn del_succeeds_when_things_are_gone(host) needs [Macvlan] {
            del_when_things_are_gone("macvlan", &host);
        }

        fn check_finds_what_is_not_as_it_was(host) needs [Macvlan] {
            check_finds_changes("macvlan", "private", &host);
        }
    }
}

mod ipvlan {
    use super::*;

    both_flavours! {
        fn default_master_is_the_link_of_the_default_route(host) needs [Ipvlan] {
            default_master("ipvlan", &host);
        }

        fn missing_master_is_refused_with_the_links_that_exist(host) needs [Ipvlan] {
            missing_master("ipvlan", &host);
        }

        fn mtu_is_bounded_by_the_kernel_and_for_macvlan_by_the_master(host) needs [Ipvlan] {
            mtu("ipvlan", &host);
        }

        fn link_in_container_takes_a_master_of_the_container(host) needs [Ipvlan] {
            link_in_container("ipvlan", &host);
        }

        fn two_networks_share_a_master(host) needs [Ipvlan] {
            two_networks("ipvlan", &host);
        }

        fn the_host_may_have_a_link_of_the_same_name(host) needs [Ipvlan] {
            same_name_on_both_sides("ipvlan", &host);
        }

        fn sixty_four_at_once_and_nothing_left(host) needs [Ipvlan] {
            sixty_four_at_once("ipvlan", &host);
        }

        fn killed_add_leaves_nothing_after_del(host) needs [Ipvlan] {
            killed_add("ipvlan", &host);
        }

        fn killed_while_the_link_is_made_leaves_nothing_after_del(host) needs [Ipvlan] {
            killed_while_the_link_is_made("ipvlan", &host);
        }

        fn del_succeeds_when_things_are_gone(host) needs [Ipvlan] {
            del_when_things_are_gone("ipvlan", &host);
        }

        fn check_finds_what_is_not_as_it_was(host) needs [Ipvlan] {
            check_finds_changes("ipvlan", "l3", &host);
        }
    }
}

both_flavours! {
    fn a_master_does_not_carry_both_kinds(host) needs [Macvlan, Ipvlan] {
        outside(&host);
        for (first, second) in [("macvlan", "ipvlan"), ("ipvlan", "macvlan")] {
            let (one, two) = (host.container(), host.container());
            let net = host.network(config(first, json!({})));
            net.add(&one).succeeds();
            let other = host.network(config(second, json!({ "name": "other" })));
            other.add(&two).fails(7, &["eth1", "macvlan", "ipvlan"]);
            nothing_is_left(&other, &two, "after the refusal");
            net.del(&one).succeeds();
            other.add(&two).succeeds();
            other.del(&two).succeeds();
        }
    }

    fn a_port_of_a_bridge_is_refused_as_master_by_name_of_the_bridge(host) needs [Macvlan] {
        outside(&host);
        host.ip("link add name br7 type bridge; link set eth1 master br7");
        let pod = host.container();
        let net = host.network(config("macvlan", json!({})));
        net.add(&pod).fails(7, &["eth1", "br7"]);
        nothing_is_left(&net, &pod, "after the refusal");
    }
}
