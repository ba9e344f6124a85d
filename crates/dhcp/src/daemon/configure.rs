//! What a lease means for the interface.
//!
//! The plugin that made the interface configures the first address. From then on the daemon
//! does: the kernel gets the lease's lifetime, so that an address ends also where the daemon is
//! dead, and another address of a server takes the place of the earlier one.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use cni_core::netlink::{Errno, Link, Netlink};
use cni_core::spec::{Cidr, Result, Route};
use dhcp_client::v4::{Event, Lease};
use dhcp_client::{SECOND, Time};
use tokio::task::spawn_local;

use super::attachment::Attachment;
use super::conflict;
use super::ipv4::Ipv4;
use super::log::Level;
use super::on_link::OnLink;
use super::place::Found;

/// When the daemon looks whether the interface has its first address, in milliseconds after each
/// other: the plugin configures it after the daemon has answered.
const LOOKS: [u64; 9] = [50, 50, 100, 200, 400, 800, 1600, 3200, 6400];

impl Ipv4 {
    /// Configures the interface for a lease that is new or renewed.
    ///
    /// # Errors
    /// When the kernel refuses, or the interface is gone.
    pub(super) fn configure(&self, of: &Attachment, lease: &Lease) -> Result<()> {
        let found = of.found()?;
        set_mtu(of, &found, lease);
        let Some(wanted) = OnLink::of(lease, &of.target) else { return Ok(()) };
        let earlier = self.on_link.borrow().clone();
        match earlier {
            None if !self.configures.get() => {
                // An ADD: the plugin that made the interface configures it.
                if let Some(attachment) = of.itself.upgrade() {
                    spawn_local(settle(attachment, lease.clone()));
                }
                return Ok(());
            }
            Some(earlier) if earlier.cidr == wanted.cidr => {
                // Without its address the interface is not used as it was meant, and left alone.
                if has(&found.netlink, &found.link, wanted.cidr)? {
                    set_lifetime(of, &found, lease, wanted.cidr)?;
                }
                change_routes(of, &found, &earlier.routes, &wanted.routes);
            }
            earlier => {
                let before = earlier.as_ref().map_or_else(|| "none".to_owned(), |it| it.cidr.to_string());
                of.log(Level::Warning, "address-changed", &[("before", &before), ("after", &wanted.cidr)]);
                set_lifetime(of, &found, lease, wanted.cidr)?;
                if let Some(earlier) = &earlier {
                    found.netlink.delete_address(&found.link, earlier.cidr)?;
                }
                change_routes(of, &found, &earlier.map_or_else(Vec::new, |it| it.routes), &wanted.routes);
                // Neighbours learn of it.
                let _ = found.netlink.announce(&found.link);
                if let Some(attachment) = of.itself.upgrade() {
                    let address = lease.address;
                    spawn_local(async move { look_for_conflict(&attachment, &found, address).await });
                }
            }
        }
        self.on_link.replace(Some(wanted));
        Ok(())
    }

    /// Takes the address of a lease away that must not be used any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn unconfigure(&self, of: &Attachment, lease: &Lease) -> Result<()> {
        let earlier = self.on_link.replace(None);
        if earlier.is_none() && !self.configures.get() {
            return Ok(());
        }
        let Some(cidr) = Cidr::new(lease.address.into(), lease.prefix) else { return Ok(()) };
        match of.place.again() {
            Ok(found) => {
                // The kernel removes them only with the interface's last address.
                change_routes(of, &found, &earlier.map_or_else(Vec::new, |it| it.routes), &[]);
                Ok(found.netlink.delete_address(&found.link, cidr)?)
            }
            // The interface went away, or is another program's: nothing of it is changed.
            Err(_) => Ok(()),
        }
    }
}

fn set_lifetime(of: &Attachment, found: &Found, lease: &Lease, cidr: Cidr) -> Result<()> {
    let seconds = lease.expiry().map(|expiry| remaining(expiry, of.daemon.clock.now()));
    Ok(found.netlink.lease_address(&found.link, cidr, seconds)?)
}

