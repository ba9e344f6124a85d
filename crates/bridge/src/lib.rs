//! Connects containers by an Ethernet bridge on the host.
//!
//! One ADD creates the bridge where it is missing, a veth pair with one end as the container's
//! interface and the other as a port of the bridge, and with `isGateway` gives the bridge the
//! gateway's address.
#![deny(missing_docs)]

mod config;
mod gateway;
mod keys;
mod link;
mod port;
pub mod spoofcheck;

use std::time::Duration;

use cni_core::context::{Context, Located};
use cni_core::diagnostics::note;
use cni_core::firewall::Masquerade;
use cni_core::interface::{Dad, InterfacePlugin, Links, add_default_routes, mac_matches, missing};
use cni_core::netlink::{Link, Netlink};
use cni_core::netns::lock;
use cni_core::plugin::{About, Kind};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Attachment, Cidr, Code, Error, IpConfig, Result};

pub use config::BridgeConf;
pub use keys::KEYS;

/// The time until a port passes frames: the kernel reports its carrier asynchronously
/// (net/core/link_watch.c), at most a second after the container's end comes up.
const PORT_LIMIT: Duration = Duration::from_secs(3);

/// The plugin.
pub struct Bridge;

/// The links of an attachment.
#[derive(Clone, Debug)]
pub struct BridgeLinks {
    bridge: Link,
    /// The host's end of the veth pair.
    port: Link,
    /// The container's end.
    container: Link,
    /// The interface with the gateway's address, where it is not the bridge.
    gateway: Option<Link>,
}

impl Links for BridgeLinks {
    fn container(&self) -> &Link {
        &self.container
    }

    fn listed(&self) -> Vec<Located<'_>> {
        let on_host = [&self.bridge, &self.port].map(Located::Host);
        let gateway = self.gateway.as_ref().map(Located::Host);
        on_host.into_iter().chain([Located::Container(&self.container)]).chain(gateway).collect()
    }
}

impl InterfacePlugin for Bridge {
    type Config = BridgeConf;
    type Links = BridgeLinks;

    fn about(&self) -> About {
        About {
            names: &["bridge", "cnv-bridge"],
            summary: "connects containers by an Ethernet bridge",
            kind: Kind::Interface,
        }
    }

