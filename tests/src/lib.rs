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
//! [`requirement`] reports when a kernel or a machine can't run a test.

#![deny(missing_docs)]

mod attachment;
mod budget;
mod call;
mod cnictl;
mod difference;
mod dns;
mod host;
mod interrupt;
mod kernel;
mod manifest;
mod node;
mod parity;
mod plugins;
mod proxy;
mod random;
mod silent;
mod snapshot;
mod traffic;
mod veth;

pub mod apiserver;
/// DHCP servers and our daemon, as processes on a host.
pub mod dhcp;
pub mod generated;
/// What a machine must have for a test, and how a test that can't run reports that.
pub mod requirement;

pub use attachment::{Network, Running, with_keys};
pub use budget::{cases, slowed};
pub use call::{Call, CniError, Outcome};
pub use difference::Difference;
pub use dns::{DnsServer, Reply};
pub use host::{Container, Host, get_xattr};
#[cfg(target_arch = "x86_64")]
pub use interrupt::{Failed, fail_close, fail_messages, fail_syscall, without_nf_tables};
pub use interrupt::{Paused, kill_at_syscall, programs_executed};
pub use manifest::nad_config;
pub use node::{Node, Pod, bridge, gateway};
pub use parity::{Case, Intended, compare, differences, observe, same_as_go};
pub use plugins::Plugins;
pub use proxy::{Proxy, ProxyKind};
pub use random::{Attack, Random};
pub use silent::SilentFiles;
pub use snapshot::Masks;
pub use traffic::{ArpCounter, eventually, source_seen_by};

/// Makes two tests of one body: on the multicall binary and on the separate binaries.
///
/// ```ignore
/// both_flavours! {
///     fn del_succeeds_when_the_namespace_is_gone(host) { .. }
///     fn vlan_is_kept_apart(host) needs [BridgeVlan] { .. }
/// }
///
/// both_flavours! {
///     on_any_kernel: "refused before the kernel is asked";
///     fn missing_variables_are_all_named(host) { .. }
/// }
/// ```
/// `host` is a `Host`; the features after `needs` are variants of `requirement::Feature`. Tests
/// below `on_any_kernel` are not repeated in the virtual machine; neither are those of the separate
/// binaries, whose code is that of the multicall binary.
#[macro_export]
macro_rules! both_flavours {
    (on_any_kernel: $reason:literal; $( $(#[$meta:meta])* fn $name:ident($host:ident) $(needs [$($feature:ident),*])? $body:block )*) => {
        $crate::flavours! {
            (|test, features| $crate::requirement::met_on_any_kernel(test, features, $reason))
            $( $(#[$meta])* fn $name($host: $crate::Host) needs [$($($feature),*)?] $body )*
        }
    };
    ($( $(#[$meta:meta])* fn $name:ident($host:ident) $(needs [$($feature:ident),*])? $body:block )*) => {
        $crate::flavours! {
            ($crate::requirement::met)
            $( $(#[$meta])* fn $name($host: $crate::Host) needs [$($($feature),*)?] $body )*
        }
    };
}

/// What [`both_flavours!`] and [`on_node!`] have in common; `$met` decides whether a test runs.
#[doc(hidden)]
#[macro_export]
macro_rules! flavours {
    (($met:expr) $( $(#[$meta:meta])* fn $name:ident($fixture:ident: $type:ty)
        needs [$($feature:ident),*] $body:block )*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            const FEATURES: &[$crate::requirement::Feature] = &[$($crate::requirement::Feature::$feature),*];

            fn run(plugins: $crate::Plugins) {
                #[allow(unused_mut)]
                let mut $fixture = <$type>::new(plugins);
                $body
            }

            #[test]
            fn multicall() {
                let met: fn(&str, &[$crate::requirement::Feature]) -> bool = $met;
                if met(concat!(module_path!(), "::multicall"), FEATURES) {
                    run($crate::Plugins::Multicall);
                }
            }

            #[test]
            fn separate() {
                let reason = "the multicall binary, of the same code, runs it";
                let test = concat!(module_path!(), "::separate");
                if $crate::requirement::met_on_any_kernel(test, FEATURES, reason) {
                    run($crate::Plugins::Separate);
                }
            }
        }
    )*};
}
