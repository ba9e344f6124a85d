//! A container may do what it likes in its own network namespace: its own calls may fail, but end
//! soon; a neighbour's calls succeed at their usual speed; nothing else of the host changes; and a
//! DEL leaves nothing.
//!
//! `OXCNI_HOSTILE_SECONDS` and `OXCNI_HOSTILE_SEED` make the attack longer and another one.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oxcni_tests::{
    Attack, Container, Host, Network, Outcome, Random, both_flavours, eventually, slowed, with_keys,
};
use serde_json::{Value, json};

/// A call that concerns the attacker ends within this time, with success or an error.
fn hostile_call() -> Duration {
    slowed(Duration::from_secs(10))
}

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-hostile",
            "isDefaultGateway": true, "ipMasq": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/16" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

/// A command of ip(8) that changes something in a container's namespace, or moves a link to another.
fn mischief(random: &mut Random, other_namespace: &str) -> String {
    const NAMES: [&str; 5] = ["eth0", "lo", "mine", "veth0", "eth1"];
    let (one, other) = (*random.one_of(&NAMES), *random.one_of(&NAMES));
    let number = random.below(250);
    match random.below(18) {
        0 => format!("link set {one} down"),
        1 => format!("link set {one} up"),
        2 | 3 => format!("link set {one} name {other}"),
        4 => format!("link set {one} netns {other_namespace}"),
        5..=7 => format!("link del {one}"),
        8 => format!("link add name {one} type bridge"),
        9 => format!("link add name {one} type veth peer name {other}"),
        10 => format!("link set {one} master {other}"),
        11 => format!("link set {one} mtu {}", 68 + number),
        12 => format!("link set {one} address 02:00:00:00:00:{number:02x}"),
        13 => format!("link property add dev {one} altname {}{number}", "a".repeat(120)),
        14 => format!("addr add 10.1.{number}.1/16 dev {one}"),
        15 => format!("addr flush dev {one}"),
        16 => format!("route replace blackhole 10.{number}.0.0/16"),
        _ => format!("route add default via 10.1.{number}.9 dev {one} onlink metric {number}"),
    }
}

/// Does mischief in the container until `done`; gives the number of commands.
fn attack(container: &Container<'_>, other_namespace: &str, mut random: Random, done: &AtomicBool) -> u64 {
    container.enter(|| {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            // `ip` passes over what the kernel refuses, but ends for what it does not understand itself.
            let mut ip = Command::new("ip")
                .args(["-force", "-batch", "-"])
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("starting ip");
            let mut commands = ip.stdin.take().expect("a pipe");
            while !done.load(Ordering::Relaxed)
                && writeln!(commands, "{}", mischief(&mut random, other_namespace)).is_ok()
            {
                count += 1;
            }
            drop(commands);
            ip.wait().expect("waiting for ip");
        }
        count
    })
}

fn timed(call: impl FnOnce() -> Outcome) -> (Outcome, Duration) {
    let begun = Instant::now();
    let outcome = call();
    (outcome, begun.elapsed())
}

/// One life of an attachment of the neighbour; gives the time of its slowest call.
fn quiet_life(net: &Network<'_>, neighbour: &Container<'_>) -> Duration {
    let (added, add) = timed(|| net.add(neighbour));
    let result = added.result();
    let (checked, check) = timed(|| net.check(neighbour, &result));
    checked.succeeds();
    let (deleted, del) = timed(|| net.del_after(neighbour, &result));
    deleted.succeeds();
    add.max(check).max(del)
}

