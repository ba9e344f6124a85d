//! The plugins of this project: their keys, and how each reads its configuration.
//!
//! Nothing but tables and readers of configurations is taken from their crates: the program has no code
//! that attaches anything. Plugins are always executed.

use cni_core::chained::ChainedPlugin;
use cni_core::interface::InterfacePlugin;
use cni_core::keys::Key;
use cni_core::plugin::{About, Kind, Plugin};
use cni_core::request::Request;
use cni_core::spec::Result;

/// A plugin of this project.
pub(crate) struct Known {
    /// Its names and its kind.
    pub(crate) about: About,
    /// Its keys.
    pub(crate) keys: &'static [Key],
    /// Reads the configuration of a request as ADD does.
    pub(crate) config: fn(&Request) -> Result<()>,
}

/// The plugin of a type; `None` where another project has it.
pub(crate) fn find(plugin_type: &str) -> Option<Known> {
    all().into_iter().find(|known| known.about.names.contains(&plugin_type))
}

/// Every plugin.
fn all() -> [Known; 12] {
    [
        of_interface(&oxcni_bridge::Bridge, oxcni_bridge::KEYS, |r| oxcni_bridge::Bridge.config(r).map(drop)),
        of_interface(&oxcni_dummy::Dummy, oxcni_dummy::KEYS, |r| oxcni_dummy::Dummy.config(r).map(drop)),
        of_interface(&oxcni_ipvlan::Ipvlan, oxcni_ipvlan::KEYS, |r| oxcni_ipvlan::Ipvlan.config(r).map(drop)),
        of_interface(&oxcni_macvlan::Macvlan, oxcni_macvlan::KEYS, |r| {
            oxcni_macvlan::Macvlan.config(r).map(drop)
        }),
        of_interface(&oxcni_vlan::Vlan, oxcni_vlan::KEYS, |r| oxcni_vlan::Vlan.config(r).map(drop)),
        Known {
            about: ChainedPlugin::about(&oxcni_tuning::Tuning),
            keys: oxcni_tuning::KEYS,
            config: |r| oxcni_tuning::Tuning.config(r).map(drop),
        },
        of_plugin(&oxcni_dhcp::Dhcp, oxcni_dhcp::KEYS, oxcni_dhcp::check_config),
        of_plugin(&oxcni_host_local::HostLocal, oxcni_host_local::KEYS, oxcni_host_local::check_config),
        of_plugin(&oxcni_static::Static, oxcni_static::KEYS, oxcni_static::check_config),
        of_plugin(&oxcni_multus::Multus, oxcni_multus::KEYS, oxcni_multus::check_config),
        of_plugin(&oxcni_loopback::Loopback, oxcni_loopback::KEYS, |_| Ok(())),
        of_plugin(&oxcni_passthru::Passthru, oxcni_passthru::KEYS, |_| Ok(())),
    ]
}

fn of_interface<P: InterfacePlugin>(
    plugin: &P,
    keys: &'static [Key],
    config: fn(&Request) -> Result<()>,
) -> Known {
    Known { about: InterfacePlugin::about(plugin), keys, config }
}

fn of_plugin<P: Plugin>(plugin: &P, keys: &'static [Key], config: fn(&Request) -> Result<()>) -> Known {
    Known { about: plugin.about(), keys, config }
}

impl Known {
    /// Whether interface plugins may delegate to it.
    pub(crate) fn is_ipam(&self) -> bool {
        self.about.kind == Kind::Ipam
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::keys::Value;

    /// The names of keys, and of those in their values.
    fn names(keys: &'static [Key], found: &mut Vec<&'static str>) {
        for key in keys {
            found.push(key.name);
            let mut value = &key.value;
            while let Value::List(item) = value {
                value = item;
            }
            if let Value::Object(keys) = value {
                names(keys, found);
            }
        }
    }

    #[test]
    fn every_key_has_its_entry_in_the_reference() {
        for plugin in all() {
            let name = plugin.about.names[0];
            let file = format!("{}/../{name}/README.md", env!("CARGO_MANIFEST_DIR"));
            let page = std::fs::read_to_string(&file).unwrap_or_else(|err| panic!("{file}: {err}"));
            let prose = page.split("```").step_by(2);
            let entries: Vec<&str> = prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect();
            let has_entry = |key: &str| {
                entries
                    .iter()
                    .any(|entry| entry.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == key))
            };
            let mut keys = Vec::new();
            names(plugin.keys, &mut keys);
            let missing: Vec<&str> = keys.into_iter().filter(|key| !has_entry(key)).collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
        }
    }
}
