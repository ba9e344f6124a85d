//! The IDs by which a network namespace knows others.

use std::os::fd::{AsFd, AsRawFd};

use super::message::{Answer, Message, attributes, i32_at};
use super::uapi::{NETNSA_FD, NETNSA_NSID, RTM_GETNSID, RTM_NEWNSID};
use super::{Netlink, Result};
use crate::netns::Netns;

/// `NETNSA_NSID_NOT_ASSIGNED` of include/uapi/linux/net_namespace.h.
const NOT_ASSIGNED: i32 = -1;

impl Netlink {
    /// The ID by which this namespace knows another, as [`super::Link::lower_netnsid`] has it; `None` where it has no
    /// ID for it: then no link here has its lower device or peer there (`rtnl_net_getid` in net/core/net_namespace.c).
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn netnsid_of(&self, netns: &Netns) -> Result<Option<i32>> {
        // struct rtgenmsg: the family, which is none; and padding
        let mut message = Message::new(RTM_GETNSID, 0, &[0; 4]);
        // The kernel reads it as u32, and takes it for a descriptor of this process.
        message.attr(NETNSA_FD, &netns.as_fd().as_raw_fd().to_ne_bytes());
        let operation = || format!("looking up the ID of namespace {}", netns.path().display());
        let id = self.get(&message, operation, read)?;
        Ok(Some(id).filter(|id| *id != NOT_ASSIGNED))
    }
}

fn read(answer: &Answer<'_>) -> Option<i32> {
    if answer.kind != RTM_NEWNSID {
        return None;
    }
    let (_, value) = attributes(answer.body.get(4..)?).find(|(kind, _)| *kind == NETNSA_NSID)?;
    i32_at(value, 0)
}
