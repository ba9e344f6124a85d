//! Gives containers interfaces with MAC addresses of their own on an interface of the host.
//!
//! The master's switch sees every container as a machine of its own. The host itself does not
//! reach its containers over the master: the kernel keeps the two apart.
#![deny(missing_docs)]

use cni_core::context::Context;
use cni_core::interface::MacSource::{Args, Config};
use cni_core::interface::{InterfacePlugin, Master, MasterConf, RX_HANDLER_RULE, requested_mac};
use cni_core::keys::{Key, REQUESTED_MAC, Value};
use cni_core::netlink::{self, Link, MacvlanMode};
use cni_core::plugin::{About, Kind};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Error, LinkName, Mac, Result, default_if_empty, none_if_empty};
use serde::Deserialize;

/// The plugin.
pub struct Macvlan;

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
    mode: MacvlanMode,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    bcqueuelen: u32,
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
        "bridge",
        "bridge, private, vepa or passthru: what one master's containers may reach",
    ),
    Key::new("mac", Value::Text, "", "the MAC address; MAC= of CNI_ARGS and runtimeConfig.mac overrule it"),
    Key::new(
        "bcqueuelen",
        Value::Integer,
        "0",
        "queue length for broadcasts in packets; 0 for the kernel's default",
    ),
    Key::new("runtimeConfig", Value::Object(REQUESTED_MAC), "{}", "the capability mac"),
];

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct MacvlanConf {
    /// What the interface sits on.
    pub master: MasterConf,
    /// What the interfaces of one master may reach.
    pub mode: MacvlanMode,
    /// Queue length for broadcasts in packets, `None` for the kernel's default.
    pub bc_queue_len: Option<u32>,
    /// The requested MAC address.
    pub mac: Option<Mac>,
}

impl InterfacePlugin for Macvlan {
    type Config = MacvlanConf;
    type Links = Link;

    fn about(&self) -> About {
        About {
            names: &["macvlan"],
            summary: "gives containers interfaces with MAC addresses of their own on a master",
            kind: Kind::Interface,
        }
    }

    fn link_kind(&self) -> &'static str {
        "macvlan"
    }

    fn config(&self, request: &Request) -> Result<MacvlanConf> {
        let args = &request.env.args;
        args.only(&["MAC"])?;
        let keys: Keys = request.parse_conf()?;
        Ok(MacvlanConf {
            master: MasterConf { name: keys.master, mtu: keys.mtu, in_container: keys.link_in_container },
            mode: keys.mode,
            bc_queue_len: (keys.bcqueuelen != 0).then_some(keys.bcqueuelen),
            mac: requested_mac(&[Config(&keys.mac), Args(args), Config(&keys.runtime_config.mac)])?,
        })
    }

    fn create(&self, context: &Context<'_>, config: &MacvlanConf) -> Result<Link> {
        let master = Master::find(context, &config.master)?;
        master.require_mtu(&config.master)?;
        let (mode, bc_queue_len) = (config.mode, config.bc_queue_len);
        let kind = netlink::Kind::Macvlan { lower: master.link.index, mode, bc_queue_len };
        master.create(context, kind, config.mac, RX_HANDLER_RULE)
    }

    fn find(&self, _: &Context<'_>, _: &MacvlanConf, link: Link) -> Result<Link> {
        Ok(link)
    }

    fn check(&self, context: &Context<'_>, config: &MacvlanConf, link: &Link, _: &AddResult) -> Result<()> {
        // Without a name it was that of the default route, which may have moved since.
        if config.master.name.is_some() {
            Master::find(context, &config.master)?.check(context, link)?;
        }
        match link.macvlan_mode() {
            Some(mode) if mode == config.mode => Ok(()),
            found => Err(Error::check(format!(
                "interface {} has mode {found:?}, not {:?}",
                link.name, config.mode
            ))),
        }
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
        let error = serde_json::from_str::<Keys>(r#"{"mode":"bride"}"#).unwrap_err().to_string();
        for mode in ["bridge", "private", "vepa", "passthru"] {
            assert!(error.contains(&format!("`{mode}`")), "{error}");
        }
        assert!(!error.contains("``"), "{error}");
    }

    #[test]
    fn an_empty_mode_is_the_default() {
        let keys: Keys = serde_json::from_str(r#"{"mode":""}"#).unwrap();
        assert_eq!(keys.mode, MacvlanMode::Bridge);
    }
}