    fn link_kind(&self) -> &'static str {
        "veth"
    }

    fn config(&self, request: &Request) -> Result<BridgeConf> {
        BridgeConf::parse(request)
    }

    fn create(&self, context: &Context<'_>, config: &BridgeConf) -> Result<BridgeLinks> {
        // Until the port exists, no other process may delete the bridge as unused.
        let _lock = lock::shared()?;
        let bridge = link::ensure(context, config)?;
        let (port, container) = port::create(context, config, &bridge)?;
        if config.macspoofchk {
            spoofcheck::set_up(context, &port, &container)?;
        }
        Ok(BridgeLinks { bridge, port, container, gateway: None })
    }

    fn find(&self, context: &Context<'_>, config: &BridgeConf, link: Link) -> Result<BridgeLinks> {
        let name = &config.bridge;
        let bridge = context.host().link(name)?.ok_or_else(|| missing(name, "the host"))?;
        let port = port::find(context, &link)?;
        Ok(BridgeLinks { bridge, port, container: link, gateway: None })
    }

    fn dad(&self, config: &BridgeConf) -> Dad {
        if config.enabledad { Dad::Enhanced } else { Dad::Off }
    }

    fn sets_up(&self, config: &BridgeConf) -> bool {
        !config.disable_container_interface
    }

    fn complete(&self, config: &BridgeConf, addresses: &mut AddResult) -> Result<()> {
        if config.gateway.is_some() {
            for ip in &mut addresses.ips {
                ip.gateway.get_or_insert_with(|| gateway::first_address(ip.address));
            }
        }
        if config.is_default_gateway {
            add_default_routes(addresses);
        }
        Ok(())
    }

    fn finish(
        &self,
        context: &Context<'_>,
        config: &BridgeConf,
        links: &mut BridgeLinks,
        addresses: &AddResult,
    ) -> Result<()> {
        let host = context.host();
        let port = &links.port.name;
        links.port = if config.disable_container_interface {
            host.link(port)?.ok_or_else(|| gone(port))?
        } else {
            host.wait_until_operational(port, PORT_LIMIT)?
        };
        if !addresses.ips.is_empty() {
            if config.ip_masq {
                masquerade(context, config, addresses)?;
            }
            // The port learns of its carrier after the container's interface is up
            // (net/core/link_watch.c), and drops what the kernel announces until then.
            context.container().announce(&links.container)?;
            // Last, because it may set the bridge's MAC address, which can't be undone.
            if let Some(name) = &config.gateway {
                let gateway = gateway::set_up(context, config, name, links, addresses)?;
                links.gateway = Some(gateway).filter(|gateway| gateway.index != links.bridge.index);
            }
        }
        // Its MAC address may have changed: a bridge takes the lowest one of its ports.
        links.bridge = host.link(&config.bridge)?.ok_or_else(|| gone(&config.bridge))?;
        Ok(())
    }

    fn check(
        &self,
        context: &Context<'_>,
        config: &BridgeConf,
        links: &BridgeLinks,
        prev: &AddResult,
    ) -> Result<()> {
        let (bridge, name) = (&links.bridge, &config.bridge);
        link::require(bridge)?;
        if bridge.promiscuous != config.promisc_mode {
            let state = if bridge.promiscuous { "promiscuous" } else { "not promiscuous" };
            return Err(Error::check(format!("bridge {name} is {state}")));
        }
        let on_host = |name: &str| prev.interfaces.iter().find(|i| i.name == name && i.sandbox.is_empty());
        let gateway = config.gateway.as_ref().filter(|_| context.request.conf.ipam.is_some());
        // Without an address of its own, a bridge takes the lowest MAC address of its ports,
        // which come and go with other containers.
        if let Some(expected) = on_host(name).filter(|_| gateway == Some(name)) {
            mac_matches(bridge, &expected.mac)?;
        }
        if let Some(gateway) = gateway {
            gateway::check(context, config, gateway, prev)?;
        }
        match on_host(&links.port.name) {
            Some(expected) => mac_matches(&links.port, &expected.mac)?,
            None => {
                return Err(Error::check(format!(
                    "prevResult does not have bridge port {}",
                    links.port.name
                )));
            }
        }
        port::check(context, config, links)?;
        if config.macspoofchk {
            spoofcheck::check(context.attachment, &links.port, &links.container)?;
        }
        if config.ip_masq && context.request.conf.ipam.is_some() {
            let own = |ip: &&IpConfig| {
                let interface = ip.interface.and_then(|index| prev.interfaces.get(index));
                interface.is_none_or(|interface| interface.name == context.ifname().as_str())
            };
            let addresses: Vec<Cidr> = prev.ips.iter().filter(own).map(|ip| ip.address).collect();
            Masquerade { network: &context.request.conf.name, attachment: context.attachment }
                .check(&addresses)?;
        }
        Ok(())
    }

    fn status(&self, config: &BridgeConf, request: &Request) -> Result<()> {
        if let Some(bridge) = Netlink::open()?.link(&config.bridge)? {
            link::require(&bridge).map_err(|err| err.with_code(Code::UNAVAILABLE))?;
        }
        if config.ip_masq && request.conf.ipam.is_some() {
            Masquerade::require()?;
        }
        if config.macspoofchk {
            spoofcheck::require()?;
        }
        Ok(())
    }

    fn clean_up(&self, config: Option<&BridgeConf>, request: &Request) -> Result<()> {
        // With an invalid configuration, the rules may exist.
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

    fn gc(&self, config: &BridgeConf, request: &Request, valid: &[Attachment]) -> Result<()> {
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

fn masquerade(context: &Context<'_>, config: &BridgeConf, addresses: &AddResult) -> Result<()> {
    if config.wants_iptables {
        note(format_args!("bridge: ipMasqBackend iptables is not supported, nftables is used instead"));
    }
    let (network, attachment) = (context.request.conf.name.clone(), context.attachment.clone());
    let addresses: Vec<Cidr> = addresses.ips.iter().map(|ip| ip.address).collect();
    {
        let (network, attachment) = (network.clone(), attachment.clone());
        // Before they are added: where no answer comes they may have been.
        context.undo.push("masquerading", move || {
            Masquerade { network: &network, attachment: &attachment }.tear_down()
        });
    }
    Masquerade { network: &network, attachment: &attachment }.set_up(&addresses)
}

fn gone(name: &str) -> Error {
    Error::new(Code::KERNEL, format!("another process deleted interface {name} while it was configured"))
}
