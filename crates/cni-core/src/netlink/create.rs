//! Creating links: one RTM_NEWLINK with all attributes that the kernel takes at once.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::connection::Refusal;
use super::link::{Link, ifinfomsg};
use super::message::Message;
use super::uapi::*;
use super::{Failure, Netlink, Result};
use crate::spec::Mac;

/// A link to be created.
///
/// ```
/// use cni_core::netlink::{Kind, NewLink};
///
/// let bridge = NewLink::new("cni0", Kind::Bridge { vlan_filtering: false }).mtu(Some(1400)).up();
/// assert_eq!(bridge.to_string(), "creating bridge interface cni0");
/// ```
#[derive(Clone, Debug)]
pub struct NewLink<'a> {
    name: &'a str,
    kind: Kind<'a>,
    mtu: Option<u32>,
    mac: Option<Mac>,
    master: Option<u32>,
    up: bool,
    netns: Option<BorrowedFd<'a>>,
}

/// The kinds of links that are created here, with what only they have.
///
/// A lower device is given by its index in the namespace of the socket that creates the link.
#[derive(Clone, Debug)]
pub enum Kind<'a> {
    /// An Ethernet bridge.
    Bridge {
        /// Whether it separates VLANs.
        vlan_filtering: bool,
    },
    /// An interface that drops what is sent to it.
    Dummy,
    /// One end of a pair of connected Ethernet interfaces.
    Veth {
        /// The other end; `None` in the peer itself, see [`NewLink::veth_peer`].
        peer: Option<Box<NewLink<'a>>>,
    },
    /// An interface with a MAC address of its own on a lower device.
    Macvlan {
        /// The lower device.
        lower: u32,
        /// Which interfaces reach each other.
        mode: MacvlanMode,
        /// Queue length for broadcasts in packets, `None` for the kernel's default.
        bc_queue_len: Option<u32>,
    },
    /// An interface that shares the MAC address of its lower device.
    Ipvlan {
        /// The lower device.
        lower: u32,
        /// The layer at which packets are assigned to interfaces.
        mode: IpvlanMode,
    },
    /// An interface for one VLAN of its lower device (IEEE 802.1Q).
    Vlan {
        /// The lower device.
        lower: u32,
        /// The VLAN ID, 0 to 4094.
        id: u16,
    },
}

/// Which macvlan interfaces of one lower device reach each other (`enum macvlan_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// All, directly.
    #[default]
    Bridge,
    /// None.
    Private,
    /// All, through an external switch that sends frames back (IEEE 802.1Qbg).
    Vepa,
    /// There is only one interface, which uses the lower device exclusively.
    Passthru,
}

/// The layer at which ipvlan assigns packets to interfaces (`enum ipvlan_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Layer 2: ARP and broadcasts pass.
    #[default]
    L2,
    /// Layer 3: the namespace of the lower device routes.
    L3,
    /// Layer 3, and packets pass the netfilter hooks of that namespace.
    L3s,
}

impl MacvlanMode {
    /// The kernel's number.
    fn number(self) -> u32 {
        match self {
            MacvlanMode::Private => 1,
            MacvlanMode::Vepa => 2,
            MacvlanMode::Bridge => 4,
            MacvlanMode::Passthru => 8,
        }
    }
}

impl IpvlanMode {
    /// The kernel's number.
    fn number(self) -> u16 {
        match self {
            IpvlanMode::L2 => 0,
            IpvlanMode::L3 => 1,
            IpvlanMode::L3s => 2,
        }
    }
}

impl Link {
    /// The mode of a macvlan; `None` for links of other kinds and for unknown modes.
    pub fn macvlan_mode(&self) -> Option<MacvlanMode> {
        let number = self.kind_number(IFLA_MACVLAN_MODE).filter(|_| self.is("macvlan"))?;
        let modes = [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Vepa, MacvlanMode::Passthru];
        modes.into_iter().find(|mode| mode.number() == number)
    }

