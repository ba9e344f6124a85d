//! The bridge itself, which other containers and programs use too.

use std::rc::Rc;

use cni_core::context::Context;
use cni_core::diagnostics::note;
use cni_core::netlink::{Errno, Failure, Kind, Link, Netlink, NewLink};
use cni_core::netns::lock;
use cni_core::spec::{Error, Result};
use cni_core::sysctl::Sysctl;

use crate::{BridgeConf, gone};

/// The bridge as it is configured, created where it is missing.
pub(crate) fn ensure(context: &Context<'_>, config: &BridgeConf) -> Result<Link> {
    let host = context.host();
    let bridge = match host.link(&config.bridge)? {
        Some(bridge) => bridge,
        None => create(context, config)?,
    };
    require(&bridge)?;
    if config.filters_vlans && !bridge.filters_vlans() {
        let name = &config.bridge;
        note(format_args!(
            "bridge: another program created {name} without VLAN filtering: VLANs are not kept apart on it"
        ));
    }
    refuse_advertised_routes(context, config, &bridge);
    if config.promisc_mode && !bridge.promiscuous {
        host.set_promiscuous(&bridge, true)?;
        revert_later(context, &bridge, "promiscuous mode", |host, bridge| {
            host.set_promiscuous(bridge, false)
        });
    }
    if !bridge.up {
        host.set_up(&bridge)?;
        revert_later(context, &bridge, "setting up", Netlink::set_down);
    }
    Ok(bridge)
}

fn create(context: &Context<'_>, config: &BridgeConf) -> Result<Link> {
    let host = context.host();
    let kind = Kind::Bridge { vlan_filtering: config.filters_vlans };
    match host.create_link(&NewLink::new(&config.bridge, kind).mtu(config.mtu)) {
        Ok(bridge) => {
            revert_later(context, &bridge, "creation", Netlink::delete_link);
            Ok(bridge)
        }
        // Another ADD created it at the same moment.
        Err(Failure { errno: Errno::EEXIST, .. }) => {
            host.link(&config.bridge)?.ok_or_else(|| gone(&config.bridge))
        }
        Err(failure) => {
            let unheard = host.link(&config.bridge).ok().flatten().filter(|_| failure.unanswered);
            if let Some(bridge) = unheard.filter(|link| link.is("bridge")) {
                revert_later(context, &bridge, "creation", Netlink::delete_link);
            }
            Err(failure.into())
        }
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

/// Keeps the host from accepting the routes that containers advertise.
fn refuse_advertised_routes(context: &Context<'_>, config: &BridgeConf, bridge: &Link) {
    let accept_ra = Sysctl::ipv6("accept_ra", &config.bridge);
    // A kernel without IPv6 does not have it.
    let Ok(before) = accept_ra.get() else { return };
    if before != "0" {
        accept_ra.prefer("0");
        revert_later(context, bridge, "accept_ra", move |_, _| {
            accept_ra.prefer(&before);
            Ok(())
        });
    }
}

/// Registers how to revert a change of the bridge.
fn revert_later(
    context: &Context<'_>,
    bridge: &Link,
    what: &str,
    revert: impl FnOnce(&Netlink, &Link) -> Result<(), Failure> + 'static,
) {
    let (namespaces, bridge) = (Rc::clone(context.namespaces()), bridge.clone());
    context.undo.push(format!("{what} of {}", bridge.name), move || {
        let host = &namespaces.host;
        unless_used_by_others(host, bridge.index, &[], || revert(host, &bridge))
    });
}

/// Reverts a change of a bridge, unless it has other ports than those given by number: then other
/// containers use it. No port is added while this runs (see `Bridge::create`).
pub(crate) fn unless_used_by_others(
    host: &Netlink,
    bridge: u32,
    own_ports: &[u32],
    revert: impl FnOnce() -> Result<(), Failure>,
) -> Result<()> {
    let _lock = lock::exclusive()?;
    let is_other = |link: &Link| link.master == Some(bridge) && !own_ports.contains(&link.index);
    let used = host.links()?.iter().any(is_other);
    if used { Ok(()) } else { Ok(revert()?) }
}
