//! The netfilter module against a real kernel, judged by nft(8) and iptables(8).
#![allow(clippy::unwrap_used)] // test code, also where it stands outside of a test function

use std::sync::Barrier;

use cni_core::firewall::{ADDRESSES_MAX, Masquerade};
use cni_core::netfilter::{
    ChainKind, Comparison, Element, Expression, Family, Field, Hook, KeyType, MapType, Netfilter, Rule, Set,
    Table, Transaction, Verdict,
};
use cni_core::netlink::Errno;
use cni_core::netns::Netns;
use cni_core::spec::{Attachment, Cidr, Code, NetworkName};
use serde_json::Value;

mod namespace;

use namespace::{in_a_namespace, run, skipped};

/// The ruleset of this namespace as nft lists it, without what differs from one load to the next.
fn ruleset() -> Vec<Value> {
    let mut listed: Value = serde_json::from_str(&run("nft", &["-j", "list", "ruleset"], "")).unwrap();
    let mut objects = listed["nftables"].take().as_array().unwrap().clone();
    objects.retain(|object| object.get("metainfo").is_none());
    for object in &mut objects {
        for (_, fields) in object.as_object_mut().unwrap() {
            fields.as_object_mut().unwrap().remove("handle");
        }
    }
    objects
}

/// The ruleset that nft makes of its own language, in another namespace.
fn loaded_by_nft(text: &'static str) -> Vec<Value> {
    let load = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        run("nft", &["-f", "-"], text);
        ruleset()
    };
    std::thread::spawn(load).join().unwrap()
}

fn open() -> Netfilter {
    Netfilter::open().unwrap().expect("a kernel with nf_tables")
}

fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

fn conditions(parts: &[Vec<Expression>], last: Expression) -> Rule {
    let mut expressions = parts.concat();
    expressions.push(last);
    Rule::new(expressions)
}

const TABLE: Table<'_> = Table { family: Family::Inet, name: "t" };

