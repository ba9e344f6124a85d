//! The interface of an attachment: where it is, and whether it is still the same one.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cni_core::netlink::{Link, Netlink};
use cni_core::netns::Netns;
use cni_core::spec::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// What identifies an interface, also after a restart of the daemon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    /// The namespace's path, as this process finds it.
    path: PathBuf,
    /// The namespace's device and inode: a path may lead to another one later.
    dev: u64,
    ino: u64,
    /// The interface's number, name and MAC address.
    pub(crate) index: u32,
    pub(crate) ifname: String,
    pub(crate) mac: [u8; 6],
}

/// An interface that was found again.
pub(crate) struct Found {
    pub(crate) netns: Netns,
    pub(crate) netlink: Netlink,
    pub(crate) link: Link,
}

/// Why there is nothing to hold a lease for any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Gone {
    /// The namespace was deleted, or its path leads to another one.
    Namespace,
    /// The interface was deleted.
    Interface,
    /// Another program gave it another name or MAC address, as KubeVirt does.
    TakenOver,
    /// The attachment ended: a DEL, or another ADD in its place.
    Released,
    /// It can't be looked at.
    Unknown(Error),
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gone::Namespace => f.write_str("the container's namespace is gone"),
            Gone::Interface => f.write_str("the interface is gone"),
            Gone::TakenOver => f.write_str("another program gave the interface another name or MAC address"),
            Gone::Released => f.write_str("another call released the attachment meanwhile"),
            Gone::Unknown(err) => write!(f, "it can't be looked at: {err}"),
        }
    }
}

impl Place {
    /// The interface of a name in the namespace at a path.
    ///
    /// # Errors
    /// Where either is missing, or the interface is not of Ethernet.
    pub(crate) fn find(path: &Path, ifname: &str) -> Result<(Place, Found)> {
        let netns = Netns::open_existing(path)?;
        let netlink = Netlink::open_in(&netns)?;
        let link = netlink.link(ifname)?.ok_or_else(|| {
            Error::new(
                Code::INVALID_ENVIRONMENT,
                format!("CNI_IFNAME {ifname}: is missing in {}", path.display()),
            )
        })?;
        let mac = link.mac.ok_or_else(|| {
            Error::invalid_config(format!("interface {ifname} has no Ethernet address, which DHCP needs"))
        })?;
        let (dev, ino) = identity(&netns)?;
        let place = Place {
            path: path.to_owned(),
            dev,
            ino,
            index: link.index,
            ifname: ifname.to_owned(),
            mac: mac.0,
        };
        Ok((place, Found { netns, netlink, link }))
    }

    /// The same interface again.
    ///
    /// # Errors
    /// What became of it.
    pub(crate) fn again(&self) -> Result<Found, Gone> {
        let netns = match Netns::open(&self.path) {
            Ok(Some(netns)) => netns,
            Ok(None) => return Err(Gone::Namespace),
            Err(err) if err.code() == Code::INVALID_ENVIRONMENT => return Err(Gone::Namespace),
            Err(err) => return Err(Gone::Unknown(err)),
        };
        if identity(&netns).map_err(Gone::Unknown)? != (self.dev, self.ino) {
            return Err(Gone::Namespace);
        }
        let netlink = Netlink::open_in(&netns).map_err(Gone::Unknown)?;
        let link = netlink.link_by_index(self.index).map_err(|err| Gone::Unknown(err.into()))?;
        let link = link.ok_or(Gone::Interface)?;
        if link.name != self.ifname || link.mac.is_none_or(|mac| mac.0 != self.mac) {
            return Err(Gone::TakenOver);
        }
        Ok(Found { netns, netlink, link })
    }

    /// Whether this is an interface in the same namespace.
    pub(crate) fn is_same(&self, other: &Place) -> bool {
        (self.dev, self.ino, self.index, self.mac) == (other.dev, other.ino, other.index, other.mac)
    }
}

fn identity(netns: &Netns) -> Result<(u64, u64)> {
    let stat = nix::sys::stat::fstat(netns.as_fd())
        .map_err(|errno| Error::io(format_args!("looking at {}", netns.path().display()), errno))?;
    Ok((stat.st_dev, stat.st_ino))
}
