//! Gives containers interfaces that share the MAC address of an interface of the host.
//!
//! Standing alone it takes addresses from an IPAM plugin. Chained without one, it takes those
//! of the plugin before it, and puts its own interface in place of the interfaces there.
#![deny(missing_docs)]

use cni_core::context::Context;
use cni_core::diagnostics::note;
use cni_core::interface::{InterfacePlugin, Master, MasterConf, RX_HANDLER_RULE};
use cni_core::keys::{Key, REQUESTED_MAC, Value};
use cni_core::netlink::{self, IpvlanMode, Link};
use cni_core::plugin::{About, Kind};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Code, Error, LinkName, Result, default_if_empty, none_if_empty};
use serde::Deserialize;

/// The plugin.
pub struct Ipvlan;

/// The plugin's own keys as they are written; README.md of this crate explains each.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default, deserialize_with = "none_if_empty")]
    master: Option<LinkName>,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    link_in_container: bool,
    #[serde(default, deserialize_with = "default_if_empty")]
    mode: IpvlanMode,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    mac: String,
}

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    MasterConf::MASTER,
    MasterConf::MTU,
    MasterConf::LINK_IN_CONTAINER,
    Key::new(
        "mode",
        Value::Text,
        "l2",
        "l2, l3 or l3s: the layer at which packets are assigned to interfaces",
    ),
    Key::new(
        "runtimeConfig",
        Value::Object(REQUESTED_MAC),
        "{}",
        "a MAC address in it is reported and not given",
    ),
];

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct IpvlanConf {
    /// What the interface sits on, as configured: without a name, the one interface of `prevResult`
    /// or the default master.
    pub master: MasterConf,
    /// The layer at which packets are assigned to interfaces.
    pub mode: IpvlanMode,
    /// A requested MAC address, which can't be had.
    ignored_mac: Option<String>,
    /// `prevResult`, where it has addresses.
    inherited: Option<AddResult>,
    /// The names of the interfaces of `prevResult`, where there is one.
    prev_interfaces: Option<Vec<String>>,
}

impl InterfacePlugin for Ipvlan {
    type Config = IpvlanConf;
    type Links = Link;

    fn about(&self) -> About {
        About {
            names: &["ipvlan"],
            summary: "gives containers interfaces that share the MAC address of their master",
            kind: Kind::Interface,
        }
    }

    fn link_kind(&self) -> &'static str {
        "ipvlan"
    }

    fn config(&self, request: &Request) -> Result<IpvlanConf> {
        let keys: Keys = request.parse_conf()?;
        let prev = request.conf.prev_result()?;
        let mac = [request.env.args.get("MAC").unwrap_or_default(), &keys.runtime_config.mac];
        Ok(IpvlanConf {
            master: MasterConf { name: keys.master, mtu: keys.mtu, in_container: keys.link_in_container },
            mode: keys.mode,
            ignored_mac: mac.into_iter().find(|mac| !mac.is_empty()).map(str::to_owned),
            prev_interfaces: prev
                .as_ref()
                .map(|prev| prev.interfaces.iter().map(|interface| interface.name.clone()).collect()),
            inherited: prev.filter(|prev| !prev.ips.is_empty()),
        })
    }

    fn create(&self, context: &Context<'_>, config: &IpvlanConf) -> Result<Link> {
        let master = config.resolved_master()?;
        if context.request.conf.ipam.is_none() && config.inherited.is_none() {
            return Err(Error::invalid_config(
                "ipvlan has no addresses: neither ipam nor a prevResult with some",
            )
            .details("the kernel gives an ipvlan interface only what is sent to its addresses"));
        }
        if let Some(mac) = &config.ignored_mac {
            let ifname = context.ifname();
            note(format_args!("ipvlan: MAC address {mac} is not given to {ifname}: it shares its master's"));
        }
        let master = Master::find(context, &master)?;
        let kind = netlink::Kind::Ipvlan { lower: master.link.index, mode: config.mode };
        master.create(context, kind, None, RX_HANDLER_RULE)
    }

    fn find(&self, _: &Context<'_>, _: &IpvlanConf, link: Link) -> Result<Link> {
        Ok(link)
    }

    fn inherited(&self, config: &IpvlanConf) -> Option<AddResult> {
        config.inherited.clone()
    }

    fn check(&self, context: &Context<'_>, config: &IpvlanConf, link: &Link, _: &AddResult) -> Result<()> {
        // Without a name nothing says the master: at CHECK, prevResult is this plugin's own.
        if config.master.name.is_some() {
            Master::find(context, &config.master)?.check(context, link)?;
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

impl IpvlanConf {
    /// The configured master, or the one interface that the plugin before created.
    fn resolved_master(&self) -> Result<MasterConf> {
        let mut master = self.master.clone();
        if let (None, Some(names)) = (&master.name, &self.prev_interfaces) {
            let [name] = &names[..] else {
                return Err(Error::invalid_config(format!(
                    "no master is configured, and prevResult has {} interfaces where it needs one",
                    names.len()
                ))
                .details(format!("interfaces of prevResult: [{}]", names.join(", "))));
            };
            let name: Result<LinkName> = name.parse();
            master.name =
                Some(name.map_err(|err| err.context("prevResult").with_code(Code::INVALID_CONFIG))?);
        }
        Ok(master)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_is_complete() {
        assert_eq!(cni_core::keys::differences::<Keys>(KEYS), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_mode_lists_the_modes() {
        let error = serde_json::from_str::<Keys>(r#"{"mode":"l4"}"#).unwrap_err().to_string();
        for mode in ["l2", "l3", "l3s"] {
            assert!(error.contains(&format!("`{mode}`")), "{error}");
        }
    }
}
