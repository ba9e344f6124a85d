//! Masters: the interfaces of the host that macvlan, ipvlan and VLAN interfaces sit on.

use crate::context::Context;
use crate::fnv::fnv1a;
use crate::keys::{Key, Value};
use crate::netlink::{self, Errno, Failure, Kind, Link, Netlink, NewLink, RT_TABLE_MAIN};
use crate::spec::{Error, LinkName, Mac, Result};

/// What a master of macvlan or ipvlan interfaces must be: the kernel gives an interface one receive
/// handler (`netdev_rx_handler_register` in net/core/dev.c).
pub const RX_HANDLER_RULE: &str = "a master carries either macvlan or ipvlan interfaces, is not a port of a bridge then, \
                                   and with mode passthru carries only one";

/// What a configuration says about a master.
#[derive(Clone, Debug)]
pub struct MasterConf {
    /// The key `master`, a name or an alternative name; `None` for the [default](default_master).
    pub name: Option<LinkName>,
    /// The key `mtu`, in bytes; 0 for the master's.
    pub mtu: u32,
    /// The key `linkInContainer`: the master is in the container's namespace, not on the host.
    pub in_container: bool,
}

impl MasterConf {
    /// The key `master`, for the tables of plugins.
    pub const MASTER: Key = Key::new(
        "master",
        Value::Text,
        "",
        "the master by its name or an alternative name; where it may be absent: the link of the default route",
    );
    /// The key `mtu`.
    pub const MTU: Key = Key::new("mtu", Value::Integer, "0", "MTU in bytes; 0 for the master's");
    /// The key `linkInContainer`.
    pub const LINK_IN_CONTAINER: Key = Key::new(
        "linkInContainer",
        Value::Bool,
        "false",
        "the master is in the container's namespace, not on the host",
    );
}

/// The interface that a namespace's packets to unknown destinations leave by: that of the default
/// route of the main table with the lowest metric, IPv4 before IPv6.
///
/// # Errors
/// When the kernel can't list the routes.
pub fn default_master(namespace: &Netlink) -> netlink::Result<Option<Link>> {
    let mut routes = namespace.default_routes()?;
    routes.retain(|route| route.table == RT_TABLE_MAIN && route.index != 0);
    routes.sort_by_key(|route| (route.dst.is_ipv6(), route.priority));
    match routes.first() {
        Some(route) => namespace.link_by_index(route.index),
        None => Ok(None),
    }
}

/// A master that exists.
pub struct Master<'c> {
    /// The master itself.
    pub link: Link,
    namespace: &'c Netlink,
    in_container: bool,
    mtu: Option<u32>,
}

