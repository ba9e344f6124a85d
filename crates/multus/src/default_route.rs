//! Moving the pod's default route from one network to another.

use std::net::IpAddr;

use cni_core::netlink::{Link, Netlink};
use cni_core::netns::Netns;
use cni_core::spec::{AddResult, Cidr, Error, IfName, Result, Route};

use crate::delegate::{Delegate, Families};

/// The change of the default routes of one network's interface.
struct Change<'a> {
    removed: Families,
    gateways: &'a [IpAddr],
}

/// Removes the default routes of a network, or adds those that the pod requests, in the container and
/// in the result. Returns whether there was anything to change.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn apply(
    delegate: &Delegate,
    container: &Netns,
    ifname: &IfName,
    result: &mut AddResult,
) -> Result<bool> {
    // As a plugin that makes no interface answers: the Go program too leaves the request alone then.
    if result.interfaces.is_empty() && result.ips.is_empty() {
        return Ok(false);
    }
    let gateways = delegate.requested.default_route.as_deref().unwrap_or_default();
    let own = |v4: bool| gateways.iter().any(|gateway| gateway.is_ipv4() == v4);
    let removed = Families { v4: delegate.filtered.v4 || own(true), v6: delegate.filtered.v6 || own(false) };
    if !removed.any() {
        return Ok(false);
    }
    let change = Change { removed, gateways };
    let netlink = Netlink::open_in(container)?;
    match netlink.link(ifname)? {
        Some(link) => change.in_container(&netlink, &link)?,
        // A device that user space drives is not a link of the kernel and has no routes.
        None if gateways.is_empty() => {}
        None => {
            return Err(Error::invalid_config(format!(
                "default-route: {ifname} is not a link of the container"
            ))
            .details("its network made no link of that name, and a route needs one"));
        }
    }
    change.in_result(result);
    Ok(true)
}

/// The routing table of RT_TABLE_MAIN (rtnetlink(7)). Routes of other tables are for packets that rules
/// select.
const MAIN_TABLE: u32 = 254;

impl Change<'_> {
    fn in_container(&self, netlink: &Netlink, link: &Link) -> Result<()> {
        for installed in netlink.routes(link)? {
            let is_default = installed.dst.prefix() == 0 && installed.table == MAIN_TABLE;
            if is_default && self.removed.of(installed.dst.ip()) {
                let mut route = Route::new(installed.dst, installed.gw);
                route.priority = installed.priority;
                route.table = Some(installed.table);
                netlink.delete_route(link, &route, installed.gw)?;
            }
        }
        for gateway in self.gateways {
            let route = Route::new(Cidr::default_of(*gateway), Some(*gateway));
            netlink.add_route(link, &route, Some(*gateway)).map_err(|err| {
                Error::from(err).context(format_args!("default-route {gateway} on interface {}", link.name))
            })?;
        }
        Ok(())
    }

    fn in_result(&self, result: &mut AddResult) {
        let is_main = |route: &Route| route.table.is_none_or(|table| table == MAIN_TABLE);
        result
            .routes
            .retain(|route| !(route.is_default() && is_main(route) && self.removed.of(route.dst.ip())));
        let added =
            self.gateways.iter().map(|gateway| Route::new(Cidr::default_of(*gateway), Some(*gateway)));
        result.routes.extend(added);
    }
}

#[cfg(test)]
mod tests {
    use cni_core::spec::Version;

    use super::*;

    #[test]
    fn only_the_main_table_and_the_families_that_move_change_in_the_result() {
        let text = br#"{"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"},{"dst":"::/0"},{"dst":"10.9.0.0/16"},
            {"dst":"0.0.0.0/0","gw":"10.0.0.2","table":100}]}"#;
        let mut result = AddResult::from_json(text, Version::V1_1_0).unwrap();
        let gateways = ["10.0.0.9".parse().unwrap()];
        let change = Change { removed: Families { v4: true, v6: false }, gateways: &gateways };
        change.in_result(&mut result);
        let routes: Vec<_> = result.routes.iter().map(|route| (route.dst.to_string(), route.gw)).collect();
        assert_eq!(
            routes,
            [
                ("::/0".to_owned(), None),
                ("10.9.0.0/16".to_owned(), None),
                ("0.0.0.0/0".to_owned(), Some("10.0.0.2".parse().unwrap())),
                ("0.0.0.0/0".to_owned(), Some(gateways[0]))
            ]
        );
    }
}
