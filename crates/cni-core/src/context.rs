//! One ADD or CHECK of a plugin that changes links: the call, the namespaces, and how to undo.

use std::rc::Rc;

use crate::namespaces::Namespaces;
use crate::netlink::{self, Errno, Failure, Link, Netlink, NewLink};
use crate::request::Request;
use crate::spec::{Attachment, Code, Error, IfName, Interface, Result, Version};
use crate::undo::Undo;

/// What every plugin that changes links works with. Its own configuration comes beside it.
pub struct Context<'r> {
    /// The call.
    pub request: &'r Request,
    /// The container and the name of its interface.
    pub attachment: &'r Attachment,
    /// How to undo what was done, when a later step fails.
    pub undo: Undo<'static>,
    namespaces: Rc<Namespaces>,
}

/// A link, with the namespace that it is in.
#[derive(Clone, Copy, Debug)]
pub enum Located<'l> {
    /// A link on the host.
    Host(&'l Link),
    /// A link in the container.
    Container(&'l Link),
}

impl<'r> Context<'r> {
    /// Opens the namespaces of a request.
    ///
    /// # Errors
    /// See [`Namespaces::open`].
    pub fn open(request: &'r Request) -> Result<Context<'r>> {
        let namespaces = Rc::new(Namespaces::open(request)?);
        Ok(Context { request, attachment: request.attachment()?, undo: Undo::new(), namespaces })
    }

    /// The name of the container's interface.
    pub fn ifname(&self) -> &'r IfName {
        &self.attachment.ifname
    }

    /// The host's links, addresses and routes.
    pub fn host(&self) -> &Netlink {
        &self.namespaces.host
    }

    /// The container's links, addresses and routes.
    pub fn container(&self) -> &Netlink {
        &self.namespaces.container
    }

    /// Both namespaces, for an undo step to keep.
    pub fn namespaces(&self) -> &Rc<Namespaces> {
        &self.namespaces
    }

    /// Creates a link on the host and registers its deletion. A veth pair goes with either end.
    ///
    /// # Errors
    /// See [`Netlink::create_link`].
    pub fn create_on_host(&self, new: &NewLink<'_>) -> netlink::Result<Link> {
        let link = self.host().create_link(new).inspect_err(|failure| {
            self.delete_unheard_on_undo(failure, new, |namespaces| &namespaces.host)
        })?;
        self.delete_on_undo(&link, |namespaces| &namespaces.host);
        Ok(link)
    }

    /// Creates a link in the container by the container's socket and registers its deletion.
    ///
    /// # Errors
    /// See [`Netlink::create_link`].
    pub fn create_in_container(&self, new: &NewLink<'_>) -> netlink::Result<Link> {
        let link = self.container().create_link(new).inspect_err(|failure| {
            self.delete_unheard_on_undo(failure, new, |namespaces| &namespaces.container);
        })?;
        self.delete_on_undo(&link, |namespaces| &namespaces.container);
        Ok(link)
    }

    /// Registers the deletion of a link of the namespace that `of` picks.
    pub(crate) fn delete_on_undo(&self, link: &Link, of: fn(&Namespaces) -> &Netlink) {
        let (namespaces, created) = (Rc::clone(&self.namespaces), link.clone());
        self.undo
            .push(format!("interface {}", link.name), move || Ok(of(&namespaces).delete_link(&created)?));
    }

    /// Registers the deletion of a link whose creation the kernel did not answer.
    fn delete_unheard_on_undo(&self, failure: &Failure, new: &NewLink<'_>, of: fn(&Namespaces) -> &Netlink) {
        if failure.unanswered {
            self.delete_by_name_on_undo(new, of);
        }
    }

    /// Registers the deletion of a link that was created but not yet looked up. Where no answer came the
    /// kernel may have refused the name, which an interface has that is in use: that one is up.
    pub(crate) fn delete_by_name_on_undo(&self, new: &NewLink<'_>, of: fn(&Namespaces) -> &Netlink) {
        let (namespaces, name) = (Rc::clone(&self.namespaces), new.name().to_owned());
        let (kind, up) = (new.kind_name(), new.is_up());
        self.undo.push(format!("interface {name}"), move || {
            let netlink = of(&namespaces);
            match netlink.link(&name)?.filter(|link| link.is(kind) && link.up == up) {
                Some(link) => Ok(netlink.delete_link(&link)?),
                None => Ok(()),
            }
        });
    }

    /// The entry of the result for a link.
    pub fn interface(&self, link: Located<'_>) -> Interface {
        let (link, sandbox) = match link {
            Located::Host(link) => (link, String::new()),
            Located::Container(link) => (link, self.namespaces.sandbox()),
        };
        let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        // The specification has it since 1.1.0.
        let mtu = (self.request.conf.cni_version >= Version::V1_1_0).then_some(link.mtu);
        Interface { name: link.name.clone(), mac, mtu, sandbox, ..Interface::default() }
    }

    /// The error of a failed creation under `CNI_IFNAME`: EEXIST means that the name is taken.
    pub fn explain_name(&self, failure: Failure) -> Error {
        let exists =
            failure.errno == Errno::EEXIST && !matches!(self.container().link(self.ifname()), Ok(None));
        if exists { self.name_taken() } else { failure.into() }
    }

    /// The error for `CNI_IFNAME` when the container has an interface of that name.
    pub fn name_taken(&self) -> Error {
        let (ifname, sandbox) = (self.ifname(), self.namespaces.sandbox());
        Error::new(
            Code::INVALID_ENVIRONMENT,
            format!("CNI_IFNAME: interface {ifname} exists already in {sandbox}"),
        )
        .details("the container is attached by that name already; DEL detaches it")
    }
}
