//! What every CNI plugin needs, and nothing that only one of them does.
//!
//! A plugin is a type that implements [`plugin::Plugin`]; its `main` is one call of
//! [`plugin::main`]. Between them:
//!
//! - [`spec`]: the types of the CNI specification, without I/O;
//! - [`plugin`] and [`request`]: from environment and standard input to standard output;
//! - [`delegate`] and [`ipam`]: calling other plugins, in process or by exec;
//! - [`interface`]: what all interface plugins do alike;
//! - [`netns`], [`netlink`], [`sysctl`], [`firewall`]: the kernel;
//! - [`fs`]: files that appear whole or not at all, and locks;
//! - [`fnv`]: numbers that stand for bytes, also in files;
//! - [`undo`]: taking back what an ADD made when it can't finish.
#![deny(missing_docs)]

pub mod delegate;
pub mod firewall;
pub mod fnv;
pub mod fs;
pub mod interface;
pub mod ipam;
pub mod netlink;
pub mod netns;
pub mod plugin;
pub mod request;
pub mod spec;
pub mod sysctl;
pub mod undo;