impl<'c> Master<'c> {
    /// Finds the master that a configuration names.
    ///
    /// # Errors
    /// [`crate::spec::Code::INVALID_CONFIG`] when there is none, with the interfaces that exist.
    pub fn find(context: &'c Context<'_>, conf: &MasterConf) -> Result<Master<'c>> {
        let (namespace, place) = match conf.in_container {
            true => (context.container(), "the container"),
            false => (context.host(), "the host"),
        };
        let found = match &conf.name {
            Some(name) => namespace.link(name)?,
            None => default_master(namespace)?,
        };
        let Some(link) = found else {
            let msg = match &conf.name {
                Some(name) => format!("master {:?} does not exist on {place}", name.as_str()),
                None => {
                    format!("no master is configured, and {place} has no default route whose link to take")
                }
            };
            let mut names: Vec<String> = namespace.links()?.into_iter().map(|link| link.name).collect();
            names.sort();
            return Err(
                Error::invalid_config(msg).details(format!("interfaces of {place}: {}", names.join(", ")))
            );
        };
        let mtu = (conf.mtu != 0).then_some(conf.mtu);
        Ok(Master { link, namespace, in_container: conf.in_container, mtu })
    }

    /// Requires, for ADD, that the MTU is not larger than the master's. The kernel does so, too, for
    /// macvlan and VLAN interfaces.
    ///
    /// # Errors
    /// [`crate::spec::Code::INVALID_CONFIG`] with both.
    pub fn require_mtu(&self, conf: &MasterConf) -> Result<()> {
        let (name, mtu) = (&self.link.name, self.link.mtu);
        match conf.mtu > mtu {
            false => Ok(()),
            true => Err(Error::invalid_config(format!(
                "mtu {} is larger than that of master {name}, {mtu}",
                conf.mtu
            ))),
        }
    }

    /// Creates an interface on the master, in the container, under its final name, and registers
    /// its deletion. `rule` says what a master must be to carry this kind.
    ///
    /// # Errors
    /// When the name is taken, when the master can't carry this kind of interface, when the
    /// kernel refuses.
    pub fn create(
        &self,
        context: &Context<'_>,
        kind: Kind<'_>,
        mac: Option<Mac>,
        rule: &str,
    ) -> Result<Link> {
        let new = NewLink::new(context.ifname(), kind).mtu(self.mtu).mac(mac);
        let created = if self.in_container {
            context.create_in_container(&new)
        } else {
            self.create_from_host(context, new)
        };
        created.map_err(|failure| self.explain(context, failure, rule))
    }

    /// Creates a link in the container by the host's socket: the master's number is the host's.
    fn create_from_host(&self, context: &Context<'_>, new: NewLink<'_>) -> netlink::Result<Link> {
        let (host, container) = (self.namespace, context.container());
        let new = new.in_namespace(&context.namespaces().netns);
        let create = |new: &NewLink<'_>| {
            let created = host.create_link_in_namespace(new);
            if created.as_ref().map_or_else(|failure| failure.unanswered, |()| true) {
                context.delete_by_name_on_undo(new, |namespaces| &namespaces.container);
            }
            created
        };
        let find = |name: &str| {
            let link = container.link(name)?.ok_or_else(|| new.deleted_at_once())?;
            context.delete_on_undo(&link, |namespaces| &namespaces.container);
            Ok(link)
        };
        match create(&new) {
            // Older kernels register it on the host first, where the name may be taken.
            Err(Failure { errno: Errno::EEXIST, .. }) if container.link(new.name())?.is_none() => {
                let name = temporary_name(new.name());
                if let Some(stale) = container.link(&name)? {
                    container.delete_link(&stale)?;
                }
                create(&new.renamed(&name))?;
                let mut link = find(&name)?;
                container.rename(&link, new.name())?;
                link.name = new.name().to_owned();
                Ok(link)
            }
            created => {
                created?;
                find(new.name())
            }
        }
    }

    /// What the kernel's bare error numbers mean here.
    fn explain(&self, context: &Context<'_>, failure: Failure, rule: &str) -> Error {
        let (master, ifname) = (&self.link.name, context.ifname());
        match failure.errno {
            Errno::EEXIST if !matches!(context.container().link(ifname), Ok(None)) => context.name_taken(),
            // The kernel says what is invalid, such as an MTU below the least one.
            Errno::EINVAL if !failure.kernel_message.is_empty() => failure.into(),
            Errno::EEXIST | Errno::EBUSY | Errno::EINVAL => {
                let msg = format!("master {master} cannot carry interface {ifname}");
                Error::invalid_config(msg)
                    .details(rule)
                    .details(self.users())
                    .details(Error::from(failure).to_string())
            }
            _ => failure.into(),
        }
    }

    /// The links that use the master, as far as this namespace shows them.
    fn users(&self) -> String {
        let links = self.namespace.links().unwrap_or_default();
        let name_of = |index: Option<u32>| {
            links.iter().find(|link| Some(link.index) == index).map(|link| link.name.clone())
        };
        if let Some(bridge) = name_of(self.link.master) {
            return format!("{} is a port of {bridge}", self.link.name);
        }
        let on_it =
            links.iter().filter(|link| link.lower == Some(self.link.index) && link.lower_netnsid.is_none());
        let on_it: Vec<&str> = on_it.map(|link| link.name.as_str()).collect();
        if on_it.is_empty() { String::new() } else { format!("it carries {}", on_it.join(", ")) }
    }

    /// Requires, for CHECK, that a link is on this master.
    ///
    /// On a master of its own kind the kernel puts a macvlan or ipvlan onto that one's lower device
    /// (`macvlan_common_newlink` in drivers/net/macvlan.c, `ipvlan_link_new` in
    /// drivers/net/ipvlan/ipvlan_main.c).
    ///
    /// # Errors
    /// [`crate::spec::Code::CHECK_FAILED`] when it is on another one.
    pub fn check(&self, context: &Context<'_>, link: &Link) -> Result<()> {
        let master = &self.link;
        let is_stacked =
            master.kind.is_some() && master.kind == link.kind && link.kind.as_deref() != Some("vlan");
        if is_stacked && master.lower.is_some() && link.lower == master.lower {
            return Ok(());
        }
        // With CNI_NETNS_OVERRIDE both namespaces may be one.
        let is_place =
            context.request.env.netns_override || link.lower_netnsid.is_none() == self.in_container;
        if link.lower == Some(master.index) && is_place {
            return Ok(());
        }
        let lower = link.lower.map(|index| self.namespace.link_by_index(index)).transpose()?.flatten();
        let found = lower.map_or_else(|| "an interface that does not exist".to_owned(), |lower| lower.name);
        Err(Error::check(format!("interface {} is on {found}, not on master {}", link.name, master.name))
            .details("the master was renamed, moved or created again"))
    }
}

/// The temporary name of an interface whose final one is taken on the host. It follows from the
/// final name, so that DEL finds what an ADD left that was killed before it renamed. It has the
/// greatest length that a name can have.
pub(super) fn temporary_name(ifname: &str) -> String {
    format!("cni{:012x}", fnv1a(ifname.as_bytes()) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::IfName;

    #[test]
    fn each_name_has_a_temporary_name_of_its_own() {
        let names = ["eth0", "eth1", "fifteen-letters"].map(temporary_name);
        assert_eq!(names[0], temporary_name("eth0"));
        assert!(names[0] != names[1] && names[1] != names[2]);
        assert!(names.iter().all(|name| name.parse::<IfName>().is_ok()), "{names:?}");
    }
}
