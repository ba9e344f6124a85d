//! Connects containers by an Ethernet bridge on the host.
//!
//! One ADD makes the bridge where it is missing, a veth pair with one end as the container's
//! interface and the other as a port of the bridge, and with `isGateway` gives the bridge the
//! gateway's address.
#![deny(missing_docs)]

mod config;
mod gateway;
mod port;
mod shared;
mod spoofcheck;

use std::time::Duration;

use cni_core::firewall::{self, Masquerade};
use cni_core::interface::{Created, Dad, InterfacePlugin, Site, add_default_routes, mac_matches, missing};
use cni_core::netlink::{Link, Netlink};
use cni_core::netns::Netns;
use cni_core::plugin::About;
use cni_core::request::Request;
use cni_core::spec::{AddResult, Cidr, Code, Error, Result};

pub use config::BridgeConf;

/// How long a port may take until frames pass: the kernel learns of it asynchronously
/// (net/core/link_watch.c), at most a second after the container's end comes up.
const PORT_LIMIT: Duration = Duration::from_secs(3);

/// The plugin.
pub struct Bridge;

type BridgeSite<'s, 'n> = Site<'s, 'n, BridgeConf>;

impl InterfacePlugin for Bridge {
    type Config = BridgeConf;

    fn about(&self) -> About {
        About { names: &["bridge", "cnv-bridge"], summary: "connects containers by an Ethernet bridge" }
    }

    fn validate(&self, config: &mut BridgeConf, request: &Request) -> Result<()> {
        config.validate(request)
    }

    fn create(&self, site: &BridgeSite<'_, '_>) -> Result<Created> {
        // Until the port is there, nobody may take the bridge away as unused.
        let _in_use = Netns::own()?.lock_shared()?;
        let bridge = shared::ensure(site)?;
        let (port, link) = port::create(site, &bridge)?;
        if site.config.macspoofchk {
            spoofcheck::set_up(site, &port, &link)?;
        }
        let interfaces = vec![site.on_host(&bridge), site.on_host(&port), site.in_container(&link)];
        Ok(Created { interfaces, link })
    }

    fn dad(&self, config: &BridgeConf) -> Dad {
        if config.enabledad { Dad::Enhanced } else { Dad::Off }
    }

    fn brings_up(&self, config: &BridgeConf) -> bool {
        !config.disable_container_interface
    }

    fn adapt(&self, site: &BridgeSite<'_, '_>, result: &mut AddResult) -> Result<()> {
        if site.config.is_gateway {
            for ip in &mut result.ips {
                ip.gateway.get_or_insert_with(|| gateway::first_address(ip.address));
            }
        }
        if site.config.is_default_gateway {
            add_default_routes(result);
        }
        Ok(())
    }

    fn finish(&self, site: &BridgeSite<'_, '_>, link: &Link, result: &mut AddResult) -> Result<()> {
        let host = site.host;
        let name = result.interfaces[1].name.clone();
        let port = if site.config.disable_container_interface {
            host.link(&name)?.ok_or_else(|| gone(&name))?
        } else {
            host.wait_until_operational(&name, PORT_LIMIT)?
        };
        if site.config.is_gateway && !result.ips.is_empty() {
            gateway::set_up(site, &port, result)?;
        }
        if site.config.ip_masq && !result.ips.is_empty() {
            masquerade(site, result)?;
        }
        if !result.ips.is_empty() {
            // What the kernel announced as the interface came up was lost at the port, which
            // learns of its carrier later (net/core/link_watch.c) and lets nothing pass until then.
            site.container.announce(link)?;
        }
        // Both may have changed: a bridge takes the lowest MAC address of its ports.
        let bridge = host.link(&site.config.bridge)?.ok_or_else(|| gone(&site.config.bridge))?;
        result.interfaces[0] = site.on_host(&bridge);
        result.interfaces[1] = site.on_host(&port);
        Ok(())
    }

