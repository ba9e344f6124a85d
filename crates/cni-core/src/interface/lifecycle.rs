//! ADD, DEL, CHECK, STATUS and GC of every interface plugin.

use std::cell::Cell;
use std::rc::Rc;

use super::master::temporary_name;
use super::{InterfacePlugin, Links, configure, verify};
use crate::context::{Context, Located};
use crate::ipam;
use crate::namespaces::Namespaces;
use crate::netfilter::close_after;
use crate::netlink::Link;
use crate::plugin::{About, LinkAtDel, Plugin};
use crate::request::{Command, Request};
use crate::spec::{AddResult, Code, Dns, Error, PluginType, Result};

impl<P: InterfacePlugin> Plugin for P {
    fn about(&self) -> About {
        InterfacePlugin::about(self)
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        let config = self.config(request)?;
        let dns = request.conf.dns()?;
        let context = Context::open(request)?;
        let release = ReleaseOnUndo::after_the_link(&context, self.link_kind());

        let mut links = self.create(&context, &config)?;
        let mut addresses = AddResult::default();
        if let Some(given) = addresses_of(self, &context, &config, release)? {
            addresses = given;
            self.complete(&config, &mut addresses)?;
            configure::configure(&context, links.container(), self.dad(&config), &addresses)?;
        } else if self.sets_up(&config) {
            context.container().set_up(links.container())?;
        }
        self.finish(&context, &config, &mut links, &addresses)?;

        let result = result(&context, &links, addresses, dns);
        // A version that can't express the result fails here, while all can still be undone.
        result.check_form(request.conf.cni_version)?;
        context.undo.keep();
        Ok(result)
    }

    fn del(&self, request: &Request) -> Result<()> {
        // A configuration that has become invalid since ADD must not keep a pod from terminating.
        let config = self.config(request).ok();
        // The kernel waits for an RCU grace period after it deleted firewall rules, and after it deleted a
        // link. In this order both wait for the same one.
        let (cleaned_up, detached) =
            close_after(|| (self.clean_up(config.as_ref(), request), detach(request, self.link_kind())));
        Error::all(detached.err().into_iter().chain(cleaned_up.err()).collect())
    }

    fn link_at_del(&self) -> LinkAtDel {
        LinkAtDel::Deletes
    }

    fn check(&self, request: &Request) -> Result<()> {
        let config = self.config(request)?;
        let prev = request.conf.required_prev_result()?;
        let context = Context::open(request)?;
        if let Some(ipam) = &request.conf.ipam {
            ipam::call(ipam, request, Command::Check)?;
        }
        let link = verify::container_link(&context, &prev, self.link_kind())?;
        if self.sets_up(&config) && !link.up {
            return Err(Error::check(format!("interface {} is down", link.name)));
        }
        let links = self.find(&context, &config, link)?;
        InterfacePlugin::check(self, &context, &config, &links, &prev)?;
        if replaced(&context, links.container(), &prev)? {
            return Ok(());
        }
        verify::addresses_and_routes(context.container(), links.container(), &prev)
    }

    fn status(&self, request: &Request) -> Result<()> {
        InterfacePlugin::status(self, &self.config(request)?, request)?;
        match &request.conf.ipam {
            Some(ipam) => ipam::call(ipam, request, Command::Status),
            None => Ok(()),
        }
    }

    fn gc(&self, request: &Request) -> Result<()> {
        let config = self.config(request)?;
        let mut errors = Vec::new();
        if let Some(ipam) = &request.conf.ipam {
            errors.extend(ipam::call(ipam, request, Command::Gc).err());
        }
        if let Some(valid) = &request.conf.valid_attachments {
            errors.extend(InterfacePlugin::gc(self, &config, request, valid).err());
        }
        Error::all(errors)
    }
}

/// The addresses of the attachment, from the IPAM plugin or inherited.
fn addresses_of<P: InterfacePlugin>(
    plugin: &P,
    context: &Context<'_>,
    config: &P::Config,
    release_later: ReleaseOnUndo,
) -> Result<Option<AddResult>> {
    let Some(ipam) = &context.request.conf.ipam else {
        return Ok(plugin.inherited(config));
    };
    let addresses = ipam::add(ipam, context.request)?;
    release_later.arm(context, ipam);
    Ok(Some(addresses))
}

/// The undo step that releases addresses once the interface that has them is gone. It is registered
/// before the link is created, so that it runs after the link is deleted.
struct ReleaseOnUndo {
    armed: Rc<Cell<bool>>,
}

