//! Options of router advertisements that the kernel leaves to user space.

use nix::libc;

use super::message::{answers, u16_at, u32_at};
use super::uapi::RTM_NEWNDUSEROPT;

/// `struct nduseroptmsg` (include/uapi/linux/rtnetlink.h).
const HEADER: usize = 16;

/// `ND_ROUTER_ADVERT` (RFC 4861, section 4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;

/// The options of router advertisements in a datagram of [`super::RTNLGRP_ND_USEROPT`]: for each the number of the
/// interface that it came in at, and its bytes (RFC 4861, section 4.6). The kernel tells them once, and keeps none.
pub fn router_options(datagram: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let events = answers(datagram).flatten().filter(|answer| answer.kind == RTM_NEWNDUSEROPT);
    events.filter_map(|event| {
        let body = event.body;
        let of_router =
            body.first() == Some(&(libc::AF_INET6 as u8)) && body.get(8) == Some(&ROUTER_ADVERTISEMENT);
        let length = usize::from(u16_at(body, 2)?);
        let options = body.get(HEADER..HEADER + length)?;
        of_router.then_some((u32_at(body, 4)?, options))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_with_their_interface() {
        // include/uapi/linux/rtnetlink.h: family, padding, length, interface, type, code, padding.
        let event = |family: u8, kind: u8, length: u16| {
            let mut bytes = 40_u32.to_ne_bytes().to_vec();
            bytes.extend(RTM_NEWNDUSEROPT.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend([family, 0]);
            bytes.extend(length.to_ne_bytes());
            bytes.extend(7_u32.to_ne_bytes());
            bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend([25, 1, 0, 0, 0, 0, 0, 9]);
            bytes
        };
        let good = event(10, 134, 8);
        let found: Vec<_> = router_options(&good).collect();
        assert_eq!(found, [(7, &[25, 1, 0, 0, 0, 0, 0, 9][..])]);
        for bad in [event(2, 134, 8), event(10, 136, 8), event(10, 134, 9)] {
            assert_eq!(router_options(&bad).count(), 0);
        }
    }
}
