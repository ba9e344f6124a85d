//! The netlink module against a real kernel, in a namespace of the test's own.
#![allow(clippy::unwrap_used)] // test code, also where it stands outside of a test function

use cni_core::interface::default_master;
use cni_core::netlink::{Errno, Kind, Link, MacvlanMode, Netlink, NewLink};
use cni_core::netns::Netns;
use cni_core::spec::{Mac, Route};
use namespace::{run, skipped};
use nix::sched::{CloneFlags, unshare};

mod namespace;

/// Runs a test in an empty network namespace.
fn in_a_namespace(name: &str, test: impl FnOnce(&Netlink) + Send + 'static) {
    namespace::in_a_namespace(name, || test(&Netlink::open().unwrap()));
}

fn new_bridge(name: &str) -> NewLink<'_> {
    NewLink::new(name, Kind::Bridge { vlan_filtering: false })
}

fn bridge(netlink: &Netlink, name: &str) -> Link {
    netlink.create_link(&new_bridge(name).up()).unwrap()
}

#[test]
fn a_link_is_made_found_renamed_and_deleted() {
    in_a_namespace("a_link_is_made_found_renamed_and_deleted", |netlink| {
        let mac: Mac = "02:00:5e:10:00:01".parse().unwrap();
        let new = new_bridge("br").mac(Some(mac)).mtu(Some(1400));
        let made = netlink.create_link(&new).unwrap();
        assert_eq!((made.mac, made.mtu, made.up), (Some(mac), 1400, false));
        assert_eq!(netlink.create_link(&new).unwrap_err().errno, Errno::EEXIST);
        netlink.rename(&made, "other").unwrap();
        assert_eq!(netlink.link("br").unwrap(), None);
        let found = netlink.link("other").unwrap().unwrap();
        assert_eq!((found.index, found.is("bridge")), (made.index, true));
        netlink.delete_link(&made).unwrap();
        netlink.delete_link(&made).expect("what is gone is deleted");
        assert_eq!(netlink.link_by_index(made.index).unwrap(), None);
    });
}

#[test]
fn settings_of_a_link_read_back() {
    in_a_namespace("settings_of_a_link_read_back", |netlink| {
        let before = bridge(netlink, "br");
        assert_eq!((before.promiscuous, before.all_multicast, before.mtu), (false, false, 1500));
        let mac: Mac = "02:00:5e:10:00:03".parse().unwrap();
        netlink.set_promiscuous(&before, true).unwrap();
        netlink.set_all_multicast(&before, true).unwrap();
        netlink.set_mtu(&before, 1300).unwrap();
        netlink.set_tx_queue_len(&before, 77).unwrap();
        netlink.set_mac(&before, mac).unwrap();
        let after = netlink.link("br").unwrap().unwrap();
        assert_eq!((after.promiscuous, after.all_multicast, after.mtu), (true, true, 1300));
        assert_eq!((after.tx_queue_len, after.mac, after.up), (77, Some(mac), true));
        netlink.set_promiscuous(&before, false).unwrap();
        netlink.set_all_multicast(&before, false).unwrap();
        let after = netlink.link("br").unwrap().unwrap();
        assert_eq!((after.promiscuous, after.all_multicast), (false, false));
    });
}

#[test]
fn a_group_is_deleted_at_once() {
    in_a_namespace("a_group_is_deleted_at_once", |netlink| {
        let kept = bridge(netlink, "kept");
        for name in ["a", "b", "c"] {
            netlink.set_group(&bridge(netlink, name), 77).unwrap();
        }
        netlink.delete_group(77).unwrap();
        let names: Vec<String> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
        assert!(names.contains(&kept.name), "{names:?}");
        assert!(!names.iter().any(|name| ["a", "b", "c"].contains(&name.as_str())), "{names:?}");
    });
}

/// Gives a link of this thread's namespace alternative names.
fn add_alt_names(link: &str, names: &[String]) {
    let add = |name: &String| format!("link property add dev {link} altname {name}\n");
    run("ip", &["-batch", "-"], &names.iter().map(add).collect::<String>());
}

/// The next hops of the default routes of a family, in the order in which the kernel tries them.
fn default_gateways(netlink: &Netlink, v4: bool) -> Vec<String> {
    let routes = netlink.default_routes().unwrap().into_iter().filter(|route| route.dst.is_ipv4() == v4);
    routes.filter_map(|route| route.gw).map(|gw| gw.to_string()).collect()
}