#[test]
fn objects_are_those_that_nft_makes() {
    in_a_namespace("objects_are_those_that_nft_makes", || {
        let (base, called) =
            (TABLE.chain("base").based(ChainKind::Filter, Hook::Prerouting, -7), TABLE.chain("called"));
        let nat = TABLE.chain("nat").based(ChainKind::Nat, Hook::Postrouting, 100);
        let set = Set { table: TABLE, name: "s4", key: KeyType::Ipv4, map: None };
        let ports = Set { table: TABLE, name: "ports", key: KeyType::Port, map: Some(MapType::Verdict) };
        let element = |key: &[u8], verdict| Element { key: key.to_vec(), verdict, comment: None };
        let elements = [
            Element { comment: Some("the first".to_owned()), ..element(&[10, 0, 0, 1], None) },
            element(&[10, 0, 0, 2], None),
        ];
        let mapped = [
            element(&[0, 80], Some(Verdict::Jump("called".to_owned()))),
            element(&[0, 22], Some(Verdict::Drop)),
        ];
        let ip = |field, comparison, subnet: &str| {
            let subnet: Cidr = subnet.parse().unwrap();
            Expression::ip(field, comparison, subnet.ip(), subnet.prefix())
        };
        let source = |subnet| ip(Field::Source, Comparison::Eq, subnet);
        let not_to = |subnet| ip(Field::Destination, Comparison::Ne, subnet);

        let mut transaction = Transaction::new();
        transaction.add_table(TABLE);
        [&base, &called, &nat].into_iter().for_each(|chain| transaction.add_chain(chain));
        transaction.add_set(&set);
        transaction.add_elements(&set, &elements);
        transaction.add_set(&ports);
        transaction.add_elements(&ports, &mapped);
        let long = "c".repeat(128);
        for (subnet, last) in [
            ("10.1.2.3/32", verdict(Verdict::Accept)),
            ("10.1.2.3/24", verdict(Verdict::Drop)),
            ("10.1.2.3/21", verdict(Verdict::Return)),
            ("fd00::1/128", verdict(Verdict::Jump("called".to_owned()))),
            ("fd00::1/64", verdict(Verdict::Goto("called".to_owned()))),
            ("fd00::1/61", verdict(Verdict::Accept)),
        ] {
            transaction.add_rule(&base, &conditions(&[source(subnet)], last).comment(&*long));
        }
        transaction
            .add_rule(&base, &conditions(&[Expression::input_interface("eth0")], verdict(Verdict::Drop)));
        let in_set = |field| [source("10.0.0.0/32")[..3].to_vec(), vec![field]].concat();
        let lookup = Expression::Lookup { set: "s4".to_owned(), map: false };
        transaction.add_rule(&base, &conditions(&[in_set(lookup)], verdict(Verdict::Drop)));
        transaction.add_rule(&nat, &conditions(&[not_to("10.0.0.0/24")], Expression::Masquerade));
        transaction.add_rule(&nat, &conditions(&[not_to("fd00::/64")], Expression::Masquerade));
        open().commit(&transaction, "adding all").unwrap();

        let bridge = Table { family: Family::Bridge, name: "b" };
        let chain = bridge.chain("base").based(ChainKind::Filter, Hook::Prerouting, -300);
        let mut transaction = Transaction::new();
        transaction.add_table(bridge);
        transaction.add_chain(&chain);
        let mac = Expression::source_mac("02:00:5e:10:00:01".parse().unwrap());
        transaction.add_rule(&chain, &conditions(&[mac], verdict(Verdict::Return)));
        open().commit(&transaction, "adding a table for bridges").unwrap();

        let expected = loaded_by_nft(
            r#"table inet t {
                set s4 { type ipv4_addr; elements = { 10.0.0.1 comment "the first", 10.0.0.2 }; }
                chain called { }
                map ports { type inet_service : verdict; elements = { 80 : jump called, 22 : drop }; }
                chain base {
                    type filter hook prerouting priority -7; policy accept;
                    ip saddr 10.1.2.3 accept comment "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                    ip saddr 10.1.2.0/24 drop comment "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                    ip saddr 10.1.0.0/21 return comment "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                    ip6 saddr fd00::1 jump called comment "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                    ip6 saddr fd00::/64 goto called comment "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                    ip6 saddr fd00::/61 accept comment "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                    iifname "eth0" drop
                    ip saddr @s4 drop
                }
                chain nat {
                    type nat hook postrouting priority 100; policy accept;
                    ip daddr != 10.0.0.0/24 masquerade
                    ip6 daddr != fd00::/64 masquerade
                }
            }
            table bridge b {
                chain base {
                    type filter hook prerouting priority -300; policy accept;
                    ether saddr 02:00:5e:10:00:01 return
                }
            }"#,
        );
        let sorted = |mut objects: Vec<Value>| {
            // nft lists the chains in the order in which they were made.
            objects.sort_by_key(|object| {
                if object.get("rule").is_some() { String::new() } else { object.to_string() }
            });
            objects
        };
        let (found, expected) = (sorted(ruleset()), sorted(expected));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.len(), expected.len());

        let read = open().rules(&base, |comment| comment == long).unwrap();
        assert_eq!(read.len(), 6);
        assert!(read[0].expressions.starts_with(&source("10.1.2.3/32")), "{:?}", read[0]);
        assert!(read[2].expressions.starts_with(&source("10.1.2.3/21")), "{:?}", read[2]);
        assert_eq!((read[3].jump_target(), read[0].jump_target()), (Some("called"), None));
        let mut read = open().elements(&set).unwrap();
        read.sort_by_key(|element| element.key.clone());
        assert_eq!(read, elements);
        let mut read = open().elements(&ports).unwrap();
        read.sort_by_key(|element| std::cmp::Reverse(element.key.clone()));
        assert_eq!(read, mapped);
    });
}

