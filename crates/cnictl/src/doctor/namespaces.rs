//! The network namespaces of this node, also of containers that no cache has.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cni_core::netlink::{Link, Netlink};
use cni_core::netns::Netns;

/// What the namespaces other than this program's hold.
pub(crate) struct Namespaces(Vec<Namespace>);

struct Namespace {
    path: PathBuf,
    /// The ID by which the host's namespace knows it.
    id: Option<i32>,
    links: Vec<(Link, Vec<IpAddr>)>,
}

impl Namespaces {
    /// Those with a name, and those of processes. One that can't be entered is passed over.
    pub(crate) fn of_node() -> Namespaces {
        let named = ["/run/netns", "/run/docker/netns"].iter().flat_map(|folder| entries(Path::new(folder)));
        let is_number = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
        };
        let processes = entries(Path::new("/proc")).filter(is_number).map(|process| process.join("ns/net"));
        let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let mut seen: HashSet<(u64, u64)> =
            identity(Path::new("/proc/thread-self/ns/net")).into_iter().collect();
        let is_new = |path: &PathBuf| identity(path).is_some_and(|identity| seen.insert(identity));
        let Ok(host) = Netlink::open() else { return Namespaces(Vec::new()) };
        let read = |path| Namespace::read(path, &host);
        Namespaces(named.chain(processes).filter(is_new).filter_map(read).collect())
    }

    /// Why an address may be of use, where it may: an interface has it.
    pub(crate) fn use_of(&self, address: IpAddr) -> Option<String> {
        let has = |namespace: &&Namespace| namespace.links.iter().any(|(_, ips)| ips.contains(&address));
        let namespace = self.0.iter().find(has)?;
        Some(format!("an interface in {} has the address", namespace.path.display()))
    }

    /// The namespace with the other end of a veth pair, and whether that has addresses beside its
    /// link-local one; `None` where both ends are on the host.
    pub(crate) fn peer_of(&self, port: &Link) -> Option<(String, bool)> {
        // Indices alone tell nothing: every namespace counts its own.
        let id = port.lower_netnsid?;
        let namespace = self.0.iter().find(|namespace| namespace.id == Some(id))?;
        let (_, ips) = namespace.links.iter().find(|(link, _)| Some(link.index) == port.lower)?;
        Some((namespace.path.display().to_string(), !ips.is_empty()))
    }
}

impl Namespace {
    fn read(path: PathBuf, host: &Netlink) -> Option<Namespace> {
        let netns = Netns::open(&path).ok()??;
        let id = host.netnsid_of(&netns).ok()?;
        let netlink = Netlink::open_in(&netns).ok()?;
        let links = netlink.links().ok()?.into_iter();
        let with_addresses = |link: Link| {
            let addresses = netlink.addresses(&link).unwrap_or_default();
            let ips = addresses.into_iter().map(|address| address.cidr.ip());
            (link, ips.filter(|ip| !is_link_local(*ip)).collect())
        };
        Some(Namespace { id, links: links.map(with_addresses).collect(), path })
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
