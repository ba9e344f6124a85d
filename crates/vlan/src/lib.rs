//! Gives containers interfaces in a VLAN (IEEE 802.1Q) of an interface of the host.
#![deny(missing_docs)]

use cni_core::context::Context;
use cni_core::interface::{InterfacePlugin, Master, MasterConf};
use cni_core::keys::{Key, Value};
use cni_core::netlink::{self, Link};
use cni_core::plugin::{About, Kind};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Error, LinkName, Result, none_if_empty};
use serde::Deserialize;

/// What a master must be to carry a VLAN interface (`register_vlan_dev` in net/8021q/vlan.c).
const MASTER_RULE: &str = "a master carries one interface for each VLAN ID, in whatever namespace";

/// The plugin.
pub struct Vlan;

/// The plugin's own keys as they are written; README.md of this crate explains each.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default, deserialize_with = "none_if_empty")]
    master: Option<LinkName>,
    #[serde(default)]
    vlan_id: i64,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    link_in_container: bool,
}

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    MasterConf::MASTER,
    Key::new(
        "vlanId",
        Value::Integer,
        "0",
        "the VLAN ID, 0 to 4094; frames of VLAN 0 have a priority and no VLAN",
    ),
    MasterConf::MTU,
    MasterConf::LINK_IN_CONTAINER,
];

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct VlanConf {
    /// What the interface sits on.
    pub master: MasterConf,
    /// The VLAN ID, 0 to 4094. Frames of VLAN 0 have a priority and no VLAN.
    pub vlan_id: u16,
}

impl InterfacePlugin for Vlan {
    type Config = VlanConf;
    type Links = Link;

    fn about(&self) -> About {
        About {
            names: &["vlan"],
            summary: "gives containers interfaces in a VLAN of a master",
            kind: Kind::Interface,
        }
    }

    fn link_kind(&self) -> &'static str {
        "vlan"
    }

    fn config(&self, request: &Request) -> Result<VlanConf> {
        let keys: Keys = request.parse_conf()?;
        let vlan_id = u16::try_from(keys.vlan_id).ok().filter(|id| *id <= 4094).ok_or_else(|| {
            Error::invalid_config(format!("vlanId {} is not a VLAN ID", keys.vlan_id))
                .details("VLAN IDs go from 0 to 4094")
        })?;
        let master = keys.master.ok_or_else(|| {
            Error::invalid_config("vlan needs a master").details("the key \"master\" names an interface")
        })?;
        let master = MasterConf { name: Some(master), mtu: keys.mtu, in_container: keys.link_in_container };
        Ok(VlanConf { master, vlan_id })
    }

    fn create(&self, context: &Context<'_>, config: &VlanConf) -> Result<Link> {
        let master = Master::find(context, &config.master)?;
        master.require_mtu(&config.master)?;
        let kind = netlink::Kind::Vlan { lower: master.link.index, id: config.vlan_id };
        master.create(context, kind, None, MASTER_RULE)
    }

    fn find(&self, _: &Context<'_>, _: &VlanConf, link: Link) -> Result<Link> {
        Ok(link)
    }

    fn check(&self, context: &Context<'_>, config: &VlanConf, link: &Link, _: &AddResult) -> Result<()> {
        Master::find(context, &config.master)?.check(context, link)?;
        match link.vlan_id() {
            Some(id) if id == config.vlan_id => Ok(()),
            found => Err(Error::check(format!(
                "interface {} is in VLAN {found:?}, not {}",
                link.name, config.vlan_id
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
}
