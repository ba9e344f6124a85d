//! Ports of a bridge and their VLANs.

use nix::libc;

use super::link::{Link, ifinfomsg};
use super::message::{Answer, Message, attributes, u16_at, u32_at};
use super::uapi::*;
use super::{Netlink, Result};

/// The settings of a bridge port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BridgePort {
    /// Frames may leave through the port by which they arrived.
    pub hairpin: bool,
    /// Frames don't pass to other isolated ports.
    pub isolated: bool,
}

/// VLANs of a bridge port, from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BridgeVlan {
    /// The first VLAN id.
    pub first: u16,
    /// The last VLAN id.
    pub last: u16,
    /// Untagged frames that arrive belong to it.
    pub pvid: bool,
    /// Its frames leave untagged.
    pub untagged: bool,
}

impl BridgeVlan {
    /// The VLAN of an access port: frames are untagged in both directions.
    pub fn access(vid: u16) -> BridgeVlan {
        BridgeVlan { first: vid, last: vid, pvid: true, untagged: true }
    }

    /// VLANs whose frames are tagged in both directions.
    pub fn tagged(first: u16, last: u16) -> BridgeVlan {
        BridgeVlan { first, last, pvid: false, untagged: false }
    }

    /// The entries of `IFLA_AF_SPEC` (`struct bridge_vlan_info`: flags, vid).
    fn append(self, spec: &mut Message) {
        let mut flags = 0;
        if self.pvid {
            flags |= BRIDGE_VLAN_INFO_PVID;
        }
        if self.untagged {
            flags |= BRIDGE_VLAN_INFO_UNTAGGED;
        }
        let mut entry = |flags: u16, vid: u16| {
            let [a, b] = flags.to_ne_bytes();
            let [c, d] = vid.to_ne_bytes();
            spec.attr(IFLA_BRIDGE_VLAN_INFO, &[a, b, c, d]);
        };
        if self.first == self.last {
            return entry(flags, self.first);
        }
        entry(flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, self.first);
        entry(flags | BRIDGE_VLAN_INFO_RANGE_END, self.last);
    }
}

impl Link {
    /// Its settings as a bridge port; the defaults for other links.
    pub fn bridge_port(&self) -> BridgePort {
        let on = |attribute| self.port_number(attribute).is_some_and(|number| number != 0);
        BridgePort { hairpin: on(IFLA_BRPORT_MODE), isolated: on(IFLA_BRPORT_ISOLATED) }
    }

    /// Whether it is a bridge that separates VLANs.
    pub fn filters_vlans(&self) -> bool {
        self.is("bridge") && self.kind_number(IFLA_BR_VLAN_FILTERING).is_some_and(|on| on != 0)
    }

    /// The VLAN that a bridge gives a new port (`default_pvid`); `None` where that is turned off.
    pub fn default_vlan(&self) -> Option<u16> {
        let vid = self.kind_number(IFLA_BR_VLAN_DEFAULT_PVID).filter(|vid| *vid != 0 && self.is("bridge"))?;
        u16::try_from(vid).ok()
    }
}

impl Netlink {
    /// Sets what a bridge does with a port.
    ///
    /// # Errors
    /// When the link is not a port of a bridge.
    pub fn set_bridge_port(&self, port: &Link, settings: BridgePort) -> Result<()> {
        let fixed = ifinfomsg(libc::AF_UNSPEC, port.index, 0, 0);
        let mut message = Message::new(RTM_NEWLINK, libc::NLM_F_ACK, &fixed);
        message.nest(IFLA_LINKINFO, |info| {
            // The attributes below are those of this kind of master.
            info.attr_str(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |data| {
                data.attr(IFLA_BRPORT_MODE, &[settings.hairpin.into()]);
                data.attr(IFLA_BRPORT_ISOLATED, &[settings.isolated.into()]);
            });
        });
        self.apply(&message, || format!("setting {settings:?} of bridge port {}", port.name))
    }

    /// Adds VLANs to a bridge port.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the kernel has no VLAN filtering.
    pub fn add_bridge_vlans(&self, port: &Link, vlans: &[BridgeVlan]) -> Result<()> {
        self.change_vlans(RTM_SETLINK, port, vlans)
    }

    /// Removes VLANs from a bridge port. Succeeds where it does not have them.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the kernel has no VLAN filtering.
    pub fn delete_bridge_vlans(&self, port: &Link, vlans: &[BridgeVlan]) -> Result<()> {
        self.change_vlans(RTM_DELLINK, port, vlans)
    }

    fn change_vlans(&self, kind: u16, port: &Link, vlans: &[BridgeVlan]) -> Result<()> {
        if vlans.is_empty() {
            return Ok(());
        }
        let fixed = ifinfomsg(libc::AF_BRIDGE, port.index, 0, 0);
        let mut message = Message::new(kind, libc::NLM_F_ACK, &fixed);
        message.nest(IFLA_AF_SPEC, |spec| {
            // The link's master handles the request, not the link's own driver.
            spec.attr(IFLA_BRIDGE_FLAGS, &BRIDGE_FLAGS_MASTER.to_ne_bytes());
            vlans.iter().for_each(|vlan| vlan.append(spec));
        });
        self.apply(&message, || format!("changing the VLANs of bridge port {}", port.name))
    }

    /// The VLANs of a bridge port, one entry for each.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn bridge_vlans(&self, port: &Link) -> Result<Vec<BridgeVlan>> {
        let fixed = ifinfomsg(libc::AF_BRIDGE, 0, 0, 0);
        let mut message = Message::new(RTM_GETLINK, libc::NLM_F_DUMP, &fixed);
        message.attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN);
        let operation = || format!("listing the VLANs of bridge port {}", port.name);
        let found = self.list(&message, operation, |answer| read_vlans(answer, port.index))?;
        Ok(found.concat())
    }
}

pub(super) fn read_vlans(answer: &Answer<'_>, index: u32) -> Option<Vec<BridgeVlan>> {
    if answer.kind != RTM_NEWLINK || u32_at(answer.body, 4)? != index {
        return None;
    }
    let (_, spec) = attributes(answer.body.get(16..)?).find(|(kind, _)| *kind == IFLA_AF_SPEC)?;
    let vlan = |(_, value): (u16, &[u8])| {
        let (flags, vid) = (u16_at(value, 0)?, u16_at(value, 2)?);
        Some(BridgeVlan {
            first: vid,
            last: vid,
            pvid: flags & BRIDGE_VLAN_INFO_PVID != 0,
            untagged: flags & BRIDGE_VLAN_INFO_UNTAGGED != 0,
        })
    };
    Some(attributes(spec).filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO).filter_map(vlan).collect())
}
