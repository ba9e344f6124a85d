//! Asking the kernel over netlink(7): dumps, decoded by `netlink-packet-route`.

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NlaBuffer, NlasIterator, Parseable as _, ParseableParametrized as _,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteLwEnCapType, RouteMessage};
use netlink_sys::constants::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

/// Lengths of the headers in front of the attributes: `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

/// Every link of the calling thread's namespace.
pub(super) fn links() -> Vec<LinkMessage> {
    dump_links(&LinkMessage::default())
}

/// Every bridge and every port of one, with its VLANs.
pub(super) fn bridge_vlans() -> Vec<LinkMessage> {
    let mut request = LinkMessage::default();
    request.header.interface_family = AddressFamily::Bridge;
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
    dump_links(&request)
}

fn dump_links(request: &LinkMessage) -> Vec<LinkMessage> {
    let decode = |body: &[u8]| {
        let header = LinkHeader::parse(body).expect("a link's header");
        let family = header.interface_family;
        let attributes =
            attributes(&body[LINK_HEADER..], |nla| LinkAttribute::parse_with_param(nla, family).ok());
        let mut link = LinkMessage::default();
        (link.header, link.attributes) = (header, attributes);
        link
    };
    dump(RouteNetlinkMessage::GetLink(request.clone()), decode)
}

/// Every address of both families.
pub(super) fn addresses() -> Vec<AddressMessage> {
    let decode = |body: &[u8]| {
        let mut address = AddressMessage::default();
        address.header = AddressHeader::parse(body).expect("an address' header");
        address.attributes = attributes(&body[ADDRESS_HEADER..], |nla| AddressAttribute::parse(nla).ok());
        address
    };
    dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), decode)
}

/// The routes of all tables, both families.
pub(super) fn routes() -> Vec<RouteMessage> {
    let decode = |body: &[u8]| {
        let mut route = RouteMessage::default();
        route.header = RouteHeader::parse(body).expect("a route's header");
        let context = (route.header.address_family, route.header.kind, RouteLwEnCapType::None);
        route.attributes =
            attributes(&body[ROUTE_HEADER..], |nla| RouteAttribute::parse_with_param(nla, context).ok());
        route
    };
    dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()), decode)
}

/// Attributes, each decoded by itself: decoding a whole message fails for a single attribute of a
/// newer kernel. What the tests look at is compared with iproute2's view by a test.
fn attributes<T>(bytes: &[u8], decode: impl Fn(&NlaBuffer<&[u8]>) -> Option<T>) -> Vec<T> {
    NlasIterator::new(bytes).filter_map(|nla| decode(&nla.ok()?)).collect()
}

/// True where nf_tables holds a table in the calling thread's namespace: `NFT_MSG_GETTABLE` of
/// `include/uapi/linux/netfilter/nf_tables.h`. A kernel without nf_tables holds none.
pub(crate) fn has_nft_tables() -> bool {
    const NFT_MSG_GETTABLE: u16 = (10 << 8) | 1;
    match ask(NETLINK_NETFILTER, NFT_MSG_GETTABLE, NLM_F_DUMP, &[0; 4]) {
        Answer::Complete(tables) => !tables.is_empty(),
        Answer::Interrupted => true,
        Answer::Error(_) => false,
    }
}

/// Sets the loopback interface of the calling thread's namespace up, with index 1 as in each.
pub(crate) fn set_loopback_up() {
    let mut request = LinkMessage::default();
    request.header.index = 1;
    (request.header.flags, request.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
    let request = RouteNetlinkMessage::SetLink(request);
    match ask(NETLINK_ROUTE, request.message_type(), NLM_F_ACK, &emitted(&request)) {
        Answer::Error(0) => {}
        _ => panic!("the kernel does not set lo up"),
    }
}

/// Asks again where something changed during the dump.
fn dump<T>(request: RouteNetlinkMessage, decode: impl Fn(&[u8]) -> T) -> Vec<T> {
    loop {
        match ask(NETLINK_ROUTE, request.message_type(), NLM_F_DUMP, &emitted(&request)) {
            Answer::Complete(bodies) => return bodies.iter().map(|body| decode(body)).collect(),
            Answer::Interrupted => {}
            Answer::Error(code) => panic!("the kernel refuses the dump {request:?}: error {code}"),
        }
    }
}

fn emitted(message: &RouteNetlinkMessage) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    body
}

enum Answer {
    /// The bodies of all messages, without the netlink header.
    Complete(Vec<Vec<u8>>),
    /// Something changed during the dump.
    Interrupted,
    /// An error of errno(3); 0 acknowledges a request.
    Error(i32),
}

fn ask(protocol: isize, kind: u16, flags: u16, body: &[u8]) -> Answer {
    let mut bytes = vec![0; 16 + body.len()];
    let mut request = NetlinkBuffer::new(&mut bytes);
    request.set_length(u32::try_from(16 + body.len()).expect("a short request"));
    request.set_message_type(kind);
    request.set_flags(NLM_F_REQUEST | flags);
    request.payload_mut().copy_from_slice(body);
    let socket = Socket::new(protocol).expect("a netlink socket");
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).expect("asking the kernel");

    let (mut found, mut complete) = (Vec::new(), true);
    loop {
        let (datagram, _) = socket.recv_from_full().expect("the kernel's answer");
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(&rest).expect("a netlink message");
            complete &= message.flags() & NLM_F_DUMP_INTR == 0;
            match message.message_type() {
                NLMSG_DONE if complete => return Answer::Complete(found),
                NLMSG_DONE => return Answer::Interrupted,
                NLMSG_ERROR => {
                    let code = message.payload()[..4].try_into().expect("four bytes");
                    return Answer::Error(-i32::from_ne_bytes(code));
                }
                _ => found.push(message.payload().to_vec()),
            }
            let length = usize::try_from(message.length()).expect("a length").next_multiple_of(4);
            rest = &rest[length.min(rest.len())..];
        }
    }
}