#[test]
fn objects_are_deleted() {
    in_a_namespace("objects_are_deleted", || {
        run(
            "nft",
            &["-f", "-"],
            "table inet t { set s { type ether_addr; elements = { 02:00:00:00:00:01, 02:00:00:00:00:02 }; }
               chain called { drop; }
               chain base { jump called comment \"a\"; accept comment \"b\"; }
               chain flushed { accept; drop; }\n}",
        );
        let set = Set { table: TABLE, name: "s", key: KeyType::Mac, map: None };
        let (base, called, flushed) = (TABLE.chain("base"), TABLE.chain("called"), TABLE.chain("flushed"));
        let netfilter = open();
        let elements = netfilter.elements(&set).unwrap();
        let rules = netfilter.rules(&base, |comment| comment == "a").unwrap();
        assert_eq!((elements.len(), rules.len()), (2, 1));

        let mut busy = Transaction::new();
        busy.delete_chain(&called);
        let refused = netfilter.commit(&busy, "deleting chain called").unwrap_err();
        assert_eq!((refused.errno, refused.operation.as_str()), (Errno::EBUSY, "deleting chain called"));

        let mut transaction = Transaction::new();
        transaction.delete_rule(&base, &rules[0]);
        transaction.delete_chain(&called);
        transaction.flush_chain(&flushed);
        transaction.delete_elements(&set, &elements[..1]);
        netfilter.commit(&transaction, "deleting").unwrap();
        assert_eq!(netfilter.elements(&set).unwrap(), &elements[1..]);
        let expected = loaded_by_nft(
            "table inet t {\n set s { type ether_addr; }\n chain base { accept comment \"b\"; }\n chain flushed { }\n }",
        );
        let without_elements = |mut objects: Vec<Value>| {
            objects
                .iter_mut()
                .filter_map(|object| object.get_mut("set"))
                .for_each(|set| drop(set.as_object_mut().unwrap().remove("elem")));
            objects
        };
        assert_eq!(without_elements(ruleset()), expected);

        let again = netfilter.commit(&transaction, "deleting").unwrap_err();
        assert_eq!(again.errno, Errno::ENOENT);
        let mut set_goes = Transaction::new();
        set_goes.delete_set(&set);
        netfilter.commit(&set_goes, "deleting the set").unwrap();
        assert_eq!(netfilter.elements(&set).unwrap(), []);
    });
}

#[test]
fn what_is_missing_has_no_rules() {
    in_a_namespace("what_is_missing_has_no_rules", || {
        let netfilter = open();
        assert!(!netfilter.has_table(TABLE).unwrap());
        assert!(!netfilter.has_chain(&TABLE.chain("c")).unwrap());
        assert_eq!(netfilter.rules(&TABLE.chain("c"), |_| true).unwrap(), []);
        run("nft", &["add", "table", "inet", "t"], "");
        assert!(netfilter.has_table(TABLE).unwrap());
        assert_eq!(netfilter.rules(&TABLE.chain("c"), |_| true).unwrap(), []);
        run("nft", &["add", "chain", "inet", "t", "c"], "");
        assert!(netfilter.has_chain(&TABLE.chain("c")).unwrap());
    });
}

#[test]
fn a_transaction_is_refused_after_another_change_and_applied_again() {
    in_a_namespace("a_transaction_is_refused_after_another_change_and_applied_again", || {
        let mut tries = 0;
        let applied = Netfilter::retry(|netfilter| {
            tries += 1;
            let mut transaction = Transaction::unless_changed(netfilter);
            transaction.add_table(TABLE);
            if tries == 1 {
                run("nft", &["add", "table", "ip", "other"], "");
                let refused = netfilter.commit(&transaction, "adding a table").unwrap_err();
                assert_eq!(refused.errno, Errno::ERESTART);
                return Err(refused);
            }
            netfilter.commit(&transaction, "adding a table")
        });
        assert_eq!((applied.unwrap(), tries), (Some(()), 2));
        assert!(open().has_table(TABLE).unwrap());
    });
}

#[test]
fn a_checked_transaction_changes_nothing() {
    in_a_namespace("a_checked_transaction_changes_nothing", || {
        let mut transaction = Transaction::new();
        transaction.add_table(TABLE);
        transaction.add_chain(&TABLE.chain("c"));
        open().check(&transaction, "checking").unwrap();
        transaction.delete_chain(&TABLE.chain("missing"));
        assert_eq!(open().check(&transaction, "checking").unwrap_err().errno, Errno::ENOENT);
        assert_eq!(ruleset(), Vec::<Value>::new());
    });
}