/// Sets the MTU that the server gives, where the link can have it and the configuration gives none.
fn set_mtu(of: &Attachment, found: &Found, lease: &Lease) {
    let Some(mtu) = lease.mtu().map(u32::from).filter(|_| of.target.settings.set_mtu) else { return };
    if found.link.mtu != mtu
        && let Err(err) = found.netlink.set_mtu(&found.link, mtu)
    {
        of.log(Level::Warning, "mtu-not-set", &[("mtu", &mtu), ("why", &err)]);
    }
}

fn change_routes(of: &Attachment, found: &Found, before: &[Route], after: &[Route]) {
    let gone = before.iter().filter(|route| !after.contains(route));
    let removed = gone.map(|route| found.netlink.delete_route(&found.link, route, hop(route)));
    let added = after.iter().map(|route| match found.netlink.add_route(&found.link, route, hop(route)) {
        // The kernel kept it, or another address's plugin added it.
        Err(failure) if failure.errno == Errno::EEXIST => Ok(()),
        result => result,
    });
    for failure in removed.chain(added).filter_map(std::result::Result::err) {
        of.log(Level::Warning, "route-not-changed", &[("why", &failure)]);
    }
}

/// Waits for the plugin to configure the first address, gives it its lifetime, and looks whether
/// another host has it too (RFC 5227).
async fn settle(attachment: Rc<Attachment>, lease: Lease) {
    let Some(ipv4) = &attachment.ipv4 else { return };
    let Some(wanted) = OnLink::of(&lease, &attachment.target) else { return };
    let found = 'found: {
        for wait in LOOKS {
            attachment.daemon.clock.sleep(wait).await;
            if attachment.ended().is_some() || !ipv4.holds(lease.address) {
                return;
            }
            let Ok(found) = attachment.found() else { return };
            if has(&found.netlink, &found.link, wanted.cidr).unwrap_or(false) {
                break 'found found;
            }
        }
        return attachment.log(Level::Warning, "not-configured", &[("address", &lease.address)]);
    };
    if let Err(err) = set_lifetime(&attachment, &found, &lease, wanted.cidr) {
        attachment.log(Level::Warning, "lifetime-not-set", &[("why", &err)]);
    }
    // The kernel announces the addresses that a link has as it comes up; here it was up before.
    let _ = found.netlink.announce(&found.link);
    ipv4.configures_from_now_on(Some(wanted));
    look_for_conflict(&attachment, &found, lease.address).await;
}

/// Looks whether another host has an address, and has it declined then.
async fn look_for_conflict(attachment: &Attachment, found: &Found, address: Ipv4Addr) {
    let Some(ipv4) = &attachment.ipv4 else { return };
    let probed = tokio::select! {
        probed = conflict::probe(&attachment.daemon.clock, &found.netns, &attachment.place, address) => probed,
        // Its socket would keep the interface.
        () = attachment.over() => return,
    };
    match probed {
        Ok(Some(mac)) if ipv4.holds(address) => {
            attachment.log(Level::Error, "address-in-use", &[("address", &address), ("by", &mac)]);
            ipv4.step(attachment, Event::Conflict);
        }
        Ok(_) => {}
        Err(err) => attachment.log(Level::Warning, "not-probed", &[("why", &err)]),
    }
}

fn has(netlink: &Netlink, link: &Link, cidr: Cidr) -> Result<bool> {
    Ok(netlink.addresses(link)?.iter().any(|address| address.cidr == cidr))
}

/// The next hop; routers of 0.0.0.0 are none (RFC 3442).
fn hop(route: &Route) -> Option<IpAddr> {
    route.gw.filter(|gw| !gw.is_unspecified())
}

/// The seconds until a time, rounded up.
pub(crate) fn remaining(at: Time, now: Time) -> u32 {
    u32::try_from(at.since(now).div_ceil(SECOND)).unwrap_or(u32::MAX - 1)
}