    /// The mode of an ipvlan; `None` for links of other kinds and for unknown modes.
    pub fn ipvlan_mode(&self) -> Option<IpvlanMode> {
        let number = self.kind_number(IFLA_IPVLAN_MODE).filter(|_| self.is("ipvlan"))?;
        [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s]
            .into_iter()
            .find(|mode| u32::from(mode.number()) == number)
    }

    /// The VLAN ID of a VLAN interface; `None` for links of other kinds.
    pub fn vlan_id(&self) -> Option<u16> {
        self.kind_number(IFLA_VLAN_ID).filter(|_| self.is("vlan"))?.try_into().ok()
    }
}

impl<'a> NewLink<'a> {
    /// A link that is down, in the namespace of the socket, with the kind's default MTU and a
    /// random MAC address.
    pub fn new(name: &'a str, kind: Kind<'a>) -> NewLink<'a> {
        NewLink { name, kind, mtu: None, mac: None, master: None, up: false, netns: None }
    }

    /// The peer of a veth, which [`NewLink::veth`] takes.
    pub fn veth_peer(name: &'a str) -> NewLink<'a> {
        NewLink::new(name, Kind::Veth { peer: None })
    }

    /// A veth whose peer is created with it.
    pub fn veth(name: &'a str, peer: NewLink<'a>) -> NewLink<'a> {
        NewLink::new(name, Kind::Veth { peer: Some(Box::new(peer)) })
    }

    /// With an MTU in bytes; `None` for the kind's default.
    #[must_use]
    pub fn mtu(self, mtu: Option<u32>) -> NewLink<'a> {
        NewLink { mtu, ..self }
    }

    /// With a MAC address; `None` for a random one.
    #[must_use]
    pub fn mac(self, mac: Option<Mac>) -> NewLink<'a> {
        NewLink { mac, ..self }
    }

    /// As a port of a bridge, which becomes its master.
    #[must_use]
    pub fn port_of(self, master: &Link) -> NewLink<'a> {
        NewLink { master: Some(master.index), ..self }
    }

    /// In another namespace, from where a lower device is or where the veth peer stays.
    #[must_use]
    pub fn in_namespace(self, netns: &'a impl AsFd) -> NewLink<'a> {
        NewLink { netns: Some(netns.as_fd()), ..self }
    }

    /// Set up as soon as it is created.
    #[must_use]
    pub fn up(self) -> NewLink<'a> {
        NewLink { up: true, ..self }
    }

    /// The same link under another name.
    #[must_use]
    pub fn renamed<'b>(&self, name: &'b str) -> NewLink<'b>
    where
        'a: 'b,
    {
        NewLink { name, ..self.clone() }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The kernel's name of its kind.
    pub fn kind_name(&self) -> &'static str {
        self.kind.name()
    }

    /// Whether it is set up as soon as it is created.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// The failure where the link that was created does not exist.
    pub(crate) fn deleted_at_once(&self) -> Failure {
        Refusal::new(Errno::ENODEV, "another process deleted it at once").during(self.to_string())
    }

    fn header(&self) -> [u8; 16] {
        let flags = if self.up { IFF_UP } else { 0 };
        ifinfomsg(libc::AF_UNSPEC, 0, flags, flags)
    }

    /// The attributes that both ends of a veth have. The kind is not one: it is given once.
    fn append_end(&self, message: &mut Message) {
        message.attr_str(IFLA_IFNAME, self.name);
        if let Some(mtu) = self.mtu {
            message.attr_u32(IFLA_MTU, mtu);
        }
        if let Some(mac) = self.mac {
            message.attr(IFLA_ADDRESS, &mac.0);
        }
        if let Some(master) = self.master {
            message.attr_u32(IFLA_MASTER, master);
        }
        if let Some(netns) = self.netns {
            message.attr(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
        }
    }

    fn append(&self, message: &mut Message) {
        self.append_end(message);
        if let Some(lower) = self.kind.lower() {
            message.attr_u32(IFLA_LINK, lower);
        }
        message.nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, self.kind.name());
            info.nest(IFLA_INFO_DATA, |data| self.kind.append(data));
        });
    }
}