impl ReleaseOnUndo {
    fn after_the_link(context: &Context<'_>, kind: &'static str) -> ReleaseOnUndo {
        let armed = Rc::new(Cell::new(false));
        if let Some(ipam) = &context.request.conf.ipam {
            let (armed, namespaces) = (Rc::clone(&armed), Rc::clone(context.namespaces()));
            let (ipam, request, ifname) = (ipam.clone(), context.request.clone(), context.ifname().clone());
            context.undo.push(format!("addresses of ipam {ipam}"), move || {
                if !armed.get() {
                    return Ok(());
                }
                match namespaces.container.link(&ifname)?.filter(|link| link.is(kind)) {
                    Some(link) => Err(Error::new(
                        Code::KERNEL,
                        format!("interface {} remains, its addresses stay reserved", link.name),
                    )),
                    None => ipam::del(&ipam, &request),
                }
            });
        }
        ReleaseOnUndo { armed }
    }

    /// Has undo release the addresses that were assigned. Where the IPAM plugin needs the link, that
    /// is before the link is deleted.
    fn arm(self, context: &Context<'_>, ipam: &PluginType) {
        self.armed.set(true);
        let (ipam, request) = (ipam.clone(), context.request.clone());
        context.undo.push(format!("addresses of ipam {ipam}"), move || {
            if !ipam::needs_link(&ipam, &request) {
                return Ok(());
            }
            self.armed.set(false);
            ipam::del(&ipam, &request)
        });
    }
}

/// The result of an ADD: its links, and the addresses, which are the container's interface's.
fn result<L: Links>(context: &Context<'_>, links: &L, addresses: AddResult, dns: Dns) -> AddResult {
    let listed = links.listed();
    let container = listed.iter().position(|link| matches!(link, Located::Container(_)));
    let mut result = AddResult {
        interfaces: listed.into_iter().map(|link| context.interface(link)).collect(),
        ..addresses
    };
    for ip in &mut result.ips {
        ip.interface = container;
    }
    // A DHCP server may have given the link another MTU since it was made.
    if context.request.conf.ipam.as_ref().is_some_and(ipam::replaces_addresses)
        && let Some(entry) = container.and_then(|index| result.interfaces.get_mut(index))
        && let Ok(Some(link)) = context.container().link_by_index(links.container().index)
    {
        entry.mtu = entry.mtu.map(|_| link.mtu);
    }
    if !dns.is_empty() {
        result.dns = dns;
    }
    result
}

/// Whether the interface lacks addresses of `prevResult` because the IPAM plugin, whose CHECK
/// succeeded, got it others since.
fn replaced(context: &Context<'_>, link: &Link, prev: &AddResult) -> Result<bool> {
    if !context.request.conf.ipam.as_ref().is_some_and(ipam::replaces_addresses) {
        return Ok(false);
    }
    let found = context.container().addresses(link)?;
    Ok(!prev.ips.iter().all(|ip| found.iter().any(|address| address.cidr == ip.address)))
}

/// Deletes the container's interface and releases its addresses, in the order that the IPAM plugin needs.
fn detach(request: &Request, kind: &str) -> Result<()> {
    if request.conf.ipam.as_ref().is_some_and(|ipam| ipam::needs_link(ipam, request)) {
        // Where it can't be known whether the namespace exists, the interface may still have its addresses.
        Namespaces::open_remaining(request)?;
        let released = release(request);
        let deleted = delete_link(request, kind);
        return Error::all(released.err().into_iter().chain(deleted.err()).collect());
    }
    // Its addresses stay reserved as long as the interface has them.
    delete_link(request, kind)?;
    release(request)
}

/// Deletes the container's interface, also under the temporary name that a killed ADD left it.
/// A link of another kind under that name is not ours.
fn delete_link(request: &Request, kind: &str) -> Result<()> {
    let Some(namespaces) = Namespaces::open_remaining(request)? else { return Ok(()) };
    let container = &namespaces.container;
    let ifname = &request.attachment()?.ifname;
    let link = match container.link(ifname)? {
        None => container.link(&temporary_name(ifname))?,
        link => link,
    };
    match link.filter(|link| link.is(kind)) {
        Some(link) => Ok(container.delete_link(&link)?),
        None => Ok(()),
    }
}

fn release(request: &Request) -> Result<()> {
    match &request.conf.ipam {
        Some(ipam) => ipam::del(ipam, request),
        None => Ok(()),
    }
}
