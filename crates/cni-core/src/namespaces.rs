//! The two network namespaces of an attachment: the host's and the container's.

use crate::netlink::Netlink;
use crate::netns::Netns;
use crate::request::Request;
use crate::spec::Result;

/// Both namespaces of an attachment, open, with a netlink socket in each.
///
/// A socket keeps talking to the namespace in which it was opened (netlink(7)), so a plugin
/// changes either namespace without entering it.
pub struct Namespaces {
    /// The namespace that the plugin runs in.
    pub host: Netlink,
    /// The container's namespace.
    pub container: Netlink,
    /// The container's namespace itself, for what needs a path, a descriptor or to be inside.
    pub netns: Netns,
}

impl Namespaces {
    /// Opens both for ADD and CHECK.
    ///
    /// # Errors
    /// [`crate::spec::Code::INVALID_ENVIRONMENT`] when `CNI_NETNS` is not a network namespace.
    pub fn open(request: &Request) -> Result<Namespaces> {
        Namespaces::of(Netns::open_existing(request.netns()?)?, request)
    }

    /// Opens both for DEL; `None` when the container's namespace is gone (see
    /// [`Netns::open_remaining`]).
    ///
    /// # Errors
    /// [`crate::spec::Code::IO`] when it can't be known whether it is gone.
    pub fn open_remaining(request: &Request) -> Result<Option<Namespaces>> {
        let netns = Netns::open_remaining(request.env.netns.as_deref())?;
        netns.map(|netns| Namespaces::of(netns, request)).transpose()
    }

    fn of(netns: Netns, request: &Request) -> Result<Namespaces> {
        if !request.env.netns_override {
            netns.require_other()?;
        }
        Ok(Namespaces { host: Netlink::open()?, container: Netlink::open_in(&netns)?, netns })
    }

    /// The path of the container's namespace, as results name it.
    pub fn sandbox(&self) -> String {
        self.netns.path().display().to_string()
    }
}
