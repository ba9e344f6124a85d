//! ADD, DEL, CHECK, STATUS and GC of every interface plugin.

use super::{InterfacePlugin, Site, configure, verify};
use crate::ipam;
use crate::netlink::Netlink;
use crate::netns::Netns;
use crate::plugin::{About, Plugin};
use crate::request::{Command, Request};
use crate::spec::{AddResult, Code, Error, Result};
use crate::undo::Undo;

impl<P: InterfacePlugin> Plugin for P {
    fn about(&self) -> About {
        InterfacePlugin::about(self)
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        let config = valid_config(self, request)?;
        let ifname = &request.attachment()?.ifname;
        let netns = Netns::open_existing(request.netns()?)?;
        let (host, container) = (Netlink::open()?, Netlink::open_in(&netns)?);
        let undo = Undo::new();
        let site = Site {
            request,
            config: &config,
            ifname,
            host: &host,
            container: &container,
            netns: &netns,
            undo: &undo,
        };

        let created = self.create(&site)?;
        let mut result = AddResult { interfaces: created.interfaces, ..AddResult::default() };

        if let Some(addresses) = addresses(self, &site)? {
            take_addresses(&mut result, addresses);
            self.adapt(&site, &mut result)?;
            configure::configure(&container, &netns, ifname, &created.link, self.dad(&config), &result)?;
        } else if self.brings_up(&config) {
            container.set_up(&created.link)?;
        }
        self.finish(&site, &mut result)?;
        if !request.conf.dns.is_empty() {
            result.dns = request.conf.dns.clone();
        }
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
        Error::collect(errors).map_or(Ok(()), Err)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let config = valid_config(self, request)?;
        let prev = request.conf.required_prev_result()?;
        let ifname = &request.attachment()?.ifname;
        let netns = Netns::open_existing(request.netns()?)?;
        let (host, container) = (Netlink::open()?, Netlink::open_in(&netns)?);
        if let Some(ipam) = &request.conf.ipam {
            ipam::call(ipam, request, Command::Check)?;
        }
        let sandbox = netns.path().display().to_string();
        let link = verify::container_link(&container, ifname, &sandbox, &prev)?;
        let undo = Undo::new();
        let site = Site {
            request,
            config: &config,
            ifname,
            host: &host,
            container: &container,
            netns: &netns,
            undo: &undo,
        };
        InterfacePlugin::check(self, &site, &link, &prev)?;
        verify::addresses_and_routes(&container, &link, &prev)
    }

    fn status(&self, request: &Request) -> Result<()> {
        valid_config(self, request)?;
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
        Error::collect(errors).map_or(Ok(()), Err)
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
    let Some(path) = &request.env.netns else { return Ok(()) };
    let netns = match Netns::open(path) {
        Ok(Some(netns)) => netns,
        // Nothing there, or no namespace any more (the file it was mounted on stays behind).
        Ok(None) => return Ok(()),
        Err(err) if err.code() == Code::INVALID_NETNS => return Ok(()),
        Err(err) => return Err(err),
    };
    let container = Netlink::open_in(&netns)?;
    match container.link(&request.attachment()?.ifname)? {
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
