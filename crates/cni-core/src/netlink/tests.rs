//! The messages of this module, judged by another implementation of rtnetlink
//! (`netlink-packet-route`): it decodes every request that is built here, and encodes the answers
//! that are read here. The kernel's part is played by the other end of a socket pair.

mod addresses;
mod links;
mod routes;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage as Rt;

use super::{Errno, Link, Netlink, Result, connection};
use crate::spec::Mac;

const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);
const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;
const CREATE: u16 = CHANGE | NLM_F_CREATE | NLM_F_EXCL;
const LIST: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// A connection to a kernel that the test plays.
fn connection() -> (Netlink, UnixDatagram) {
    let (connection, kernel) = connection::to_test(Duration::from_millis(200));
    (Netlink { connection, netns: None }, kernel)
}

fn datagram(seq: u32, payload: NetlinkPayload<Rt>) -> Vec<u8> {
    let mut message = NetlinkMessage::new(Default::default(), payload);
    message.header.sequence_number = seq;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The flags and the content of the only request of a call that the kernel acknowledges.
fn request<T>(call: impl FnOnce(&Netlink) -> Result<T>) -> (u16, Rt) {
    let (netlink, kernel) = connection();
    kernel.send(&datagram(1, NetlinkPayload::Error(ErrorMessage::default()))).unwrap();
    call(&netlink).unwrap_or_else(|failure| panic!("{failure}"));
    received(&kernel)
}

fn received(kernel: &UnixDatagram) -> (u16, Rt) {
    let mut bytes = vec![0; 1 << 16];
    let len = kernel.recv(&mut bytes).unwrap();
    let message = NetlinkMessage::<Rt>::deserialize(&bytes[..len]).unwrap();
    assert_eq!(message.header.length as usize, len);
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => (message.header.flags, inner),
        other => panic!("{other:?}"),
    }
}

/// What a call makes of objects that the kernel sends, and the call's last request.
fn answered<T>(answers: &[Rt], call: impl FnOnce(&Netlink) -> Result<T>) -> (T, (u16, Rt)) {
    let (netlink, kernel) = connection();
    // Lists of routes are two, one for each family; the second is empty.
    for (seq, answers) in [(1, answers), (2, &[])] {
        for answer in answers {
            kernel.send(&datagram(seq, NetlinkPayload::InnerMessage(answer.clone()))).unwrap();
        }
        kernel.send(&datagram(seq, NetlinkPayload::Done(Default::default()))).unwrap();
    }
    let got = call(&netlink).unwrap_or_else(|failure| panic!("{failure}"));
    (got, received(&kernel))
}

fn eth0() -> Link {
    let mut link = Link::default();
    (link.index, link.name, link.mac) = (7, "eth0".to_owned(), Some(MAC));
    link
}

#[test]
fn a_refusal_is_read_with_its_number() {
    let (netlink, kernel) = connection();
    let mut error = ErrorMessage::default();
    error.code = std::num::NonZeroI32::new(-nix::libc::EBUSY);
    kernel.send(&datagram(1, NetlinkPayload::Error(error))).unwrap();
    let failure = netlink.set_up(&eth0()).unwrap_err();
    assert_eq!(
        (failure.errno, failure.to_string().as_str()),
        (Errno::EBUSY, "setting interface eth0 up: Device or resource busy")
    );
}