#[test]
fn the_latest_of_two_ipv4_default_routes_wins_and_ipv6_has_both() {
    in_a_namespace("the_latest_of_two_ipv4_default_routes_wins_and_ipv6_has_both", |netlink| {
        let link = bridge(netlink, "br");
        for address in ["10.0.0.1/24", "fd00::1/64"] {
            netlink.add_address(&link, address.parse().unwrap()).unwrap();
        }
        let (v4, v6) =
            (Route::new("0.0.0.0/0".parse().unwrap(), None), Route::new("::/0".parse().unwrap(), None));
        for (route, gw) in [(&v4, "10.0.0.2"), (&v4, "10.0.0.3"), (&v6, "fd00::2"), (&v6, "fd00::3")] {
            netlink.add_route(&link, route, gw.parse().ok()).unwrap();
        }
        assert_eq!(default_gateways(netlink, true), ["10.0.0.3", "10.0.0.2"]);
        let mut v6 = default_gateways(netlink, false);
        v6.sort();
        assert_eq!(v6, ["fd00::2", "fd00::3"]);
        assert_eq!(default_master(netlink).unwrap().map(|master| master.index), Some(link.index));

        let unreachable = netlink.add_route(&link, &v4, "10.9.9.9".parse().ok()).unwrap_err();
        assert_eq!(unreachable.errno, Errno::ENETUNREACH);
        assert!(!unreachable.kernel_message.is_empty(), "without a kernel message: {unreachable}");
    });
}

#[test]
fn routes_of_any_protocol_are_listed_by_link() {
    in_a_namespace("routes_of_any_protocol_are_listed_by_link", |netlink| {
        let (link, other) = (bridge(netlink, "br"), bridge(netlink, "other"));
        netlink.add_address(&link, "10.0.0.1/24".parse().unwrap()).unwrap();
        netlink.add_address(&other, "10.1.0.1/24".parse().unwrap()).unwrap();
        let routes = netlink.routes(&link).unwrap();
        let destinations: Vec<String> =
            routes.iter().filter(|r| r.dst.is_ipv4()).map(|r| r.dst.to_string()).collect();
        assert_eq!(destinations, ["10.0.0.0/24"], "the kernel's own route to the subnet");
    });
}

#[test]
fn a_link_with_as_many_names_as_there_can_be_is_found() {
    in_a_namespace("a_link_with_as_many_names_as_there_can_be_is_found", |netlink| {
        let link = bridge(netlink, "br");
        let names: Vec<String> = (0..496).map(|number| format!("{number:0127}")).collect();
        add_alt_names("br", &names);
        let found = netlink.link("br").unwrap().expect("the link itself");
        assert_eq!((found.index, found.alt_names.len()), (link.index, 496));
        let by_alt_name = netlink.link(&names[495]).unwrap().expect("by an alternative name");
        assert_eq!((by_alt_name.index, by_alt_name.name.as_str()), (link.index, "br"));
        assert!(by_alt_name.is_called(&names[495]) && !by_alt_name.is_called("eth0"));
        assert!(netlink.links().unwrap().iter().any(|found| found.index == link.index));
        netlink.set_mtu(&link, 1400).unwrap();
        netlink.delete_link(&link).unwrap();
        assert_eq!(netlink.link(&names[0]).unwrap(), None);
    });
}

#[test]
fn a_macvlan_is_made_in_another_namespace() {
    in_a_namespace("a_macvlan_is_made_in_another_namespace", |netlink| {
        let lower = netlink.create_link(&NewLink::veth("p", NewLink::veth_peer("q")).up()).unwrap();
        let container = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Netns::own().unwrap()
        });
        let netns = container.join().unwrap();
        let kind = Kind::Macvlan { lower: lower.index, mode: MacvlanMode::Private, bc_queue_len: None };
        match netlink.create_link_in_namespace(&NewLink::new("eth0", kind).in_namespace(&netns)) {
            Err(err) if err.errno == Errno::EOPNOTSUPP => {
                return skipped("a_macvlan_is_made_in_another_namespace: needs macvlan in the kernel");
            }
            created => created.unwrap(),
        }
        let made = Netlink::open_in(&netns).unwrap().link("eth0").unwrap().unwrap();
        assert_eq!((made.macvlan_mode(), made.lower), (Some(MacvlanMode::Private), Some(lower.index)));
        assert_eq!(netlink.link("eth0").unwrap(), None);
    });
}
