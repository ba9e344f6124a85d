//! Comparing a result with the kernel, for CHECK.

use crate::context::Context;
use crate::netlink::{Link, Netlink};
use crate::spec::{AddResult, Error, Result};

/// The container's interface that a result names, as the kernel has it.
pub(crate) fn container_link(context: &Context<'_>, prev: &AddResult, kind: &str) -> Result<Link> {
    let (ifname, sandbox) = (context.ifname(), context.namespaces().sandbox());
    let Some(expected) = prev.interfaces.iter().find(|i| i.name == ifname.as_str() && !i.sandbox.is_empty())
    else {
        return Err(Error::check(format!("prevResult has no interface {ifname} in a container")));
    };
    if expected.sandbox != sandbox {
        return Err(Error::check(format!(
            "prevResult has interface {ifname} in {}, CNI_NETNS is {sandbox}",
            expected.sandbox
        )));
    }
    let link = context.container().link(ifname)?.ok_or_else(|| missing(ifname, "the container"))?;
    mac_matches(&link, &expected.mac)?;
    if !link.is(kind) {
        let found = link.kind.as_deref().unwrap_or("hardware");
        return Err(Error::check(format!("interface {ifname} is of kind {found}, not {kind}")));
    }
    Ok(link)
}

/// The error for an interface that is missing.
pub fn missing(name: &str, place: &str) -> Error {
    Error::check(format!("interface {name} is missing on {place}"))
}

/// Requires a link to have the MAC address that a result has for it, if it has one.
pub fn mac_matches(link: &Link, expected: &str) -> Result<()> {
    let found = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if expected.is_empty() || expected.eq_ignore_ascii_case(&found) {
        return Ok(());
    }
    Err(Error::check(format!(
        "interface {} has MAC address {found}, it was created with {expected}",
        link.name
    )))
}

/// Requires the addresses and routes of a result.
pub(crate) fn addresses_and_routes(container: &Netlink, link: &Link, prev: &AddResult) -> Result<()> {
    let name = &link.name;
    let addresses = container.addresses(link)?;
    let own =
        |index: usize| prev.interfaces.get(index).is_some_and(|i| &i.name == name && !i.sandbox.is_empty());
    for ip in prev.ips.iter().filter(|ip| ip.interface.is_none_or(own)) {
        if !addresses.iter().any(|address| address.cidr == ip.address) {
            return Err(Error::check(format!("interface {name} does not have address {}", ip.address)));
        }
    }
    let routes = container.routes(link)?;
    for route in &prev.routes {
        let table = route.table.unwrap_or(254);
        let installed = routes.iter().any(|found| {
            found.index == link.index
                && found.dst == route.dst.to_network()
                && found.table == table
                && (route.gw.is_none() || found.gw == route.gw)
                && (route.priority == 0 || found.priority == route.priority)
        });
        if !installed {
            let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            return Err(Error::check(format!("interface {name} does not have route {}{via}", route.dst)));
        }
    }
    Ok(())
}