impl std::fmt::Display for NewLink<'_> {
    /// The operation, as an error names it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "creating {} interface {}", self.kind.name(), self.name)
    }
}

impl Kind<'_> {
    /// The kernel's name of the kind.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Bridge { .. } => "bridge",
            Kind::Dummy => "dummy",
            Kind::Veth { .. } => "veth",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
            Kind::Vlan { .. } => "vlan",
        }
    }

    fn lower(&self) -> Option<u32> {
        match self {
            Kind::Macvlan { lower, .. } | Kind::Ipvlan { lower, .. } | Kind::Vlan { lower, .. } => {
                Some(*lower)
            }
            Kind::Bridge { .. } | Kind::Dummy | Kind::Veth { .. } => None,
        }
    }

    fn append(&self, data: &mut Message) {
        match self {
            Kind::Dummy | Kind::Bridge { vlan_filtering: false } | Kind::Veth { peer: None } => {}
            Kind::Bridge { vlan_filtering: true } => {
                data.attr(IFLA_BR_VLAN_FILTERING, &[1]);
            }
            Kind::Veth { peer: Some(peer) } => {
                data.nest(VETH_INFO_PEER, |message| {
                    message.raw(&peer.header());
                    peer.append_end(message);
                });
            }
            Kind::Macvlan { mode, bc_queue_len, .. } => {
                data.attr_u32(IFLA_MACVLAN_MODE, mode.number());
                if let Some(len) = bc_queue_len {
                    data.attr_u32(IFLA_MACVLAN_BC_QUEUE_LEN, *len);
                }
            }
            Kind::Ipvlan { mode, .. } => {
                data.attr(IFLA_IPVLAN_MODE, &mode.number().to_ne_bytes());
                // All interfaces of a lower device share the flags, and the latest that is
                // created sets them (`ipvlan_link_new` in drivers/net/ipvlan/ipvlan_main.c). Without
                // them, it would become private where another program made a private one.
                data.attr(IFLA_IPVLAN_FLAGS, &0u16.to_ne_bytes());
            }
            Kind::Vlan { id, .. } => {
                data.attr(IFLA_VLAN_ID, &id.to_ne_bytes());
            }
        }
    }
}

impl Netlink {
    /// Creates a link in the namespace of this socket and returns it as the kernel made it.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, here or in the namespace of a veth's peer. A failure that is
    /// [`unanswered`](Failure::unanswered) may leave the link.
    pub fn create_link(&self, new: &NewLink<'_>) -> Result<Link> {
        match self.request_link(new)? {
            Some(link) => Ok(link),
            None => self
                .link(new.name)
                .map_err(|failure| Failure { unanswered: true, ..failure })?
                .ok_or_else(|| new.deleted_at_once()),
        }
    }

    /// Creates a link in the namespace given with [`NewLink::in_namespace`], from the namespace
    /// of its lower device.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken there, or on older kernels (such as 6.1) also here;
    /// `EBUSY` when the lower device can't carry another kind of link.
    pub fn create_link_in_namespace(&self, new: &NewLink<'_>) -> Result<()> {
        self.request_link(new).map(|_| ())
    }

    /// Creates a link and returns what the kernel echoes of it: an acknowledgement has no index.
    /// Kernels before 6.2 echo nothing.
    fn request_link(&self, new: &NewLink<'_>) -> Result<Option<Link>> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ECHO;
        let mut message = Message::new(RTM_NEWLINK, flags, &new.header());
        new.append(&mut message);
        let mut echoed = None;
        self.change(
            &message,
            || new.to_string(),
            |answer| {
                if let Some(link) = Link::read(answer).filter(|link| link.name == new.name) {
                    echoed.get_or_insert(link);
                }
            },
        )?;
        Ok(echoed)
    }
}
