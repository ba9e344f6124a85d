//! Links: finding, changing and deleting them.

use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use super::connection::Refusal;
use super::message::{Answer, Message, attributes, i32_at, text, u16_at, u32_at};
use super::uapi::*;
use super::{Failure, Netlink, Result};
use crate::spec::Mac;

/// A network interface as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names, of up to 127 bytes (`ip link property add altname`).
    pub alt_names: Vec<String>,
    /// Its MAC address; `None` where its hardware address is not six bytes long.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it was set promiscuous (`ip link set promisc on`, not by a packet socket).
    pub promiscuous: bool,
    /// Whether it was set to receive all multicast (`ip link set allmulticast on`).
    pub all_multicast: bool,
    /// The length of its transmit queue in packets.
    pub tx_queue_len: u32,
    /// Its operational state.
    pub oper_state: OperState,
    /// The kind it was created as, such as `veth`; `None` for hardware.
    pub kind: Option<String>,
    /// The index of its lower device, or of a veth's peer (`IFLA_LINK`).
    pub lower: Option<u32>,
    /// The ID of the namespace of the lower device, where that is another one (`IFLA_LINK_NETNSID`, see
    /// [`Netlink::netnsid_of`]); -1 where the kernel is removing that namespace.
    pub lower_netnsid: Option<i32>,
    /// The index of the bridge, bond or VRF that it is a port of (`IFLA_MASTER`).
    pub master: Option<u32>,
    /// The group it is in (`ip link set group`).
    pub group: u32,
    /// The latest router advertisement on it, where there was one (RFC 4861, section 4.2).
    pub router: Option<RouterAdvertisement>,
    /// The attributes of its kind, as the kernel sent them.
    kind_data: Vec<u8>,
    /// The attributes of the port it is, as the kernel sent them.
    port_data: Vec<u8>,
}

/// What a router advertisement says of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterAdvertisement {
    /// Addresses are to be had by DHCPv6 (the M flag).
    pub managed: bool,
}

/// RFC 2863's operational state, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OperState {
    /// Not known: the driver does not say (loopback, tun).
    #[default]
    Unknown,
    /// Packets pass.
    Up,
    /// Packets do not pass: down, or what is below is.
    Down,
}

/// The latest router advertisement, from the attributes of IPv6 (`inet6_fill_ifla6_attrs` in net/ipv6/addrconf.c).
fn router(families: &[u8]) -> Option<RouterAdvertisement> {
    let (_, ipv6) = attributes(families).find(|(family, _)| *family == libc::AF_INET6 as u16)?;
    let (_, flags) = attributes(ipv6).find(|(kind, _)| *kind == IFLA_INET6_FLAGS)?;
    let flags = u32_at(flags, 0)?;
    (flags & IF_RA_RCVD != 0).then_some(RouterAdvertisement { managed: flags & IF_RA_MANAGED != 0 })
}

impl Link {
    /// Reads an answer; `None` when it is about something else.
    pub(super) fn read(answer: &Answer<'_>) -> Option<Link> {
        const IF_OPER_UNKNOWN: u8 = 0;
        const IF_OPER_UP: u8 = 6;
        if answer.kind != RTM_NEWLINK {
            return None;
        }
        // struct ifinfomsg: family, padding, type, index, flags, change
        let index = u32_at(answer.body, 4)?;
        let flags = u32_at(answer.body, 8)?;
        let mut link = Link {
            index,
            up: flags & IFF_UP != 0,
            promiscuous: flags & IFF_PROMISC != 0,
            all_multicast: flags & IFF_ALLMULTI != 0,
            ..Link::default()
        };
        for (kind, value) in attributes(answer.body.get(16..)?) {
            match kind {
                IFLA_IFNAME => link.name = text(value).to_owned(),
                IFLA_ADDRESS => link.mac = Mac::from_bytes(value),
                IFLA_MTU => link.mtu = u32_at(value, 0)?,
                IFLA_TXQLEN => link.tx_queue_len = u32_at(value, 0)?,
                IFLA_LINK => link.lower = u32_at(value, 0),
                IFLA_LINK_NETNSID => link.lower_netnsid = i32_at(value, 0),
                IFLA_MASTER => link.master = u32_at(value, 0),
                IFLA_GROUP => link.group = u32_at(value, 0)?,
                IFLA_OPERSTATE => {
                    link.oper_state = match *value.first()? {
                        IF_OPER_UNKNOWN => OperState::Unknown,
                        IF_OPER_UP => OperState::Up,
                        _ => OperState::Down,
                    }
                }
                IFLA_LINKINFO => link.read_info(value),
                IFLA_AF_SPEC if answer.body[0] == libc::AF_UNSPEC as u8 => link.router = router(value),
                IFLA_PROP_LIST => {
                    let names = attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                    link.alt_names = names.map(|(_, name)| text(name).to_owned()).collect();
                }
                _ => {}
            }
        }
        Some(link)
    }

