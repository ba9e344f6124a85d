//! The address and routes that a lease gives to the interface.

use cni_core::spec::{Cidr, Route};
use dhcp_client::v4::Lease;

use crate::protocol::Target;

/// The address and routes of a lease as they are configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OnLink {
    pub(crate) cidr: Cidr,
    pub(crate) routes: Vec<Route>,
}

impl OnLink {
    /// Those of a lease.
    pub(crate) fn of(lease: &Lease, target: &Target) -> Option<OnLink> {
        let cidr = Cidr::new(lease.address.into(), lease.prefix)?;
        Some(OnLink { cidr, routes: routes(lease, target.settings.priority) })
    }
}

/// The routes of a lease.
pub(crate) fn routes(lease: &Lease, priority: u32) -> Vec<Route> {
    let route = |route: &dhcp_client::v4::Route| {
        let dst = Cidr::new(route.destination.into(), route.prefix)?;
        let mut found = Route::new(dst, Some(route.router.into()));
        // RFC 3442: the destination is on the link. The Go plugin writes the router 0.0.0.0 too.
        found.scope = route.router.is_unspecified().then_some(253);
        found.priority = priority;
        Some(found)
    };
    lease.routes().iter().filter_map(route).collect()
}