fn attachment(id: &str) -> Attachment {
    Attachment { container_id: id.parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

fn network() -> NetworkName {
    "net".parse().unwrap()
}

fn cidrs(texts: &[&str]) -> Vec<Cidr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// What the Go plugins (1.9) load for network net, container c1, interface eth0.
const BY_GO: &str = r#"table inet cni_plugins_masquerade {
    chain masq_checks {
        ip saddr == 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade comment "a4861f4ae9f7d238-f4d01f2ef4b92245, net: net, if: eth0, id: c1"
        ip6 saddr == fd00::3 ip6 daddr != fd00::/64 masquerade comment "a4861f4ae9f7d238-f4d01f2ef4b92245, net: net, if: eth0, id: c1"
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip daddr == 224.0.0.0/4  return
        ip6 daddr == ff00::/8  return
        goto masq_checks
    }
}"#;

#[test]
fn masquerade_rules_are_those_of_go_and_replace_and_remove_them() {
    in_a_namespace("masquerade_rules_are_those_of_go_and_replace_and_remove_them", || {
        let (network, attachment) = (network(), attachment("c1"));
        let masquerade = Masquerade { network: &network, attachment: &attachment };
        let addresses = cidrs(&["10.1.2.3/24", "fd00::3/64"]);
        let by_go = loaded_by_nft(BY_GO);
        masquerade.set_up(&addresses).unwrap();
        assert_eq!(ruleset(), by_go);
        masquerade.check(&addresses).unwrap();
        masquerade.set_up(&addresses).expect("an ADD after one that was killed");
        assert_eq!(ruleset(), by_go);
        masquerade.tear_down().unwrap();
        masquerade.tear_down().expect("nothing is there to be removed");
        let rules = |chain: &str| ruleset().iter().filter(|object| object["rule"]["chain"] == chain).count();
        assert_eq!((rules("masq_checks"), rules("postrouting")), (0, 3));
        assert_eq!(masquerade.check(&addresses).unwrap_err().code(), Code::CHECK_FAILED);

        run("nft", &["flush", "ruleset"], "");
        run("nft", &["-f", "-"], BY_GO);
        masquerade.check(&addresses).unwrap();
        masquerade.set_up(&addresses[..1]).expect("beside the chains of Go");
        assert_eq!((rules("masq_checks"), rules("postrouting")), (1, 3));
        assert_eq!(masquerade.check(&addresses).unwrap_err().code(), Code::CHECK_FAILED);
        Masquerade::collect(&network, std::slice::from_ref(&attachment)).unwrap();
        assert_eq!(rules("masq_checks"), 1);
        Masquerade::collect(&"other".parse().unwrap(), &[]).unwrap();
        assert_eq!(rules("masq_checks"), 1);
        Masquerade::collect(&network, &[]).unwrap();
        assert_eq!(rules("masq_checks"), 0);
    });
}

#[test]
fn an_add_beside_others_makes_only_its_own_rule() {
    in_a_namespace("an_add_beside_others_makes_only_its_own_rule", || {
        let (network, addresses) = (network(), cidrs(&["10.1.2.3/24"]));
        Masquerade { network: &network, attachment: &attachment("c1") }.set_up(&addresses).unwrap();
        let before = run("nft", &["-a", "list", "ruleset"], "");
        Masquerade { network: &network, attachment: &attachment("c2") }.set_up(&addresses).unwrap();
        let after = run("nft", &["-a", "list", "ruleset"], "");
        let added: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
        assert!(added.len() == 1 && added[0].contains("id: c2"), "{added:?}");
        assert!(before.lines().all(|line| after.contains(line)), "{after}");
    });
}

#[test]
fn the_first_adds_of_a_node_may_come_at_one_moment() {
    in_a_namespace("the_first_adds_of_a_node_may_come_at_one_moment", || {
        const ADDS: usize = 8;
        const ROUNDS: usize = 30;
        let (netns, barrier) = (Netns::own().unwrap(), Barrier::new(ADDS));
        let add = |id: String| {
            let attachment = attachment(&id);
            let masquerade = Masquerade { network: &network(), attachment: &attachment };
            barrier.wait();
            masquerade.set_up(&cidrs(&["10.1.2.3/24"])).unwrap();
        };
        for round in 0..ROUNDS {
            std::thread::scope(|scope| {
                for number in 0..ADDS {
                    let (netns, add) = (&netns, &add);
                    scope.spawn(move || netns.enter(|| add(format!("c{number}"))).unwrap());
                }
            });
            let count =
                |chain: &str| ruleset().iter().filter(|object| object["rule"]["chain"] == chain).count();
            assert_eq!((count("postrouting"), count("masq_checks")), (3, ADDS), "round {round}");
            run("nft", &["flush", "ruleset"], "");
        }
    });
}

#[test]
fn the_rules_of_one_attachment_are_bounded() {
    in_a_namespace("the_rules_of_one_attachment_are_bounded", || {
        let attachment = attachment("c1");
        let masquerade = Masquerade { network: &network(), attachment: &attachment };
        let addresses = |count: usize| -> Vec<Cidr> {
            (0..count).map(|n| format!("10.1.{}.{}/16", n / 256, n % 256).parse().unwrap()).collect()
        };
        let refused = masquerade.set_up(&addresses(ADDRESSES_MAX + 1)).unwrap_err();
        assert_eq!(refused.code(), Code::INVALID_CONFIG);
        assert_eq!(ruleset(), Vec::<Value>::new());
        masquerade.set_up(&addresses(ADDRESSES_MAX)).unwrap();
        masquerade.check(&addresses(ADDRESSES_MAX)).unwrap();
        masquerade.tear_down().unwrap();
        assert!(!run("nft", &["list", "ruleset"], "").contains("id: c1"));
    });
}

#[test]
fn thousands_of_rules_that_another_version_left_are_removed() {
    in_a_namespace("thousands_of_rules_that_another_version_left_are_removed", || {
        let rule = |n: usize| {
            format!(
                "ip saddr 10.1.{}.{} masquerade comment \"a4861f4ae9f7d238-f4d01f2ef4b92245, net: net\"\n",
                n / 256,
                n % 256
            )
        };
        let rules: String = (0..8000).map(rule).collect();
        run(
            "nft",
            &["-f", "-"],
            &format!("table inet cni_plugins_masquerade {{ chain masq_checks {{\n{rules}}}\n}}"),
        );
        let attachment = attachment("c1");
        Masquerade { network: &network(), attachment: &attachment }.tear_down().unwrap();
        assert!(!run("nft", &["list", "ruleset"], "").contains("saddr"));
    });
}

/// Loads what the Go plugins add with iptables, with the program of a variant.
fn add_by_iptables(program: &str, id: &str, chain: &str) {
    let comment = format!("name: \"net\" id: \"{id}\"");
    let add = |args: &[&str]| {
        let comment = ["-m", "comment", "--comment", &comment];
        let comment: &[&str] = if args[0] == "-N" { &[] } else { &comment };
        run(program, &[&["-w", "-t", "nat"], args, comment].concat(), "")
    };
    add(&["-N", chain]);
    let v6 = program.starts_with("ip6");
    let (address, subnet, multicast) =
        if v6 { ("fd00::3", "fd00::/64", "ff00::/8") } else { ("10.1.2.3", "10.1.2.0/24", "224.0.0.0/4") };
    add(&["-A", chain, "-d", subnet, "-j", "ACCEPT"]);
    add(&["-A", chain, "!", "-d", multicast, "-j", "MASQUERADE"]);
    add(&["-A", "POSTROUTING", "-s", address, "-j", chain]);
}

/// The chain of container c1 of network net: printf netc1 | sha512sum.
const CHAIN: &str = "CNI-623e1c388032b20529218ecc";

fn removes_rules_of_iptables(programs: [&str; 2]) {
    let network = network();
    let (one, two) = (attachment("c1"), attachment("c2"));
    let listed = || programs.map(|program| run(program, &["-w", "-t", "nat", "-S"], "")).concat();
    for program in programs {
        run(program, &["-w", "-t", "nat", "-A", "POSTROUTING", "-j", "RETURN"], "");
    }
    let others = listed();
    let add = || programs.map(|program| add_by_iptables(program, "c1", CHAIN));
    add();
    let masquerade = Masquerade { network: &network, attachment: &one };
    masquerade.check(&cidrs(&["10.1.2.3/24"])).expect("as Go made it");
    Masquerade { network: &network, attachment: &two }.tear_down().unwrap();
    assert!(listed().contains(CHAIN), "the DEL of another attachment");
    masquerade.tear_down().unwrap();
    assert_eq!(listed(), others);
    masquerade.tear_down().expect("nothing is there to be removed");

    add();
    Masquerade::collect(&network, std::slice::from_ref(&one)).unwrap();
    Masquerade::collect(&"other".parse().unwrap(), &[]).unwrap();
    assert!(listed().contains(CHAIN));
    Masquerade::collect(&network, &[]).unwrap();
    assert_eq!(listed(), others);
}

#[test]
fn rules_of_iptables_nft_are_removed_without_the_program() {
    in_a_namespace("rules_of_iptables_nft_are_removed_without_the_program", || {
        removes_rules_of_iptables(["iptables-nft", "ip6tables-nft"]);
    });
}

#[test]
fn rules_of_legacy_iptables_are_removed() {
    in_a_namespace("rules_of_legacy_iptables_are_removed", || {
        let works = std::process::Command::new("iptables-legacy").args(["-t", "nat", "-S"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            return skipped("rules_of_legacy_iptables_are_removed: needs ip_tables in the kernel");
        }
        removes_rules_of_iptables(["iptables-legacy", "ip6tables-legacy"]);
    });
}
