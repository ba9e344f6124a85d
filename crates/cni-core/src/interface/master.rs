//! Interfaces on a master: what macvlan, ipvlan and their like share.

use serde::Deserialize;

use super::{Created, Site};
use crate::fnv::fnv1a;
use crate::netlink::{Errno, Failure, Kind, Link, Netlink, NewLink};
use crate::spec::{Code, Error, IfName, Mac, Result, none_if_empty};

/// The keys that say which master, and what is the same for all its interfaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterConf {
    /// The master's name; absent or empty, the link of the default route.
    #[serde(default, deserialize_with = "none_if_empty")]
    pub master: Option<IfName>,
    /// MTU in bytes, 0 for the master's.
    #[serde(default)]
    pub mtu: u32,
    /// Whether the master is in the container's namespace, not on the host.
    #[serde(default)]
    pub link_in_container: bool,
}

/// A master that was found.
pub struct Master<'n> {
    /// The master itself.
    pub link: Link,
    namespace: &'n Netlink,
    in_container: bool,
}

impl<'n> Master<'n> {
    /// Finds the master that a configuration means, and checks that the MTU fits it.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`] when there is none, with the interfaces that there are, or
    /// when the MTU is larger than the master's.
    pub fn find<C>(site: &Site<'_, 'n, C>, conf: &MasterConf) -> Result<Master<'n>> {
        let in_container = conf.link_in_container;
        let namespace = if in_container { site.container } else { site.host };
        let found = match &conf.master {
            Some(name) => namespace.link(name)?,
            None => namespace
                .default_route_link()?
                .map(|index| namespace.link_by_index(index))
                .transpose()?
                .flatten(),
        };
        let place = if in_container { "the container" } else { "the host" };
        let Some(link) = found else {
            let msg = match &conf.master {
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
        if conf.mtu > link.mtu {
            return Err(Error::invalid_config(format!(
                "mtu {} is larger than that of master {}, {}",
                conf.mtu, link.name, link.mtu
            )));
        }
        Ok(Master { link, namespace, in_container })
    }

    /// Creates an interface on the master, in the container, under the name it is to have.
    ///
    /// # Errors
    /// When the name is taken, when the master can't carry this kind of interface, when the
    /// kernel refuses.
    pub fn create<C>(
        &self,
        site: &Site<'_, 'n, C>,
        kind: Kind<'_>,
        mtu: u32,
        mac: Option<Mac>,
    ) -> Result<Created> {
        let mut new = NewLink::new(site.ifname, kind).mtu((mtu != 0).then_some(mtu)).mac(mac);
        if !self.in_container {
            new = new.in_namespace(site.netns);
        }
        let link = self.place(site, &new).map_err(|err| self.explain(site, err))?;
        let (container, made) = (site.container, link.clone());
        site.undo.push(format!("interface {}", link.name), move || Ok(container.delete_link(&made)?));
        Ok(Created { interfaces: vec![site.in_container(&link)], link })
    }

    fn place<C>(&self, site: &Site<'_, 'n, C>, new: &NewLink<'_>) -> Result<Link, Failure> {
        if self.in_container {
            return self.namespace.create_link(new);
        }
        let (host, container) = (self.namespace, site.container);
        match host.create_link_in_namespace(new) {
            // Older kernels register it on the host first, where the name may be taken.
            Err(Failure { errno: Errno::EEXIST, .. }) if container.link(new.name())?.is_none() => {
                let passing = passing_name(new.name());
                if let Some(left) = container.link(&passing)? {
                    container.delete_link(&left)?;
                }
                host.create_link_in_namespace(&new.renamed(&passing))?;
                let link = found(container.link(&passing)?, new)?;
                if let Err(err) = container.rename(&link, new.name()) {
                    let _ = container.delete_link(&link);
                    return Err(err);
                }
            }
            created => created?,
        }
        found(container.link(new.name())?, new)
    }

    /// What the kernel's bare error numbers mean here.
    fn explain<C>(&self, site: &Site<'_, 'n, C>, err: Failure) -> Error {
        let (master, ifname) = (&self.link.name, site.ifname);
        match err.errno {
            Errno::EEXIST => site.name_taken(),
            Errno::EBUSY | Errno::EINVAL => {
                let users = self.users();
                let msg = format!("master {master} cannot carry interface {ifname}: it is in another use");
                let rule = "a master carries either macvlan or ipvlan interfaces, is no port of a bridge then, \
                            and with mode passthru carries only one";
                Error::invalid_config(msg).details(rule).details(users).details(Error::from(err).to_string())
            }
            _ => err.into(),
        }
    }

    /// Who is seen to use the master; interfaces in containers are not seen from here.
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

    /// Requires, for CHECK, that a link is of a kind and on this master.
    ///
    /// # Errors
    /// [`Code::CHECK_FAILED`] when it is of another kind, or on another master.
    pub fn check(&self, link: &Link, kind: &str) -> Result<()> {
        if !link.is(kind) {
            let found = link.kind.as_deref().unwrap_or("hardware");
            return Err(Error::check(format!("interface {} is not of kind {kind} but {found}", link.name)));
        }
        if link.lower == Some(self.link.index) && link.lower_netnsid.is_none() == self.in_container {
            return Ok(());
        }
        let parent = link.lower.map(|index| self.namespace.link_by_index(index)).transpose()?.flatten();
        let now = parent.map_or_else(|| "an interface that is not there".to_owned(), |parent| parent.name);
        Err(Error::check(format!("interface {} is on {now}, not on master {}", link.name, self.link.name))
            .details("the master was renamed, moved or made anew"))
    }
}

fn found(link: Option<Link>, new: &NewLink<'_>) -> Result<Link, Failure> {
    link.ok_or_else(|| Failure {
        operation: new.to_string(),
        errno: Errno::ENODEV,
        kernel_message: String::new(),
    })
}

/// The name that an interface has in passing where its own is taken on the host. It follows from
/// its own, so that DEL finds what an ADD left that was killed in between.
/// It is as long as a name may be.
pub(super) fn passing_name(ifname: &str) -> String {
    format!("cni{:012x}", fnv1a(ifname.as_bytes()) >> 16)
}

impl<C> Site<'_, '_, C> {
    /// The error for a name that an interface of the container has already.
    pub fn name_taken(&self) -> Error {
        let (ifname, path) = (self.ifname, self.netns.path().display());
        Error::new(
            Code::INVALID_ENVIRONMENT,
            format!("CNI_IFNAME: interface {ifname} exists already in {path}"),
        )
        .details("the container is attached by that name already; DEL detaches it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_passing_is_a_name_of_its_own() {
        let names = ["eth0", "eth1", "fifteen-letters"].map(passing_name);
        assert_eq!(names[0], passing_name("eth0"));
        assert!(names[0] != names[1] && names[1] != names[2]);
        assert!(names.iter().all(|name| name.parse::<IfName>().is_ok()), "{names:?}");
    }
}
