//! How an attachment begins: with an ADD, with the address that an interface has already, or with the
//! leases of an earlier daemon.

use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use cni_core::netlink::IpvlanMode;
use cni_core::spec::{Code, Error, Result};
use dhcp_client::v4::{Client, Config, Event};

use super::Daemon;
use super::attachment::Attachment;
use super::ipv4::{Ipv4, client_config};
use super::ipv6::{self, Ipv6};
use super::on_link::OnLink;
use super::place::{Gone, Place};
use super::store::Leases;
use crate::protocol::Target;

impl Attachment {
    /// Begins to obtain a lease.
    ///
    /// # Errors
    /// When there is no such interface, or DHCP can't work over it.
    pub(crate) fn obtain(daemon: &Rc<Daemon>, target: Target) -> Result<Rc<Attachment>> {
        Self::begin(daemon, target, |config| Client::new(config, seed()), None)
    }

    /// Asks the servers for leases of the addresses that an interface has already.
    ///
    /// # Errors
    /// As [`Attachment::obtain`].
    pub(crate) fn adopt(
        daemon: &Rc<Daemon>,
        target: Target,
        address: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
    ) -> Result<Rc<Attachment>> {
        let client = |config: Config| match address {
            Some(address) => Client::with_address(config, seed(), address),
            None => Client::new(config, seed()),
        };
        let attachment = Self::begin(daemon, target, client, ipv6)?;
        if let Some(ipv4) = &attachment.ipv4 {
            let found = attachment.found()?;
            let addresses = found.netlink.addresses(&found.link)?;
            let cidr = addresses
                .iter()
                .map(|found| found.cidr)
                .find(|cidr| Some(cidr.ip()) == address.map(IpAddr::V4));
            ipv4.configures_from_now_on(cidr.map(|cidr| OnLink { cidr, routes: Vec::new() }));
        }
        Ok(attachment)
    }

    fn begin(
        daemon: &Rc<Daemon>,
        target: Target,
        client: impl FnOnce(Config) -> Client,
        ipv6_address: Option<Ipv6Addr>,
    ) -> Result<Rc<Attachment>> {
        let path = daemon.flags.on_host(&target.netns);
        let (place, found) = Place::find(&path, &target.id.attachment.ifname)?;
        let family = target.settings.family;
        let ipvlan = found.link.is("ipvlan");
        if ipvlan && found.link.ipvlan_mode() != Some(IpvlanMode::L2) {
            return Err(Error::invalid_config("DHCP can't work over ipvlan in the modes l3 and l3s")
                .details("no broadcast passes there; mode l2 works"));
        }
        let mut ipv6 = None;
        if family.has_ipv6() {
            let events =
                ipv6::events(&found.netns).map_err(|err| Error::io("listening to the kernel", err))?;
            ipv6::prepare(&found, &target.id.attachment.ifname)?;
            ipv6 = Some(Ipv6::new(&target.id, ipv6_address).listening(events));
        }
        // Containers on ipvlan share one MAC address: only a broadcast reaches the right one.
        let broadcast = daemon.flags.broadcast || ipvlan;
        if !found.link.up {
            found.netlink.set_up(&found.link)?;
        }
        let ipv4 =
            family.has_ipv4().then(|| Ipv4::new(client(client_config(daemon, &target, &place, broadcast))));
        let attachment = Self::new(daemon, target, place, ipv4, ipv6);
        attachment.see_carrier(found.netlink.link_by_index(found.link.index)?.as_ref());
        attachment.start();
        attachment.failed_at_once()?;
        Ok(attachment)
    }

    /// Goes on with leases after a restart of the daemon.
    ///
    /// # Errors
    /// What became of the interface.
    pub(crate) fn resume(daemon: &Rc<Daemon>, leases: Leases) -> Result<Rc<Attachment>, Gone> {
        let Leases { target, place, broadcast, ipv4, ipv6 } = leases;
        let found = place.again()?;
        let addresses = found.netlink.addresses(&found.link).map_err(|err| Gone::Unknown(err.into()))?;
        let has = |ip: IpAddr| addresses.iter().any(|address| address.cidr.ip() == ip);
        let family = target.settings.family;
        let ipv4 = family.has_ipv4().then(|| {
            let config = client_config(daemon, &target, &place, broadcast);
            let on_link = ipv4.as_ref().filter(|lease| has(lease.address.into()));
            let on_link = on_link.and_then(|lease| OnLink::of(lease, &target));
            let ipv4 = Ipv4::new(match ipv4 {
                Some(lease) => Client::with_lease(config, seed(), lease, on_link.is_none()),
                None => Client::new(config, seed()),
            });
            ipv4.configures_from_now_on(on_link);
            ipv4
        });
        let ipv6 = family.has_ipv6().then(|| match ipv6 {
            Some(lease) => {
                let confirm = !has(lease.address.into());
                Ipv6::with_lease(&target.id, lease, confirm)
            }
            None => Ipv6::new(&target.id, None),
        });
        let attachment = Self::new(daemon, target, place, ipv4, ipv6);
        attachment.see_carrier(Some(&found.link));
        attachment.start();
        Ok(attachment)
    }

    /// Begins with IPv4; IPv6 begins as soon as the link has an address.
    fn start(&self) {
        if let Some(ipv4) = &self.ipv4 {
            ipv4.step(self, Event::Start);
        }
    }

    /// An error where the first step found that the interface is of no use.
    fn failed_at_once(&self) -> Result<()> {
        match self.ended() {
            Some(gone) => Err(Error::new(Code::KERNEL, format!("interface {}: {gone}", self.place.ifname))),
            None => Ok(()),
        }
    }
}

/// Differs between clients that begin at the same time.
pub(crate) fn seed() -> u64 {
    // The standard library seeds it from getrandom(2).
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
