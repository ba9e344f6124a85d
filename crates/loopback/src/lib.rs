//! Sets up the loopback interface of a container.
//!
//! A runtime calls this before the first network, with any `CNI_IFNAME`: the interface is `lo`.
#![deny(missing_docs)]

use cni_core::interface::missing;
use cni_core::namespaces::Namespaces;
use cni_core::netlink::{Address, Link, Netlink};
use cni_core::plugin::{About, Kind, Plugin};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Code, Error, Interface, IpConfig, Result};

const NAME: &str = "lo";

/// The plugin.
pub struct Loopback;

/// Every key, for the documentation and `cnictl validate`: none.
pub const KEYS: &[cni_core::keys::Key] = &[];

impl Plugin for Loopback {
    fn about(&self) -> About {
        About {
            names: &["loopback"],
            summary: "sets up the loopback interface of a container",
            kind: Kind::Interface,
        }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        // Read before anything is changed: it may be invalid.
        let prev = request.conf.prev_result()?;
        request.conf.dns()?;
        let namespaces = Namespaces::open(request)?;
        let container = &namespaces.container;
        let link = loopback(container)?;
        only_loopback(&container.addresses(&link)?)?;
        container.set_up(&link)?;
        // The kernel adds its addresses as it comes up.
        let addresses = container.addresses(&link)?;
        if let Some(prev) = prev {
            return Ok(prev);
        }
        let interface = Interface {
            name: NAME.to_owned(),
            mac: "00:00:00:00:00:00".to_owned(),
            sandbox: namespaces.sandbox(),
            ..Interface::default()
        };
        // One address of each family: results of all versions have room for that.
        let first = |v4: bool| addresses.iter().find(|address| address.cidr.is_ipv4() == v4);
        let ip = |address| IpConfig { interface: Some(0), address, gateway: None };
        let ips = [first(true), first(false)].into_iter().flatten().map(|address| ip(address.cidr)).collect();
        Ok(AddResult { interfaces: vec![interface], ips, ..AddResult::default() })
    }

    fn del(&self, request: &Request) -> Result<()> {
        let Some(Namespaces { container, .. }) = Namespaces::open_remaining(request)? else { return Ok(()) };
        Ok(container.set_down(&loopback(&container)?)?)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let Namespaces { container, .. } = Namespaces::open(request)?;
        if loopback(&container)?.up { Ok(()) } else { Err(Error::check(format!("interface {NAME} is down"))) }
    }
}

/// An interface with other addresses serves another purpose. The Go plugin refuses it too.
fn only_loopback(addresses: &[Address]) -> Result<()> {
    match addresses.iter().find(|address| !address.cidr.ip().is_loopback()) {
        None => Ok(()),
        Some(other) => Err(Error::new(
            Code::KERNEL,
            format!("interface {NAME} has address {}, which is not a loopback address", other.cidr),
        )),
    }
}

/// The loopback interface, which every network namespace has.
fn loopback(container: &Netlink) -> Result<Link> {
    container.link(NAME)?.ok_or_else(|| missing(NAME, "the container"))
}
