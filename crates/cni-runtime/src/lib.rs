//! A library for callers of CNI plugins: the part of a container runtime that the specification calls
//! "execution of network configurations" (section 3).
//!
//! - [`NetworkConf`]: a network's configuration, a list of plugins or a single one, from
//!   text or from a folder of files ([`load`]);
//! - [`Runtime`]: calls all plugins of a network for ADD, DEL, CHECK, GC and STATUS;
//! - [`ResultCache`]: the results of ADD, kept in libcni's format.
//!
//! ```
//! use cni_runtime::NetworkConf;
//!
//! let text = br#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"},{"type":"tuning"}]}"#;
//! let network = NetworkConf::parse(text, "an example", &Default::default())?;
//! assert_eq!(network.plugins().len(), 2);
//! # Ok::<(), cni_core::spec::Error>(())
//! ```
#![deny(missing_docs)]

mod cache;
mod chain;
mod conf;
#[doc(hidden)]
pub mod fuzzing;
mod invocation;
pub mod load;
mod plugin_conf;
mod request;

pub use cache::{Cached, ResultCache};
pub use chain::Runtime;
pub use conf::{Inherited, NetworkConf};
pub use invocation::Invocation;
pub use plugin_conf::{CapabilityArgs, Members, PluginConf, member, set_member};
