//! A host made of namespaces, and calls of CNI plugins on it.
//!
//! Each test gets a [`Host`]: a network namespace that plays the node, with a mount namespace
//! whose `/run`, `/var/lib` and `/sys` are its own, so that tests run side by side and touch
//! nothing of the machine. Plugins are black boxes: the fixture starts binaries and speaks the
//! CNI protocol with them; it links none of the project's crates.
//!
//! ```no_run
//! use oxcni_tests::{Host, Plugins};
//! use serde_json::json;
//!
//! let host = Host::new(Plugins::Multicall);
//! let pod = host.container();
//! let net = host.network(json!({
//!     "cniVersion": "1.0.0", "name": "net", "type": "bridge",
//!     "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" },
//! }));
//! let result = net.add(&pod).result();
//! assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
//! net.del(&pod).succeeds();
//! ```
//!
//! [`both_flavours!`] runs a test on the multicall binary and on the separate binaries;
//! [`gate`] says aloud when a kernel or a machine can't run a test.

#![deny(missing_docs)]

mod attachment;
mod cable;
mod call;
mod effort;
mod host;
mod interrupt;
mod manifest;
mod node;
mod parity;
mod plugins;
mod rtnl;
mod snapshot;
mod traffic;

pub mod apiserver;
/// What a machine must have for a test, and how a test that can't run says so.
pub mod gate;

pub use attachment::{Network, Running, with_keys};
pub use call::{Call, CniError, Outcome};
pub use effort::cases;
pub use host::{Container, Host, get_xattr};
pub use interrupt::{kill_at_syscall, programs_executed};
pub use manifest::nad_config;
pub use node::{Node, Pod, bridge, gateway};
pub use parity::{Case, Intended, compare, differences, observe, same_as_go};
pub use plugins::Plugins;
pub use snapshot::Masks;
pub use traffic::{ArpCounter, eventually, source_seen_by};

/// Makes two tests of one body: on the multicall binary and on the separate binaries.
///
/// ```ignore
/// both_flavours! {
///     fn del_succeeds_when_the_namespace_is_gone(host) { .. }
///     fn vlan_is_kept_apart(host) needs [BridgeVlan] { .. }
/// }
/// ```
/// `host` is a `Host`; the features after `needs` are variants of `gate::Feature`.
#[macro_export]
macro_rules! both_flavours {
    ($( $(#[$meta:meta])* fn $name:ident($host:ident) $(needs [$($feature:ident),*])? $body:block )*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn run(plugins: $crate::Plugins, test: &str) {
                if !$crate::gate::open(test, &[$($($crate::gate::Feature::$feature),*)?]) {
                    return;
                }
                let $host = $crate::Host::new(plugins);
                $body
            }

            #[test]
            fn multicall() {
                run($crate::Plugins::Multicall, concat!(stringify!($name), "::multicall"));
            }

            #[test]
            fn separate() {
                run($crate::Plugins::Separate, concat!(stringify!($name), "::separate"));
            }
        }
    )*};
}
