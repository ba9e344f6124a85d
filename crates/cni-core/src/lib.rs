//! What every CNI plugin needs, and nothing that only one of them does.
//!
//! A plugin is a type that implements [`plugin::Plugin`], most of them by way of
//! [`interface::InterfacePlugin`] or [`chained::ChainedPlugin`]; its `main` is one call of
//! [`plugin::main`]. Between them:
//!
//! - [`spec`]: the types of the CNI specification, without I/O;
//! - [`plugin`] and [`request`]: from environment and standard input to standard output;
//! - [`delegate`] and [`ipam`]: calling other plugins, in process or by exec;
//! - [`interface`] and [`chained`]: what all plugins of these two kinds do alike;
//! - [`context`]: the namespaces of one call, creating links, and [`undo`]ing what an ADD did;
//! - [`namespaces`], [`netns`], [`netlink`], [`netfilter`], [`sysctl`], [`firewall`]: the kernel;
//! - [`keys`]: the keys of configurations as data, which plugins do not carry;
//! - [`fs`]: files that are replaced atomically, and locks;
//! - [`fnv`]: hashes that are stored in files;
//! - [`diagnostics`]: lines on standard error.
#![deny(missing_docs)]

pub mod chained;
pub mod context;
pub mod delegate;
pub mod diagnostics;
pub mod firewall;
pub mod fnv;
pub mod fs;
pub mod interface;
pub mod ipam;
pub mod keys;
pub mod namespaces;
pub mod netfilter;
pub mod netlink;
pub mod netns;
pub mod plugin;
pub mod request;
pub mod spec;
pub mod sysctl;
pub mod undo;
