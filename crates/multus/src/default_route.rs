//! Moving the pod's default route from one network to another.

use std::net::IpAddr;

use cni_core::netlink::{InstalledRoute, Link, Netlink};
use cni_core::netns::Netns;
use cni_core::spec::{AddResult, Cidr, Error, IfName, Result, Route};

use crate::delegate::{Delegate, Families};

/// What [`apply`] did to a network, so that [`Moved::give_back`] can undo it.
pub(crate) struct Moved {
    removed: Families,
    /// What was removed in the container.
    routes: Vec<InstalledRoute>,
    /// The routes of the result before.
    before: Vec<Route>,
}

/// The change of the default routes of one network's interface.
struct Change<'a> {
    removed: Families,
    gateways: &'a [IpAddr],
}

/// Removes the default routes of a network, or adds those that the pod requests, in the container and
/// in the result. Returns what it did; `None` where there was nothing to change.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn apply(
    delegate: &Delegate,
    container: &Netns,
    ifname: &IfName,
    result: &mut AddResult,
) -> Result<Option<Moved>> {
    if gives_nothing(result) {
        return Ok(None);
    }
    let gateways = delegate.requested.default_route.as_deref().unwrap_or_default();
    let own = |v4: bool| gateways.iter().any(|gateway| gateway.is_ipv4() == v4);
    let removed = Families { v4: delegate.filtered.v4 || own(true), v6: delegate.filtered.v6 || own(false) };
    if !removed.any() {
        return Ok(None);
    }
    let change = Change { removed, gateways };
    let netlink = Netlink::open_in(container)?;
    let routes = match netlink.link(ifname)? {
        Some(link) => change.in_container(&netlink, &link)?,
        // A device that user space drives is not a link of the kernel and has no routes.
        None if gateways.is_empty() => Vec::new(),
        None => {
            return Err(Error::invalid_config(format!(
                "default-route: {ifname} is not a link of the container"
            ))
            .details("its network made no link of that name, and a route needs one"));
        }
    };
    let before = result.routes.clone();
    change.in_result(result);
    Ok(Some(Moved { removed, routes, before }))
}

/// The families whose default route a pod requests of a network that turned out to give nothing. Nothing
/// takes it there, so the other networks have to keep theirs.
pub(crate) fn requested_in_vain(delegate: &Delegate, result: &AddResult) -> Families {
    match &delegate.requested.default_route {
        Some(gateways) if gives_nothing(result) => Families {
            v4: gateways.is_empty() || gateways.iter().any(IpAddr::is_ipv4),
            v6: gateways.is_empty() || gateways.iter().any(IpAddr::is_ipv6),
        },
        _ => Families::default(),
    }
}

/// As a plugin that makes no interface answers.
fn gives_nothing(result: &AddResult) -> bool {
    result.interfaces.is_empty() && result.ips.is_empty()
}

impl Moved {
    /// Gives the network's interface the default routes of some families again, in the container and in
    /// the result. Returns whether it had any.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn give_back(
        &self,
        families: Families,
        container: &Netns,
        ifname: &IfName,
        result: &mut AddResult,
    ) -> Result<bool> {
        let families = Families { v4: self.removed.v4 && families.v4, v6: self.removed.v6 && families.v6 };
        if !families.any() {
            return Ok(false);
        }
        let netlink = Netlink::open_in(container)?;
        if let Some(link) = netlink.link(ifname)? {
            for installed in self.routes.iter().filter(|route| families.of(route.dst.ip())) {
                netlink.add_route(&link, &route_of(installed), installed.gw)?;
            }
        }
        self.give_back_to(families, result);
        Ok(true)
    }

    /// Each route has the place again that it had; behind them is what was added.
    fn give_back_to(&self, families: Families, result: &mut AddResult) {
        let was_removed = |route: &Route| is_default_of(route, self.removed);
        let left = self.before.iter().filter(|route| !was_removed(route)).count();
        let added = result.routes.split_off(left.min(result.routes.len()));
        let stays = |route: &&Route| !was_removed(route) || is_default_of(route, families);
        result.routes = self.before.iter().filter(stays).cloned().chain(added).collect();
    }
}

/// The routing table of RT_TABLE_MAIN (rtnetlink(7)). Routes of other tables are for packets that rules
/// select.
const MAIN_TABLE: u32 = 254;

/// A route as it is added or deleted.
fn route_of(installed: &InstalledRoute) -> Route {
    let mut route = Route::new(installed.dst, installed.gw);
    route.priority = installed.priority;
    route.table = Some(installed.table);
    route
}

/// Whether this is a default route of the main table, of one of these families.
fn is_default_of(route: &Route, families: Families) -> bool {
    let is_main = route.table.is_none_or(|table| table == MAIN_TABLE);
    route.is_default() && is_main && families.of(route.dst.ip())
}

impl Change<'_> {
    /// Returns the routes that it removed.
    fn in_container(&self, netlink: &Netlink, link: &Link) -> Result<Vec<InstalledRoute>> {
        let mut routes = netlink.routes(link)?;
        routes.retain(|route| is_default_of(&route_of(route), self.removed));
        for installed in &routes {
            netlink.delete_route(link, &route_of(installed), installed.gw)?;
        }
        for gateway in self.gateways {
            let route = Route::new(Cidr::default_of(*gateway), Some(*gateway));
            netlink.add_route(link, &route, Some(*gateway)).map_err(|err| {
                Error::from(err).context(format_args!("default-route {gateway} on interface {}", link.name))
            })?;
        }
        Ok(routes)
    }

    fn in_result(&self, result: &mut AddResult) {
        result.routes.retain(|route| !is_default_of(route, self.removed));
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

    #[test]
    fn routes_that_are_given_back_stand_where_they_stood() {
        let text =
            br#"{"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"},{"dst":"10.9.0.0/16"},{"dst":"::/0"}]}"#;
        let mut result = AddResult::from_json(text, Version::V1_1_0).unwrap();
        let before = result.routes.clone();
        let removed = Families { v4: true, v6: true };
        let gateways = ["fd00::9".parse().unwrap()];
        Change { removed, gateways: &gateways }.in_result(&mut result);
        assert_eq!(result.routes.len(), 2);
        let moved = Moved { removed, routes: Vec::new(), before: before.clone() };
        moved.give_back_to(Families { v4: true, v6: false }, &mut result);
        assert_eq!(result.routes[..2], before[..2]);
        let last: Vec<_> = result.routes[2..].iter().map(|route| route.gw).collect();
        assert_eq!(last, [Some(gateways[0])]);
    }
}
