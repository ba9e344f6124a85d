//! The keys of a plugin's configuration as data, beside the struct that reads them.
//!
//! A plugin crate exports its table as `KEYS`. Nothing of a plugin refers to it, so that no plugin
//! carries it: it is what `cnictl validate` and the documentation know. A test in each crate holds the
//! table against the struct, by [`differences`].
//!
//! ```
//! use cni_core::keys::{Key, Value, differences};
//!
//! #[derive(serde::Deserialize)]
//! struct Keys {
//!     mtu: u32,
//! }
//!
//! const KEYS: &[Key] = &[Key::new("mtu", Value::Integer, "0", "MTU in bytes")];
//! assert_eq!(differences::<Keys>(KEYS), Vec::<String>::new());
//! ```

mod shape;

pub use shape::differences;

/// A key of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name. Plugins read it in any case.
    pub name: &'static str,
    /// What its value is.
    pub value: Value,
    /// What an absent key means, as it would be written; empty where that is nothing.
    pub default: &'static str,
    /// What it does, in a line.
    pub meaning: &'static str,
}

impl Key {
    /// A key with all that is known of it.
    pub const fn new(name: &'static str, value: Value, default: &'static str, meaning: &'static str) -> Key {
        Key { name, value, default, meaning }
    }
}

/// What the value of a key is.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// `true` or `false`.
    Bool,
    /// A number without a fraction.
    Integer,
    /// A string.
    Text,
    /// A list.
    List(&'static Value),
    /// An object with these keys.
    Object(&'static [Key]),
    /// Anything: it is for other programs, or has any keys.
    Any,
}

use Value::{Any, Integer, List, Object, Text};

/// The keys that the specification defines for every plugin (section 1). `runtimeConfig`, `args` and
/// `prevResult` are for all plugins of a chain.
pub const COMMON: &[Key] = &[
    Key::new("cniVersion", Text, "0.1.0", "the version of the specification that it is written for"),
    Key::new("name", Text, "", "the name of the network"),
    Key::new("type", Text, "", "the plugin: the name of a file in CNI_PATH"),
    Key::new("capabilities", Any, "{}", "what the runtime may pass in runtimeConfig, by name"),
    Key::new(
        "ipam",
        Object(&[Key::new("type", Text, "", "the IPAM plugin")]),
        "{}",
        "how addresses are managed",
    ),
    Key::new("dns", Object(DNS), "{}", "DNS settings for the result"),
    Key::new("args", Any, "{}", "arguments of who wrote the configuration"),
    Key::new("runtimeConfig", Any, "{}", "values of the runtime, by capability"),
    Key::new("prevResult", Any, "", "the result of the plugin before, which the runtime sets"),
];

/// The keys of a list of plugins (section 1).
pub const LIST: &[Key] = &[
    Key::new("cniVersion", Text, "0.1.0", "the version of the specification that it is written for"),
    Key::new(
        "cniVersions",
        List(&Text),
        "[]",
        "further versions that it works with; the newest common one counts",
    ),
    Key::new("name", Text, "", "the name of the network"),
    Key::new("disableCheck", Value::Bool, "false", "CHECK calls no plugin"),
    Key::new("disableGC", Value::Bool, "false", "GC calls no plugin"),
    Key::new(
        "loadOnlyInlinedPlugins",
        Value::Bool,
        "false",
        "the folder beside the list has no further plugins of it",
    ),
    Key::new("plugins", List(&Any), "", "the plugins in the order of ADD"),
];

/// The keys of DNS settings.
pub const DNS: &[Key] = &[
    Key::new("nameservers", List(&Text), "[]", "addresses of name servers, the most preferred first"),
    Key::new("domain", Text, "", "the local domain for short names"),
    Key::new("search", List(&Text), "[]", "search domains, the most preferred first"),
    Key::new("options", List(&Text), "[]", "options of the resolver"),
];

/// The keys of a route.
pub const ROUTE: &[Key] = &[
    Key::new("dst", Text, "", "the destination, with its prefix length"),
    Key::new("gw", Text, "", "the next hop; by default the gateway of an address of the same family"),
    Key::new("mtu", Integer, "0", "MTU along the path in bytes; 0 for that of the interface"),
    Key::new(
        "advmss",
        Integer,
        "0",
        "the maximum segment size to advertise in bytes; 0 for that of the interface",
    ),
    Key::new("priority", Integer, "0", "the metric, lower is preferred; 0 for the kernel's default"),
    Key::new("table", Integer, "254", "the routing table"),
    Key::new("scope", Integer, "", "the scope: 0 global, 253 link, 254 host"),
];

/// The MAC address that a person or the runtime requests, of `args.cni` and `runtimeConfig`.
pub const REQUESTED_MAC: &[Key] =
    &[Key::new("mac", Text, "", "the MAC address of the container's interface")];

/// The addresses that a person or the runtime requests, of `args.cni` and `runtimeConfig`.
pub const REQUESTED_IPS: &[Key] = &[Key::new("ips", List(&Text), "[]", "the addresses of the container")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Dns, Route};

    #[test]
    fn the_tables_of_routes_and_dns_are_complete() {
        assert_eq!(differences::<Route>(ROUTE), Vec::<String>::new());
        assert_eq!(differences::<Dns>(DNS), Vec::<String>::new());
    }
}
