//! Brings up the loopback interface of a container.
//!
//! A runtime calls this before the first network, with any `CNI_IFNAME`: the interface is `lo`.
#![deny(missing_docs)]

use cni_core::interface::missing;
use cni_core::netlink::{Address, Link, Netlink};
use cni_core::netns::Netns;
use cni_core::plugin::{About, Plugin};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Code, Error, Interface, IpConfig, Result};

const NAME: &str = "lo";

/// The plugin.
pub struct Loopback;

impl Plugin for Loopback {
    fn about(&self) -> About {
        About { names: &["loopback"], summary: "brings up the loopback interface of a container" }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        // Read first: a broken one must not be found when something was done already.
        let prev = request.conf.prev_result()?;
        let path = request.netns()?;
        let container = Netlink::open_in(&Netns::open_existing(path)?)?;
        let link = loopback(&container)?;
        only_loopback(&container.addresses(&link)?)?;
        container.set_up(&link)?;
        // Its own addresses come as it goes up.
        let addresses = container.addresses(&link)?;
        if let Some(prev) = prev {
            return Ok(prev);
        }
        let interface = Interface {
            name: NAME.to_owned(),
            mac: "00:00:00:00:00:00".to_owned(),
            sandbox: path.display().to_string(),
            ..Interface::default()
        };
        // One address a family, as results of all versions can say.
        let first = |v4: bool| addresses.iter().find(|address| address.cidr.is_ipv4() == v4);
        let ip = |address| IpConfig { interface: Some(0), address, gateway: None };
        let ips = [first(true), first(false)].into_iter().flatten().map(|address| ip(address.cidr)).collect();
        Ok(AddResult { interfaces: vec![interface], ips, ..AddResult::default() })
    }

    fn del(&self, request: &Request) -> Result<()> {
        let Some(netns) = Netns::open_what_is_left(request.env.netns.as_deref())? else { return Ok(()) };
        let container = Netlink::open_in(&netns)?;
        Ok(container.set_down(&loopback(&container)?)?)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let container = Netlink::open_in(&Netns::open_existing(request.netns()?)?)?;
        if loopback(&container)?.up { Ok(()) } else { Err(Error::check(format!("interface {NAME} is down"))) }
    }
}

/// As the Go plugin: an interface with other addresses is used for something else by somebody.
fn only_loopback(addresses: &[Address]) -> Result<()> {
    match addresses.iter().find(|address| !address.cidr.ip().is_loopback()) {
        None => Ok(()),
        Some(other) => Err(Error::new(
            Code::KERNEL,
            format!("interface {NAME} has address {}, which is none of loopback", other.cidr),
        )),
    }
}

/// Every network namespace has one, from its creation to its end.
fn loopback(container: &Netlink) -> Result<Link> {
    container.link(NAME)?.ok_or_else(|| missing(NAME, "the container"))
}
