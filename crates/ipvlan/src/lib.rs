//! Gives containers interfaces that share the MAC address of an interface of the host.
//!
//! Standing alone it takes addresses from an IPAM plugin. Chained without one, it takes those
//! of the plugin before it, and puts its own interface in place of the interfaces there.
#![deny(missing_docs)]

use cni_core::interface::{Created, InterfacePlugin, Master, MasterConf, Site};
use cni_core::netlink::{IpvlanMode, Kind, Link};
use cni_core::plugin::About;
use cni_core::request::Request;
use cni_core::spec::{AddResult, Code, Error, Result, default_if_empty};
use serde::Deserialize;

/// The plugin.
pub struct Ipvlan;

/// The plugin's own keys; README.md of this crate explains each.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names are those of the configuration
pub struct IpvlanConf {
    #[serde(skip)]
    pub master: MasterConf,
    #[serde(default, deserialize_with = "default_if_empty")]
    pub mode: IpvlanMode,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    mac: String,
}

impl InterfacePlugin for Ipvlan {
    type Config = IpvlanConf;

    fn about(&self) -> About {
        About {
            names: &["ipvlan"],
            summary: "gives containers interfaces that share the MAC address of their master",
        }
    }

    fn validate(&self, config: &mut IpvlanConf, request: &Request) -> Result<()> {
        config.master = request.parse_conf()?;
        if request.conf.ipam.as_deref() == Some("dhcp") {
            return Err(Error::new(
                Code::UNSUPPORTED_FIELD,
                "ipam.type \"dhcp\" is not supported with ipvlan",
            )
            .details(
                "all interfaces of a master share its MAC address, by which DHCP servers tell clients apart",
            ));
        }
        Ok(())
    }

    fn create(&self, site: &Site<'_, '_, IpvlanConf>) -> Result<Created> {
        let request = site.request;
        let conf = master_of(site)?;
        if request.conf.ipam.is_none() && inherited_addresses(request)?.is_none() {
            return Err(Error::invalid_config(
                "ipvlan has no addresses: neither ipam nor a prevResult with some",
            )
            .details("the kernel gives an ipvlan interface only what is sent to its addresses"));
        }
        let mac = [request.env.args.get("MAC").unwrap_or_default(), &site.config.runtime_config.mac];
        if let Some(mac) = mac.into_iter().find(|mac| !mac.is_empty()) {
            eprintln!("ipvlan: MAC address {mac} is not given to {}: it shares its master's", site.ifname);
        }
        let master = Master::find(site, &conf)?;
        master.create(site, Kind::Ipvlan { lower: master.link.index, mode: site.config.mode }, conf.mtu, None)
    }

    fn inherited(&self, site: &Site<'_, '_, IpvlanConf>) -> Result<Option<AddResult>> {
        inherited_addresses(site.request)
    }

    fn check(&self, site: &Site<'_, '_, IpvlanConf>, link: &Link, _prev: &AddResult) -> Result<()> {
        let config = site.config;
        if config.master.master.is_some() || !link.is("ipvlan") {
            // Without a name, prevResult is this plugin's own and does not say the master any more.
            Master::find(site, &config.master)?.check(link, "ipvlan")?;
        }
        match link.ipvlan_mode() {
            Some(mode) if mode == config.mode => Ok(()),
            found => Err(Error::check(format!(
                "interface {} has mode {found:?}, not {:?}",
                link.name, config.mode
            ))),
        }
    }
}

/// The master that is configured, or the one interface that the plugin before made.
fn master_of(site: &Site<'_, '_, IpvlanConf>) -> Result<MasterConf> {
    let mut conf = site.config.master.clone();
    if conf.master.is_some() {
        return Ok(conf);
    }
    if let Some(prev) = site.request.conf.prev_result()? {
        let names: Vec<&str> = prev.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        let [name] = names[..] else {
            return Err(Error::invalid_config(format!(
                "no master is configured, and prevResult has {} interfaces where one would be it",
                names.len()
            ))
            .details(format!("interfaces of prevResult: [{}]", names.join(", "))));
        };
        conf.master = Some(
            name.parse().map_err(|err: Error| err.context("prevResult").with_code(Code::INVALID_CONFIG))?,
        );
    }
    Ok(conf)
}

/// What the plugin before assigned, where it assigned something.
fn inherited_addresses(request: &Request) -> Result<Option<AddResult>> {
    Ok(request.conf.prev_result()?.filter(|prev| !prev.ips.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_mode_lists_the_modes() {
        let error = serde_json::from_str::<IpvlanConf>(r#"{"mode":"l4"}"#).unwrap_err().to_string();
        for mode in ["l2", "l3", "l3s"] {
            assert!(error.contains(&format!("`{mode}`")), "{error}");
        }
    }
}
