//! Whether another host has an address (RFC 5227). The address is in use already: an ADD does
//! not wait for this.

use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;

use cni_core::netns::Netns;
use cni_core::spec::Mac;
use dhcp_client::SECOND;
use nix::libc;
use socket2::{Domain, Socket, Type};

use super::clock::Clock;
use super::closer::ClosedLater;
use super::inbox::Inbox;
use super::place::Place;
use super::port::link_address;

/// `PROBE_NUM` and `PROBE_MIN` of RFC 5227, section 1.1.
const PROBES: u32 = 3;
const INTERVAL: u64 = SECOND;

/// Sends probes and waits for answers to them: the MAC address of another host that has the address.
///
/// # Errors
/// Those of the socket.
pub(crate) async fn probe(
    clock: &Rc<Clock>,
    netns: &Netns,
    place: &Place,
    address: Ipv4Addr,
) -> io::Result<Option<Mac>> {
    let protocol = libc::ETH_P_ARP as u16;
    let open = || -> io::Result<(ClosedLater, Inbox)> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        socket.bind(&link_address(place.index, [0; 6], protocol))?;
        Ok((ClosedLater::of(&socket)?, Inbox::new(socket, clock)?))
    };
    // The socket is dropped first.
    let (_closed_later, inbox) = netns.enter(open).map_err(io::Error::other)??;
    for _ in 0..PROBES {
        inbox
            .socket()
            .send_to(&request(place.mac, address), &link_address(place.index, [0xff; 6], protocol))?;
        let until = Some(clock.now().after(INTERVAL));
        loop {
            tokio::select! {
                arp = inbox.next() => {
                    if let Some(mac) = other_host(&arp?, place.mac, address) {
                        return Ok(Some(mac));
                    }
                }
                () = clock.until(until) => break,
            }
        }
    }
    Ok(None)
}

/// Ethernet and IPv4, with the lengths of their addresses (RFC 826).
const HEADER: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// A probe: a request whose sender has no address (RFC 5227, section 1.1).
fn request(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    [&HEADER[..], &[0, 1], &mac, &[0; 4], &[0; 6], &address.octets()].concat()
}

/// The MAC address of another host that an ARP message shows to have the address, or to be
/// probing for it (RFC 5227, section 2.1.1).
fn other_host(arp: &[u8], own: [u8; 6], address: Ipv4Addr) -> Option<Mac> {
    let (message, _) = arp.split_first_chunk::<28>()?;
    if message[..6] != HEADER {
        return None;
    }
    let mac = Mac([message[8], message[9], message[10], message[11], message[12], message[13]]);
    let sender = Ipv4Addr::new(message[14], message[15], message[16], message[17]);
    let target = Ipv4Addr::new(message[24], message[25], message[26], message[27]);
    let is_request = message[6..8] == [0, 1];
    let claims = sender == address || (sender.is_unspecified() && is_request && target == address);
    (claims && mac.0 != own).then_some(mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    #[test]
    fn another_host_is_told_from_ourselves() {
        let answer = |mac: [u8; 6], sender: Ipv4Addr| {
            [&HEADER[..], &[0, 2], &mac, &sender.octets(), &OWN, &[0; 4]].concat()
        };
        assert_eq!(other_host(&answer(OTHER, ADDRESS), OWN, ADDRESS), Some(Mac(OTHER)));
        assert_eq!(other_host(&answer(OWN, ADDRESS), OWN, ADDRESS), None);
        assert_eq!(other_host(&answer(OTHER, Ipv4Addr::new(10, 0, 0, 6)), OWN, ADDRESS), None);
        assert_eq!(other_host(&request(OTHER, ADDRESS), OWN, ADDRESS), Some(Mac(OTHER)), "it probes too");
        assert_eq!(other_host(&request(OWN, ADDRESS), OWN, ADDRESS), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = other_host(&bytes, OWN, ADDRESS);
        }
    }
}
