//! ADD, DEL, CHECK, STATUS and GC of every interface plugin.

use super::master::passing_name;
use super::{InterfacePlugin, Site, configure, verify};
use crate::ipam;
use crate::netlink::Netlink;
use crate::netns::Netns;
use crate::plugin::{About, LinkAtDel, Plugin};
use crate::request::{Command, Request};
use crate::spec::{AddResult, Error, Result};
use crate::undo::Undo;

impl<P: InterfacePlugin> Plugin for P {
    fn about(&self) -> About {
        InterfacePlugin::about(self)
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        let config = valid_config(self, request)?;
        let sides = Sides::open(request)?;
        let undo = Undo::new();
        let site = sides.site(request, &config, &undo)?;

        let created = self.create(&site)?;
        let mut result = AddResult { interfaces: created.interfaces, ..AddResult::default() };

        if let Some(addresses) = addresses(self, &site)? {
            take_addresses(&mut result, addresses);
            self.adapt(&site, &mut result)?;
            configure::configure(&site, &created.link, self.dad(&config), &result)?;
        } else if self.brings_up(&config) {
            site.container.set_up(&created.link)?;
        }
        self.finish(&site, &created.link, &mut result)?;
        if !request.conf.dns.is_empty() {
            result.dns = request.conf.dns.clone();
        }
        // A result that the caller's version has no words for is a failure: nobody would know of it.
        result.to_json(request.conf.cni_version)?;
        undo.keep();
        Ok(result)
    }

    fn del(&self, request: &Request) -> Result<()> {
        let mut errors = Vec::new();
        match delete_link(request) {
            // Its addresses stay reserved as long as the interface has them.
            Err(err) => errors.push(err),
            Ok(()) => errors.extend(release(request).err()),
        }
        // A configuration that has become invalid since must not keep a container from going.
        let config = valid_config(self, request).ok();
        errors.extend(self.clean_up(config.as_ref(), request).err());
        Error::all(errors)
    }

    fn link_at_del(&self) -> LinkAtDel {
        LinkAtDel::Deletes
    }

    fn check(&self, request: &Request) -> Result<()> {
        let config = valid_config(self, request)?;
        let prev = request.conf.required_prev_result()?;
        let (sides, undo) = (Sides::open(request)?, Undo::new());
        let site = sides.site(request, &config, &undo)?;
        if let Some(ipam) = &request.conf.ipam {
            ipam::call(ipam, request, Command::Check)?;
        }
        let link = verify::container_link(&site, &prev)?;
        if self.brings_up(&config) && !link.up {
            return Err(Error::check(format!("interface {} is down", link.name)));
        }
        InterfacePlugin::check(self, &site, &link, &prev)?;
        verify::addresses_and_routes(site.container, &link, &prev)
    }

    fn status(&self, request: &Request) -> Result<()> {
        self.ready(&valid_config(self, request)?, request)?;
        match &request.conf.ipam {
            Some(ipam) => ipam::call(ipam, request, Command::Status),
            None => Ok(()),
        }
    }

    fn gc(&self, request: &Request) -> Result<()> {
        let config = valid_config(self, request)?;
        let mut errors = Vec::new();
        if let Some(ipam) = &request.conf.ipam {
            errors.extend(ipam::call(ipam, request, Command::Gc).err());
        }
        errors.extend(self.collect(&config, request).err());
        Error::all(errors)
    }
}

/// Both sides of an attachment, open.
struct Sides {
    netns: Netns,
    host: Netlink,
    container: Netlink,
}

impl Sides {
    fn open(request: &Request) -> Result<Sides> {
        let netns = Netns::open_existing(request.netns()?)?;
        let (host, container) = (Netlink::open()?, Netlink::open_in(&netns)?);
        Ok(Sides { netns, host, container })
    }

    fn site<'s, 'n: 's, C>(
        &'n self,
        request: &'s Request,
        config: &'s C,
        undo: &'s Undo<'n>,
    ) -> Result<Site<'s, 'n, C>> {
        let Sides { netns, host, container } = self;
        let ifname = &request.attachment()?.ifname;
        Ok(Site { request, config, ifname, host, container, netns, undo })
    }
}

fn valid_config<P: InterfacePlugin>(plugin: &P, request: &Request) -> Result<P::Config> {
    let mut config = request.parse_conf()?;
    plugin.validate(&mut config, request)?;
    Ok(config)
}

/// The addresses of the attachment: from the IPAM plugin, or inherited.
fn addresses<'n, P: InterfacePlugin>(
    plugin: &P,
    site: &Site<'_, 'n, P::Config>,
) -> Result<Option<AddResult>> {
    let Some(ipam) = &site.request.conf.ipam else {
        return plugin.inherited(site);
    };
    let addresses = ipam::add(ipam, site.request)?;
    let (ipam, request) = (ipam.clone(), site.request.clone());
    site.undo.push(format!("addresses of ipam {ipam}"), move || ipam::del(&ipam, &request));
    Ok(Some(addresses))
}

/// Puts addresses into a result: they are of the last interface, the container's.
fn take_addresses(result: &mut AddResult, addresses: AddResult) {
    let own = result.interfaces.len().checked_sub(1);
    result.ips = addresses.ips;
    for ip in &mut result.ips {
        ip.interface = own;
    }
    result.routes = addresses.routes;
    result.dns = addresses.dns;
}

/// Deletes the container's interface where there is one.
fn delete_link(request: &Request) -> Result<()> {
    let Some(netns) = Netns::open_what_is_left(request.env.netns.as_deref())? else { return Ok(()) };
    let container = Netlink::open_in(&netns)?;
    let ifname = &request.attachment()?.ifname;
    let link = match container.link(ifname)? {
        None => container.link(&passing_name(ifname))?,
        link => link,
    };
    link.map_or(Ok(()), |link| Ok(container.delete_link(&link)?))
}

fn release(request: &Request) -> Result<()> {
    match &request.conf.ipam {
        Some(ipam) => ipam::del(ipam, request),
        None => Ok(()),
    }
}