    fn check(&self, site: &BridgeSite<'_, '_>, link: &Link, prev: &AddResult) -> Result<()> {
        let name = &site.config.bridge;
        let bridge = site.host.link(name)?.ok_or_else(|| missing(name, "the host"))?;
        shared::require(&bridge)?;
        if bridge.promiscuous != site.config.promisc_mode {
            let state = if bridge.promiscuous { "promiscuous" } else { "not promiscuous" };
            return Err(Error::check(format!("bridge {name} is {state}")));
        }
        let on_host = |name: &str| prev.interfaces.iter().find(|i| i.name == name && i.sandbox.is_empty());
        // Without an address of its own, a bridge takes the lowest MAC address of its ports,
        // which come and go with other containers.
        let has_gateway = site.config.is_gateway && site.request.conf.ipam.is_some();
        let mac_is_kept = has_gateway && site.config.vlan == 0;
        if let Some(expected) = on_host(name).filter(|_| mac_is_kept) {
            mac_matches(&bridge, &expected.mac)?;
        }
        if has_gateway {
            gateway::check(site, prev)?;
        }
        port::check(site, link, &bridge, |port| match on_host(&port.name) {
            Some(expected) => mac_matches(port, &expected.mac),
            None => Err(Error::check(format!("prevResult does not have bridge port {}", port.name))),
        })
    }

    fn ready(&self, config: &BridgeConf, request: &Request) -> Result<()> {
        if let Some(bridge) = Netlink::open()?.link(&config.bridge)? {
            shared::require(&bridge).map_err(|err| err.with_code(Code::UNAVAILABLE))?;
        }
        let ip_masq = config.ip_masq && request.conf.ipam.is_some();
        for (key, wanted) in [("ipMasq", ip_masq), ("macspoofchk", config.macspoofchk)] {
            if wanted && !firewall::available() {
                return Err(Error::new(Code::UNAVAILABLE, format!("{key} needs the nft program"))
                    .details("it is in no folder of PATH"));
            }
        }
        Ok(())
    }

    fn clean_up(&self, config: Option<&BridgeConf>, request: &Request) -> Result<()> {
        // Of one that can't be read, the rules may be there.
        let (macspoofchk, ip_masq) =
            config.map_or((true, true), |config| (config.macspoofchk, config.ip_masq));
        let attachment = request.attachment()?;
        let mut errors = Vec::new();
        if macspoofchk {
            errors.extend(spoofcheck::tear_down(attachment).err());
        }
        if ip_masq && request.conf.ipam.is_some() {
            errors.extend(Masquerade { network: &request.conf.name, attachment }.tear_down().err());
        }
        Error::all(errors)
    }

    fn collect(&self, config: &BridgeConf, request: &Request) -> Result<()> {
        let Some(valid) = &request.conf.valid_attachments else { return Ok(()) };
        let mut errors = Vec::new();
        if config.macspoofchk {
            errors.extend(spoofcheck::collect(valid).err());
        }
        if config.ip_masq {
            errors.extend(Masquerade::collect(&request.conf.name, valid).err());
        }
        Error::all(errors)
    }
}

fn masquerade(site: &BridgeSite<'_, '_>, result: &AddResult) -> Result<()> {
    if site.config.wants_iptables() {
        eprintln!("bridge: ipMasqBackend iptables is not supported, nftables is used in its place");
    }
    let (network, attachment) = (site.request.conf.name.clone(), site.request.attachment()?.clone());
    let addresses: Vec<Cidr> = result.ips.iter().map(|ip| ip.address).collect();
    Masquerade { network: &network, attachment: &attachment }.set_up(&addresses)?;
    site.undo
        .push("masquerading", move || Masquerade { network: &network, attachment: &attachment }.tear_down());
    Ok(())
}

fn gone(name: &str) -> Error {
    Error::new(Code::KERNEL, format!("interface {name} was deleted by somebody else while it was configured"))
}
