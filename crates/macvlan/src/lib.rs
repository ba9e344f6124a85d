//! Gives containers interfaces with MAC addresses of their own on an interface of the host.
//!
//! The master's switch sees every container as a machine of its own. The host itself does not
//! reach its containers over the master: the kernel keeps the two apart.
#![deny(missing_docs)]

use cni_core::interface::MacSource::{Args, Config};
use cni_core::interface::{Created, InterfacePlugin, Master, MasterConf, Site, asked_mac};
use cni_core::netlink::{Kind, Link, MacvlanMode};
use cni_core::plugin::About;
use cni_core::request::Request;
use cni_core::spec::{AddResult, Error, Mac, Result, default_if_empty};
use serde::Deserialize;

/// The plugin.
pub struct Macvlan;

/// The plugin's own keys; README.md of this crate explains each.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names are those of the configuration
pub struct MacvlanConf {
    #[serde(skip)]
    pub master: MasterConf,
    #[serde(default, deserialize_with = "default_if_empty")]
    pub mode: MacvlanMode,
    #[serde(default)]
    mac: String,
    /// Queue length for broadcasts in packets, 0 for the kernel's default.
    #[serde(default)]
    pub bcqueuelen: u32,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    /// The MAC address that was asked for.
    #[serde(skip)]
    pub asked_mac: Option<Mac>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    mac: String,
}

impl InterfacePlugin for Macvlan {
    type Config = MacvlanConf;

    fn about(&self) -> About {
        About {
            names: &["macvlan"],
            summary: "gives containers interfaces with MAC addresses of their own on a master",
        }
    }

    fn validate(&self, config: &mut MacvlanConf, request: &Request) -> Result<()> {
        let args = &request.env.args;
        args.only(&["MAC"])?;
        config.master = request.parse_conf()?;
        config.asked_mac = asked_mac(&[Config(&config.mac), Args(args), Config(&config.runtime_config.mac)])?;
        Ok(())
    }

    fn create(&self, site: &Site<'_, '_, MacvlanConf>) -> Result<Created> {
        let config = site.config;
        let master = Master::find(site, &config.master)?;
        let bc_queue_len = (config.bcqueuelen != 0).then_some(config.bcqueuelen);
        let kind = Kind::Macvlan { lower: master.link.index, mode: config.mode, bc_queue_len };
        master.create(site, kind, config.master.mtu, config.asked_mac)
    }

    fn check(&self, site: &Site<'_, '_, MacvlanConf>, link: &Link, _prev: &AddResult) -> Result<()> {
        Master::find(site, &site.config.master)?.check(link, "macvlan")?;
        match link.macvlan_mode() {
            Some(mode) if mode == site.config.mode => Ok(()),
            found => Err(Error::check(format!(
                "interface {} has mode {found:?}, not {:?}",
                link.name, site.config.mode
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_mode_lists_the_modes() {
        let error = serde_json::from_str::<MacvlanConf>(r#"{"mode":"bride"}"#).unwrap_err().to_string();
        for mode in ["bridge", "private", "vepa", "passthru"] {
            assert!(error.contains(&format!("`{mode}`")), "{error}");
        }
        assert!(!error.contains("``"), "{error}");
    }

    #[test]
    fn an_empty_mode_is_the_default() {
        let conf: MacvlanConf = serde_json::from_str(r#"{"mode":""}"#).unwrap();
        assert_eq!(conf.mode, MacvlanMode::Bridge);
    }
}
