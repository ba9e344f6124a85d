//! Addresses of links.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use super::connection::Refusal;
use super::link::{Link, gone_is_fine};
use super::message::{Answer, Message, attributes, u32_at};
use super::uapi::*;
use super::{Netlink, Result};
use crate::spec::Cidr;

/// An address of a link as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The index of its link.
    pub index: u32,
    /// The address.
    pub cidr: Cidr,
    /// Its scope: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Duplicate address detection is not finished, so that it can't be used yet (RFC 4862,
    /// section 5.4).
    pub tentative: bool,
    /// It is used although it is tentative (RFC 4429).
    pub optimistic: bool,
    /// It is one of those that change for privacy (RFC 8981).
    pub temporary: bool,
    /// Duplicate address detection found another node with it.
    pub duplicate: bool,
}

impl Address {
    pub(super) fn read(answer: &Answer<'_>) -> Option<Address> {
        if answer.kind != RTM_NEWADDR {
            return None;
        }
        // struct ifaddrmsg: family, prefix length, flags, scope, index
        let [_, prefix, flags, scope] = *answer.body.get(..4)? else {
            return None;
        };
        let (mut local, mut address, mut flags) = (None, None, u32::from(flags));
        for (kind, value) in attributes(answer.body.get(8..)?) {
            match kind {
                IFA_LOCAL => local = ip(value),
                IFA_ADDRESS => address = ip(value),
                IFA_FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        Some(Address {
            index: u32_at(answer.body, 4)?,
            // On a point-to-point link IFA_ADDRESS is that of the peer.
            cidr: Cidr::new(local.or(address)?, prefix)?,
            scope,
            tentative: flags & IFA_F_TENTATIVE != 0,
            optimistic: flags & IFA_F_OPTIMISTIC != 0,
            temporary: flags & IFA_F_TEMPORARY != 0,
            duplicate: flags & IFA_F_DADFAILED != 0,
        })
    }
}

/// An IP address from its bytes in network byte order.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// The bytes of an IP address in network byte order.
pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The kernel's number of an address family.
pub(super) fn family(ip: IpAddr) -> u8 {
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// `struct ifaddrmsg`.
fn ifaddrmsg(family: u8, prefix: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, prefix, 0, 0, a, b, c, d]
}

impl Netlink {
    /// The addresses of a link.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn addresses(&self, link: &Link) -> Result<Vec<Address>> {
        let fixed = ifaddrmsg(libc::AF_UNSPEC as u8, 0, link.index);
        let message = Message::new(RTM_GETADDR, libc::NLM_F_DUMP, &fixed);
        let operation = || format!("listing the addresses of interface {}", link.name);
        // Kernels before 4.20 ignore the index and list the addresses of all links.
        self.list(&message, operation, |answer| {
            Address::read(answer).filter(|address| address.index == link.index)
        })
    }

    /// Adds an address to a link.
    ///
    /// # Errors
    /// `EEXIST` when the link has the address already.
    pub fn add_address(&self, link: &Link, cidr: Cidr) -> Result<()> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = address_message(RTM_NEWADDR, flags, link, cidr);
        if let IpAddr::V4(broadcast) = cidr.broadcast()
            && cidr.prefix() < 31
        {
            // RFC 3021: a /31 has no broadcast address.
            message.attr(IFA_BROADCAST, &broadcast.octets());
        }
        self.apply(&message, || format!("adding address {cidr} to interface {}", link.name))
    }

    /// Adds an address that the kernel removes after so many seconds, `None` for never; where the
    /// link has it already, only the time is changed (`inet_rtm_newaddr` in net/ipv4/devinet.c).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lease_address(&self, link: &Link, cidr: Cidr, seconds: Option<u32>) -> Result<()> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut message = address_message(RTM_NEWADDR, flags, link, cidr);
        if let IpAddr::V4(broadcast) = cidr.broadcast()
            && cidr.prefix() < 31
        {
            message.attr(IFA_BROADCAST, &broadcast.octets());
        }
        // struct ifa_cacheinfo: preferred and valid lifetime, and two times that only the kernel sets
        let lifetime = seconds.unwrap_or(u32::MAX).to_ne_bytes();
        message.attr(IFA_CACHEINFO, &[lifetime, lifetime, [0; 4], [0; 4]].concat());
        self.apply(&message, || format!("setting the lifetime of address {cidr} of interface {}", link.name))
    }

    /// The same for an IPv6 address of a DHCP server, which says nothing of the prefix that is on the link
    /// (RFC 8415, section 18.2.10.1); it is preferred for a part of its time.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lease_ipv6_address(
        &self,
        link: &Link,
        address: Ipv6Addr,
        preferred: Option<u32>,
        valid: Option<u32>,
    ) -> Result<()> {
        let cidr = Cidr::host(address.into());
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut message = address_message(RTM_NEWADDR, flags, link, cidr);
        message.attr_u32(IFA_FLAGS, IFA_F_NOPREFIXROUTE);
        let [preferred, valid] = [preferred, valid].map(|seconds| seconds.unwrap_or(u32::MAX).to_ne_bytes());
        message.attr(IFA_CACHEINFO, &[preferred, valid, [0; 4], [0; 4]].concat());
        self.apply(&message, || {
            format!("setting the lifetime of address {address} of interface {}", link.name)
        })
    }

    /// Removes an address from a link. Succeeds when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_address(&self, link: &Link, cidr: Cidr) -> Result<()> {
        let message = address_message(RTM_DELADDR, libc::NLM_F_ACK, link, cidr);
        gone_is_fine(self.apply(&message, || format!("removing address {cidr} from interface {}", link.name)))
    }

    /// Waits until duplicate address detection of all IPv6 addresses of a link has finished.
    ///
    /// # Errors
    /// `EADDRINUSE` when another node has one of them, `ETIMEDOUT` when the limit passes.
    pub fn wait_until_settled(&self, link: &Link, limit: Duration) -> Result<()> {
        let operation = || format!("waiting for duplicate address detection on interface {}", link.name);
        self.wait_for(RTNLGRP_IPV6_IFADDR, limit, operation, || {
            let addresses = self.addresses(link)?;
            if let Some(duplicate) = addresses.iter().find(|address| address.duplicate) {
                let kernel_message = format!("another node on the link has {}", duplicate.cidr.ip());
                return Err(Refusal::new(Errno::EADDRINUSE, kernel_message).during(operation()));
            }
            Ok(addresses.iter().all(|address| !address.tentative).then_some(()))
        })
    }
}

fn address_message(kind: u16, flags: i32, link: &Link, cidr: Cidr) -> Message {
    let octets = octets(cidr.ip());
    let fixed = ifaddrmsg(family(cidr.ip()), cidr.prefix(), link.index);
    let mut message = Message::new(kind, flags, &fixed);
    message.attr(IFA_LOCAL, &octets).attr(IFA_ADDRESS, &octets);
    message
}
