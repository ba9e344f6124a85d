//! Creating links: one message with all that can be said at once.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::link::{Link, ifinfomsg};
use super::message::Message;
use super::uapi::*;
use super::{Failure, Netlink, Result};
use crate::spec::Mac;

/// A link to be created.
#[derive(Clone, Debug)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
    /// Its MTU in bytes; `None` for the kind's own.
    pub mtu: Option<u32>,
    /// Its hardware address; `None` for a random one.
    pub mac: Option<Mac>,
    /// The bridge it becomes a port of, by number.
    pub master: Option<u32>,
    /// Whether it is set up at once.
    pub up: bool,
    /// The namespace it is created in; `None` for the socket's.
    pub netns: Option<BorrowedFd<'a>>,
}

/// The kinds of links that are created here, with what only they have.
#[derive(Clone, Debug)]
pub enum Kind<'a> {
    /// An Ethernet bridge.
    Bridge {
        /// Whether it keeps VLANs apart.
        vlan_filtering: bool,
    },
    /// A pair of connected Ethernet interfaces.
    Veth {
        /// The other end, said once by the end that is created first.
        peer: Option<Box<NewLink<'a>>>,
    },
    /// A virtual interface with a MAC address of its own on a master.
    Macvlan {
        /// The master, by number in the socket's namespace.
        master: u32,
        /// What may reach what.
        mode: MacvlanMode,
        /// Queue length for broadcasts in packets, `None` for the kernel's default.
        bc_queue_len: Option<u32>,
    },
    /// A virtual interface that shares its master's MAC address.
    Ipvlan {
        /// The master, by number in the socket's namespace.
        master: u32,
        /// The layer at which packets are told apart.
        mode: IpvlanMode,
    },
}

/// What macvlan interfaces of one master may reach (`enum macvlan_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Each other, directly.
    #[default]
    Bridge,
    /// Not each other.
    Private,
    /// Each other by way of an outside switch that sends frames back (802.1Qbg).
    Vepa,
    /// There is only one, which takes the master over.
    Passthru,
}

/// The layer at which ipvlan tells packets apart (`enum ipvlan_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Layer 2: ARP and broadcasts pass.
    #[default]
    L2,
    /// Layer 3: the master's namespace routes.
    L3,
    /// Layer 3, and packets pass the master's firewall.
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
    /// The mode of a macvlan, `None` for another kind or mode.
    pub fn macvlan_mode(&self) -> Option<MacvlanMode> {
        let number = self.kind_number(IFLA_MACVLAN_MODE).filter(|_| self.is("macvlan"))?;
        let modes = [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Vepa, MacvlanMode::Passthru];
        modes.into_iter().find(|mode| mode.number() == number)
    }

    /// The mode of an ipvlan, `None` for another kind or mode.
    pub fn ipvlan_mode(&self) -> Option<IpvlanMode> {
        let number = self.kind_number(IFLA_IPVLAN_MODE).filter(|_| self.is("ipvlan"))?;
        [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s]
            .into_iter()
            .find(|mode| u32::from(mode.number()) == number)
    }
}

impl Netlink {
    /// Creates a link in the namespace of this connection and gives it as the kernel made it.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, here or where the other end of a veth goes.
    pub fn create_link(&self, new: &NewLink<'_>) -> Result<Link> {
        match self.request_link(new)? {
            Some(link) => Ok(link),
            None => self.link(new.name)?.ok_or_else(|| Failure {
                doing: new.to_string(),
                errno: Errno::ENODEV,
                words: "it was deleted as soon as it was made".to_owned(),
            }),
        }
    }

    /// Creates a link in the namespace that [`NewLink::netns`] says, from where its master is.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken there, or on older kernels (6.1 for one) also here; `EBUSY` when the
    /// master is in another use.
    pub fn create_link_elsewhere(&self, new: &NewLink<'_>) -> Result<()> {
        self.request_link(new).map(|_| ())
    }

    /// What the kernel echoes of the new link: the acknowledgement alone has no number.
    /// Kernels before 6.2 echo nothing.
    fn request_link(&self, new: &NewLink<'_>) -> Result<Option<Link>> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ECHO;
        let mut message = Message::new(RTM_NEWLINK, flags, &new.header());
        new.append(&mut message);
        let mut echoed = None;
        self.change(
            message,
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

impl std::fmt::Display for NewLink<'_> {
    /// What an error says was being done.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "creating {} interface {}", self.kind.name(), self.name)
    }
}

impl NewLink<'_> {
    fn header(&self) -> [u8; 16] {
        let flags = if self.up { IFF_UP } else { 0 };
        ifinfomsg(libc::AF_UNSPEC, 0, flags, flags)
    }

    /// What either end of a veth says of itself: all but its kind, which is said once.
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
        if let Kind::Macvlan { master, .. } | Kind::Ipvlan { master, .. } = self.kind {
            message.attr_u32(IFLA_LINK, master);
        }
        message.nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, self.kind.name());
            info.nest(IFLA_INFO_DATA, |data| self.kind.append(data));
        });
    }
}

impl Kind<'_> {
    /// The kernel's name of the kind.
    fn name(&self) -> &'static str {
        match self {
            Kind::Bridge { .. } => "bridge",
            Kind::Veth { .. } => "veth",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
        }
    }

    fn append(&self, data: &mut Message) {
        match self {
            Kind::Bridge { vlan_filtering: false } => {}
            Kind::Bridge { vlan_filtering: true } => {
                data.attr(IFLA_BR_VLAN_FILTERING, &[1]);
            }
            Kind::Veth { peer: None } => {}
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
            }
        }
    }
}
