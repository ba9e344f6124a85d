//! The bridge itself, which other containers and programs use too.

use cni_core::netlink::{Errno, Failure, Kind, Link, Netlink, NewLink};
use cni_core::netns::Netns;
use cni_core::spec::{Error, Result};
use cni_core::sysctl::Sysctl;

use crate::{BridgeSite, gone};

/// The bridge as the configuration wants it, made where it is missing.
pub(crate) fn ensure(site: &BridgeSite<'_, '_>) -> Result<Link> {
    let (host, config) = (site.host, site.config);
    let bridge = match host.link(&config.bridge)? {
        Some(bridge) => bridge,
        None => create(site)?,
    };
    require(&bridge)?;
    if config.wants_vlans() && !bridge.filters_vlans() {
        let name = &config.bridge;
        eprintln!(
            "bridge: {name} was made without VLAN filtering by somebody else: VLANs are not kept apart on it"
        );
    }
    refuse_advertised_routes(site, &bridge);
    if config.promisc_mode && !bridge.promiscuous {
        host.set_promiscuous(&bridge, true)?;
        take_back(site, &bridge, "promiscuous mode", |host, bridge| host.set_promiscuous(bridge, false));
    }
    if !bridge.up {
        host.set_up(&bridge)?;
        take_back(site, &bridge, "setting up", Netlink::set_down);
    }
    Ok(bridge)
}

fn create(site: &BridgeSite<'_, '_>) -> Result<Link> {
    let (host, config) = (site.host, site.config);
    let created = host.create_link(
        &NewLink::new(&config.bridge, Kind::Bridge { vlan_filtering: config.wants_vlans() })
            .mtu(config.mtu()),
    );
    match created {
        Ok(bridge) => {
            take_back(site, &bridge, "making", Netlink::delete_link);
            Ok(bridge)
        }
        // Another ADD made it at the same moment.
        Err(Failure { errno: Errno::EEXIST, .. }) => {
            host.link(&config.bridge)?.ok_or_else(|| gone(&config.bridge))
        }
        Err(err) => Err(err.into()),
    }
}

/// Requires a link to be a bridge.
pub(crate) fn require(link: &Link) -> Result<()> {
    if link.is("bridge") {
        return Ok(());
    }
    let kind = link.kind.as_deref().unwrap_or("hardware");
    Err(Error::invalid_config(format!("bridge {:?} is an interface of another kind: {kind}", link.name))
        .details("choose another name for \"bridge\", or remove that interface"))
}

/// The host does not take its routes from what containers advertise.
fn refuse_advertised_routes(site: &BridgeSite<'_, '_>, bridge: &Link) {
    let name = site.config.bridge.clone();
    let accept_ra = Sysctl::Ipv6("accept_ra", &name);
    // A kernel without IPv6 does not have it.
    let Ok(before) = accept_ra.get() else { return };
    if before != "0" {
        accept_ra.prefer("0");
        take_back(site, bridge, "accept_ra", move |_, _| {
            Sysctl::Ipv6("accept_ra", &name).prefer(&before);
            Ok(())
        });
    }
}

/// Registers how to take back what was done to the bridge.
fn take_back<'n>(
    site: &BridgeSite<'_, 'n>,
    bridge: &Link,
    what: &str,
    how: impl FnOnce(&Netlink, &Link) -> Result<(), Failure> + 'n,
) {
    let (host, bridge) = (site.host, bridge.clone());
    site.undo.push(format!("{what} of {}", bridge.name), move || {
        unless_used_by_others(host, bridge.index, &[], || how(host, &bridge))
    });
}

/// Takes back what was done to a bridge, unless it has other ports than those given, by number:
/// then other containers use it by now. Nobody can become one meanwhile (see `Bridge::create`).
pub(crate) fn unless_used_by_others(
    host: &Netlink,
    bridge: u32,
    own_ports: &[u32],
    take_back: impl FnOnce() -> Result<(), Failure>,
) -> Result<()> {
    let _alone = Netns::own()?.lock_exclusive()?;
    let is_other = |link: &Link| link.master == Some(bridge) && !own_ports.contains(&link.index);
    let used = host.links()?.iter().any(is_other);
    if used { Ok(()) } else { Ok(take_back()?) }
}
