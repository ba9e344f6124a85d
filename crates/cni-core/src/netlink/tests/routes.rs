//! Messages about routes.

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::*;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute as R, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteProtocol,
    RouteScope, RouteType,
};

use super::{CHANGE, LIST, answered, eth0, request};
use crate::netlink::{InstalledRoute, Netlink};
use crate::spec::Route;

fn route_message(header: RouteHeader, attributes: Vec<R>) -> RouteMessage {
    let mut message = RouteMessage::default();
    (message.header, message.attributes) = (header, attributes);
    message
}

fn v4(text: &str) -> RouteAddress {
    RouteAddress::Inet(text.parse().unwrap())
}

fn v6(text: &str) -> RouteAddress {
    RouteAddress::Inet6(text.parse().unwrap())
}

#[test]
fn routes_are_added_and_removed_with_all_that_a_configuration_gives() {
    let header = |address_family, prefix, table, scope| RouteHeader {
        address_family,
        destination_prefix_length: prefix,
        table,
        protocol: RouteProtocol::Boot,
        scope,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let changes = |route: &Route, gw: Option<&str>, header: RouteHeader, attributes: Vec<R>| {
        let gw = gw.map(|gw| gw.parse().unwrap());
        let message = route_message(header, attributes);
        let added = request(|netlink| netlink.add_route(&eth0(), route, gw));
        assert_eq!(added, (CHANGE | NLM_F_CREATE, NewRoute(message.clone())));
        let removed = request(|netlink| netlink.delete_route(&eth0(), route, gw));
        assert_eq!(removed, (CHANGE, DelRoute(message)));
    };
    let full = Route {
        mtu: 1400,
        advmss: 1300,
        priority: 50,
        table: Some(1000),
        scope: Some(200),
        ..Route::new("10.1.2.3/16".parse().unwrap(), None)
    };
    changes(
        &full,
        Some("10.0.0.1"),
        header(AddressFamily::Inet, 16, 0, RouteScope::Site),
        vec![
            R::Destination(v4("10.1.0.0")),
            R::Oif(7),
            R::Table(1000),
            R::Gateway(v4("10.0.0.1")),
            R::Priority(50),
            R::Metrics(vec![RouteMetric::Mtu(1400), RouteMetric::Advmss(1300)]),
        ],
    );
    let on_link = Route::new("10.1.0.0/16".parse().unwrap(), None);
    changes(
        &on_link,
        None,
        header(AddressFamily::Inet, 16, 254, RouteScope::Link),
        vec![R::Destination(v4("10.1.0.0")), R::Oif(7), R::Table(254)],
    );
    let default = Route::new("::/0".parse().unwrap(), None);
    changes(
        &default,
        Some("fd00::1"),
        header(AddressFamily::Inet6, 0, 254, RouteScope::Universe),
        vec![R::Destination(v6("::")), R::Oif(7), R::Table(254), R::Gateway(v6("fd00::1"))],
    );
}

#[test]
fn routes_are_read_with_every_next_hop() {
    let header = |prefix, kind| RouteHeader {
        address_family: AddressFamily::Inet6,
        destination_prefix_length: prefix,
        table: 254,
        // That of a router advertisement: the list is not limited to one protocol.
        protocol: RouteProtocol::Ra,
        kind,
        ..RouteHeader::default()
    };
    let hop = |interface_index, gw: &str| {
        let mut hop = RouteNextHop::default();
        (hop.interface_index, hop.attributes) = (interface_index, vec![R::Gateway(v6(gw))]);
        hop
    };
    let hops = R::MultiPath(vec![hop(7, "fd00::1"), hop(8, "fd00::2"), hop(7, "fd00::3")]);
    let answers = [
        route_message(header(0, RouteType::Unicast), vec![R::Table(1000), R::Priority(5), hops]),
        route_message(
            header(64, RouteType::Unicast),
            vec![R::Destination(v6("fd00::")), R::Oif(7), R::Gateway(v6("fd00::9"))],
        ),
        route_message(header(128, RouteType::Local), vec![R::Destination(v6("fd00::5")), R::Oif(7)]),
    ]
    .map(NewRoute);
    let read = |routes: Vec<InstalledRoute>| -> Vec<_> {
        let gw = |route: &InstalledRoute| route.gw.unwrap().to_string();
        routes.iter().map(|r| (r.dst.to_string(), gw(r), r.index, r.table, r.priority)).collect()
    };
    let default = |gw: &str, index| ("::/0".to_owned(), gw.to_owned(), index, 1000, 5);
    let (routes, (flags, sent)) = answered(&answers, |netlink| netlink.routes(&eth0()));
    let subnet = ("fd00::/64".to_owned(), "fd00::9".to_owned(), 7, 254, 0);
    assert_eq!(read(routes), [default("fd00::1", 7), default("fd00::3", 7), subnet]);
    let of_link = RouteHeader { address_family: AddressFamily::Inet, ..RouteHeader::default() };
    assert_eq!((flags, sent), (LIST, GetRoute(route_message(of_link.clone(), vec![R::Oif(7)]))));

    let (routes, (flags, sent)) = answered(&answers, Netlink::default_routes);
    assert_eq!(read(routes), [default("fd00::1", 7), default("fd00::2", 8), default("fd00::3", 7)]);
    assert_eq!((flags, sent), (LIST, GetRoute(route_message(of_link, vec![]))));
}
