//! Neighbours: which MAC address an IP address on a link has.

use std::net::IpAddr;

use nix::libc;

use super::address::{family, ip, octets};
use super::link::{Link, gone_is_fine};
use super::message::{Answer, Message, attributes, u16_at, u32_at};
use super::uapi::*;
use super::{Netlink, Result};
use crate::spec::Mac;

/// An entry of a link's neighbour table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The link, by number.
    pub index: u32,
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its hardware address; `None` while it is not known.
    pub mac: Option<Mac>,
    /// Whether it was set by hand and never expires.
    pub permanent: bool,
}

impl Neighbour {
    fn read(answer: &Answer<'_>) -> Option<Neighbour> {
        if answer.kind != RTM_NEWNEIGH {
            return None;
        }
        // struct ndmsg: family, padding (3), index, state, flags, type
        let (mut address, mut mac) = (None, None);
        for (kind, value) in attributes(answer.body.get(12..)?) {
            match kind {
                NDA_DST => address = ip(value),
                NDA_LLADDR => mac = Mac::from_bytes(value),
                _ => {}
            }
        }
        let permanent = u16_at(answer.body, 8)? & NUD_PERMANENT != 0;
        Some(Neighbour { index: u32_at(answer.body, 4)?, ip: address?, mac, permanent })
    }
}

fn ndmsg(family: u8, index: u32, state: u16) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes
}

impl Netlink {
    /// The neighbours of a link.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn neighbours(&self, link: &Link) -> Result<Vec<Neighbour>> {
        let message = Message::new(RTM_GETNEIGH, libc::NLM_F_DUMP, &ndmsg(libc::AF_UNSPEC as u8, 0, 0));
        let doing = || format!("listing the neighbours of interface {}", link.name);
        self.query(message, doing, |answer| Neighbour::read(answer).filter(|found| found.index == link.index))
    }

    /// Sets a neighbour by hand, in place of what is known of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_neighbour(&self, link: &Link, ip: IpAddr, mac: Mac) -> Result<()> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut message = Message::new(RTM_NEWNEIGH, flags, &ndmsg(family(ip), link.index, NUD_PERMANENT));
        message.attr(NDA_DST, &octets(ip)).attr(NDA_LLADDR, &mac.0);
        self.apply(message, || format!("setting neighbour {ip} of interface {}", link.name))
    }

    /// Forgets a neighbour. Succeeds when it is not known.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_neighbour(&self, link: &Link, ip: IpAddr) -> Result<()> {
        let mut message = Message::new(RTM_DELNEIGH, libc::NLM_F_ACK, &ndmsg(family(ip), link.index, 0));
        message.attr(NDA_DST, &octets(ip));
        let forgotten =
            self.apply(message, || format!("forgetting neighbour {ip} of interface {}", link.name));
        match forgotten {
            Err(err) if err.errno == nix::errno::Errno::ENOENT => Ok(()),
            other => gone_is_fine(other),
        }
    }
}