/// Calls for the attacker, which may fail but not hang.
fn calls_for_the_attacker(
    net: &Network<'_>,
    hostile: &Container<'_>,
    all: &[&Container<'_>],
    done: &AtomicBool,
) -> u32 {
    let mut succeeded = 0;
    while !done.load(Ordering::Relaxed) {
        let (added, time) = timed(|| net.add(hostile));
        assert!(time < hostile_call(), "ADD took {time:?}:\n{added}");
        let result = if added.ok() {
            succeeded += 1;
            added.result()
        } else {
            added.error();
            json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": "eth0", "sandbox": hostile.netns() }], "ips": [] })
        };
        for (what, call) in [
            ("CHECK", net.clone().with("prevResult", result.clone()).call("CHECK", hostile)),
            ("DEL", net.call("DEL", hostile)),
        ] {
            let (outcome, time) = timed(|| call.run());
            assert!(time < hostile_call(), "{what} took {time:?}:\n{outcome}");
            if !outcome.ok() {
                outcome.error();
            }
        }
        let (collected, time) = timed(|| net.gc(all));
        assert!(time < hostile_call(), "GC took {time:?}:\n{collected}");
        collected.succeeds();
    }
    succeeded
}

fn attacked(host: &Host, net: &Network<'_>) {
    let Attack { duration, seed } = Attack::from_environment();
    let (hostile, neighbour, bystander) = (
        host.named_container("hostile"),
        host.named_container("neighbour"),
        host.named_container("bystander"),
    );
    let hideout = host.named_container("hideout");
    let name = net.config()["name"].as_str().expect("a name");
    let result = net.add(&bystander).result();
    let usual = (0..3).map(|_| quiet_life(net, &neighbour)).max().unwrap_or_default();
    let before = (host.state(), host.reservations(name), bystander.state());
    // A neighbour's call may wait for another that is served first, not for what the attacker does.
    let limit = slowed(Duration::from_secs(1)) + 5 * usual;

    let done = AtomicBool::new(false);
    let end = Instant::now() + duration;
    let (slowest, lives, mischiefs, added) = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| attack(&hostile, "hideout", Random::new(seed), &done));
        let accomplice = scope.spawn(|| attack(&hideout, "hostile", Random::new(seed + 1), &done));
        let runtime =
            scope.spawn(|| calls_for_the_attacker(net, &hostile, &[&hostile, &neighbour, &bystander], &done));
        // The others must end too where the neighbour fails.
        let neighbour = scope.spawn(|| {
            let (mut slowest, mut lives) = (Duration::ZERO, 0);
            while Instant::now() < end {
                slowest = slowest.max(quiet_life(net, &neighbour));
                lives += 1;
            }
            (slowest, lives)
        });
        let lived = neighbour.join();
        done.store(true, Ordering::Relaxed);
        let (mischiefs, added) = (attacker.join(), runtime.join());
        accomplice.join().expect("the attacker's accomplice");
        let (slowest, lives) = lived.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (slowest, lives, mischiefs.expect("the attacker"), added.expect("the attacker's runtime"))
    });
    println!(
        "seed {seed}: {mischiefs} changes, {added} ADDs of the attacker succeeded, {lives} lives of the neighbour, slowest call {slowest:?}"
    );
    assert!(slowest < limit, "the neighbour waited {slowest:?}, usually {usual:?} (seed {seed})");
    // An emulated processor manages few.
    assert!(mischiefs > 100 && lives > 1, "{mischiefs} changes, {lives} lives");
    net.check(&bystander, &result).succeeds();
    assert_eq!(bystander.state(), before.2, "the bystander's namespace changed (seed {seed})");

    // Its programs have ended, and with them the namespaces that they made; the sandbox is still there.
    hideout.vanish();
    net.del(&hostile).succeeds();
    assert_eq!(host.reservations(name), before.1, "seed {seed}");
    hostile.vanish();
    // The kernel takes a namespace and the links in it down in its own time.
    assert!(eventually(|| host.state()["links"] == before.0["links"]), "seed {seed}: {:?}", host.links());
    assert_eq!(host.state(), before.0, "seed {seed}");
    net.del(&bystander).succeeds();
    assert!(host.reservations(name).is_empty());
}

both_flavours! {
    fn a_hostile_container_on_a_bridge_hurts_only_itself(host) {
        attacked(&host, &host.network(config(json!({}))));
    }

    fn a_hostile_container_on_a_macvlan_hurts_only_itself(host) needs [Macvlan] {
        host.veth_pair("up0", "outside", &["10.1.255.250/16"]);
        // Without IPv6, whose duplicate address detection takes seconds.
        let ipam = json!({ "type": "host-local", "subnet": "10.1.0.0/16" });
        attacked(&host, &host.network(config(json!({ "type": "macvlan", "master": "up0", "ipam": ipam }))));
    }

    fn a_container_that_renames_its_loopback_to_eth0_is_deleted(host) {
        for kind in ["bridge", "macvlan"] {
            if kind == "macvlan" && !oxcni_tests::requirement::Feature::Macvlan.is_there() {
                continue;
            }
            if kind == "macvlan" {
                host.veth_pair("up0", "outside", &[]);
            }
            let net = host.network(config(json!({ "type": kind, "master": "up0" })));
            let pod = host.container();
            let result = net.add(&pod).result();
            pod.ip("link set lo down; link set eth0 down; link set eth0 name mine; link set lo name eth0");
            net.del_after(&pod, &result).succeeds();
            assert!(host.reservations("net").is_empty(), "{kind}: {:?}", host.reservations("net"));
            assert_eq!(pod.link("eth0")["ifindex"], 1, "{kind}: the loopback interface stays");
        }
    }

    fn a_link_of_another_kind_under_our_name_does_not_stop_del(host) {
        let net = host.network(config(json!({})));
        let pod = host.container();
        let result = net.add(&pod).result();
        pod.ip("link set eth0 down; link set eth0 name mine; link add name eth0 type bridge");
        net.del_after(&pod, &result).succeeds();
        assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
        assert!(host.rules().is_empty(), "{:?}", host.rules());
    }

    fn a_thousand_alternative_names_delay_no_call(host) {
        let net = host.network(config(json!({})));
        let (pod, neighbour) = (host.container(), host.container());
        let result = net.add(&pod).result();
        let names: Vec<_> = (0..490).map(|number| format!("link property add dev eth0 altname {}{number:03}", "n".repeat(124))).collect();
        pod.ip(&names.join(";"));
        let usual = quiet_life(&net, &neighbour);
        let (_, time) = timed(|| net.check(&pod, &result));
        assert!(time < hostile_call(), "CHECK took {time:?}");
        let (deleted, time) = timed(|| net.del(&pod));
        deleted.succeeds();
        assert!(time < hostile_call(), "DEL took {time:?}");
        assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
        assert!(quiet_life(&net, &neighbour) < usual * 5 + slowed(Duration::from_secs(1)));
    }

    fn a_bridge_name_that_is_a_pattern_is_refused(host) {
        for bridge in ["br%d", "%", "a%%b"] {
            let net = host.network(config(json!({ "bridge": bridge })));
            let error = net.add(&host.container()).error();
            assert!(error.text().contains(bridge), "{error:?}");
            assert_eq!(host.links(), ["lo"], "{bridge}");
            assert!(host.reservations("net").is_empty(), "{bridge}");
        }
    }
}