    fn read_info(&mut self, value: &[u8]) {
        for (kind, value) in attributes(value) {
            match kind {
                IFLA_INFO_KIND => self.kind = Some(text(value).to_owned()),
                IFLA_INFO_DATA => self.kind_data = value.to_vec(),
                IFLA_INFO_SLAVE_DATA => self.port_data = value.to_vec(),
                _ => {}
            }
        }
    }

    /// Whether a name is its name or one of its alternative names.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alt_names.iter().any(|alt| alt == name)
    }

    /// Whether it is of a kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// A number among the attributes of its kind, of 1, 2 or 4 bytes.
    pub(super) fn kind_number(&self, attribute: u16) -> Option<u32> {
        number_in(&self.kind_data, attribute)
    }

    /// A number among the attributes of the port it is.
    pub(super) fn port_number(&self, attribute: u16) -> Option<u32> {
        number_in(&self.port_data, attribute)
    }
}

fn number_in(attrs: &[u8], attribute: u16) -> Option<u32> {
    let (_, value) = attributes(attrs).find(|(kind, _)| *kind == attribute)?;
    match value.len() {
        1 => Some(value[0].into()),
        2 => u16_at(value, 0).map(u32::from),
        _ => u32_at(value, 0),
    }
}

/// `struct ifinfomsg` for a link by number, 0 where its name or the kernel says which.
pub(super) fn ifinfomsg(family: i32, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = family as u8;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

impl Netlink {
    /// The link with a name or an alternative name. The kernel keeps all of these unique in a
    /// namespace; [`Link::name`] is its name, whichever was given.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut message = get_link(0);
        // Either attribute finds both sorts of names (`rtnl_dev_get` in net/core/rtnetlink.c). Kernels
        // before 5.5 know the first alone, which holds 15 bytes at most.
        let attribute = if name.len() < libc::IFNAMSIZ { IFLA_IFNAME } else { IFLA_ALT_IFNAME };
        message.attr_str(attribute, name);
        self.one_link(message, || format!("looking up interface {name}"))
    }

    /// The link with an index.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        self.one_link(get_link(index), || format!("looking up interface with index {index}"))
    }

    fn one_link(&self, message: Message, operation: impl FnOnce() -> String) -> Result<Option<Link>> {
        match self.get(&message, operation, Link::read) {
            Ok(link) => Ok(Some(link)),
            // Old kernels answer EINVAL for a name that no link has.
            Err(Failure { errno: Errno::ENODEV | Errno::EINVAL, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn links(&self) -> Result<Vec<Link>> {
        let mut message = Message::new(RTM_GETLINK, libc::NLM_F_DUMP, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0));
        message.attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        self.list(&message, || "listing interfaces".to_owned(), Link::read)
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_up(&self, link: &Link) -> Result<()> {
        self.set_flags(link, IFF_UP, IFF_UP, "up")
    }

    /// Sets a link down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_down(&self, link: &Link) -> Result<()> {
        self.set_flags(link, 0, IFF_UP, "down")
    }

    /// Sets whether a link is promiscuous.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_promiscuous(&self, link: &Link, on: bool) -> Result<()> {
        let (flags, state) = if on { (IFF_PROMISC, "promiscuous") } else { (0, "not promiscuous") };
        self.set_flags(link, flags, IFF_PROMISC, state)
    }

    /// Sets whether a link receives all multicast.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_all_multicast(&self, link: &Link, on: bool) -> Result<()> {
        let (flags, state) = if on { (IFF_ALLMULTI, "all-multicast") } else { (0, "not all-multicast") };
        self.set_flags(link, flags, IFF_ALLMULTI, state)
    }

    fn set_flags(&self, link: &Link, flags: u32, change: u32, state: &str) -> Result<()> {
        let fixed = ifinfomsg(libc::AF_UNSPEC, link.index, flags, change);
        let message = Message::new(RTM_NEWLINK, libc::NLM_F_ACK, &fixed);
        self.apply(&message, || format!("setting interface {} {state}", link.name))
    }

    /// Sets the MTU of a link in bytes.
    ///
    /// # Errors
    /// `EINVAL` when the link's kind or its lower device does not allow it.
    pub fn set_mtu(&self, link: &Link, mtu: u32) -> Result<()> {
        let mut message = set_link(link);
        message.attr_u32(IFLA_MTU, mtu);
        self.apply(&message, || format!("setting MTU {mtu} of interface {}", link.name))
    }

    /// Sets the length of a link's transmit queue in packets.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_tx_queue_len(&self, link: &Link, len: u32) -> Result<()> {
        let mut message = set_link(link);
        message.attr_u32(IFLA_TXQLEN, len);
        self.apply(&message, || format!("setting transmit queue length {len} of interface {}", link.name))
    }

    /// Sets the MAC address of a link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mac(&self, link: &Link, mac: Mac) -> Result<()> {
        let mut message = set_link(link);
        message.attr(IFLA_ADDRESS, &mac.0);
        self.apply(&message, || format!("setting MAC address {mac} of interface {}", link.name))
    }

    /// Has the kernel announce a link's addresses, by gratuitous ARP and unsolicited neighbour
    /// advertisements, where `arp_notify` and `ndisc_notify` are set: it does so whenever a MAC
    /// address is set, also to what it is (`NETDEV_CHANGEADDR` in net/ipv4/devinet.c and
    /// net/ipv6/ndisc.c).
    ///
    /// # Errors
    /// When the link can't change its MAC address while it is up.
    pub fn announce(&self, link: &Link) -> Result<()> {
        link.mac.map_or(Ok(()), |mac| self.set_mac(link, mac))
    }

    /// Gives a link another name. It must be down.
    ///
    /// # Errors
    /// When the kernel refuses, `EEXIST` for a name that another link has.
    pub fn rename(&self, link: &Link, name: &str) -> Result<()> {
        let mut message = set_link(link);
        message.attr_str(IFLA_IFNAME, name);
        self.apply(&message, || format!("renaming interface {} to {name}", link.name))
    }

    /// Puts a link into a group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_group(&self, link: &Link, group: u32) -> Result<()> {
        let mut message = set_link(link);
        message.attr_u32(IFLA_GROUP, group);
        self.apply(&message, || format!("putting interface {} into group {group}", link.name))
    }

    /// Deletes a link. Succeeds when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_link(&self, link: &Link) -> Result<()> {
        let fixed = ifinfomsg(libc::AF_UNSPEC, link.index, 0, 0);
        let message = Message::new(RTM_DELLINK, libc::NLM_F_ACK, &fixed);
        gone_is_fine(self.apply(&message, || format!("deleting interface {}", link.name)))
    }

    /// Deletes all links of a group with one message: the kernel waits once for all of them
    /// (`rtnl_group_dellink` in net/core/rtnetlink.c).
    ///
    /// # Errors
    /// When the kernel refuses, as it does when one of them can't be deleted.
    pub fn delete_group(&self, group: u32) -> Result<()> {
        let mut message = Message::new(RTM_DELLINK, libc::NLM_F_ACK, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0));
        message.attr_u32(IFLA_GROUP, group);
        gone_is_fine(self.apply(&message, || format!("deleting the interfaces of group {group}")))
    }

    /// Waits until a link that is up is operational too, and returns it as it is then.
    ///
    /// # Errors
    /// `ETIMEDOUT` when the limit passes, `ENODEV` when the link is gone.
    pub fn wait_until_operational(&self, name: &str, limit: Duration) -> Result<Link> {
        let operation = || format!("waiting for interface {name} to become operational");
        self.wait_for(RTNLGRP_LINK, limit, operation, || {
            let link = self.link(name)?.ok_or_else(|| Refusal::from(Errno::ENODEV).during(operation()))?;
            Ok((link.oper_state != OperState::Down).then_some(link))
        })
    }
}

fn get_link(index: u32) -> Message {
    let mut message = Message::new(RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, index, 0, 0));
    message.attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    message
}

fn set_link(link: &Link) -> Message {
    Message::new(RTM_NEWLINK, libc::NLM_F_ACK, &ifinfomsg(libc::AF_UNSPEC, link.index, 0, 0))
}

pub(super) fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(Failure { errno: Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL, .. }) => Ok(()),
        other => other,
    }
}
