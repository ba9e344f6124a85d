//! The data of the CNI specification: what a plugin reads and what it prints.
//!
//! There is no I/O here, only values and conversions between the seven published versions of
//! the specification. Strings from outside become checked types once, here: a [`ContainerId`]
//! is safe in a path, and the kernel accepts an [`IfName`].
//!
//! ```
//! use cni_core::spec::{AddResult, NetConf, Version};
//!
//! let conf = NetConf::parse(br#"{"cniVersion":"0.4.0","name":"net","type":"bridge"}"#)?;
//! assert_eq!(conf.cni_version, Version::V0_4_0);
//! assert!(AddResult::default().check_form(Version::V0_2_0).is_err(), "0.2.0 needs an address");
//! # Ok::<(), cni_core::spec::Error>(())
//! ```

mod address;
mod args;
mod conf;
mod error;
mod json;
mod names;
mod result;
mod result_json;
mod version;

pub use address::{Cidr, Mac};
pub use args::CniArgs;
pub use conf::{Attachment, NetConf};
pub use error::{Code, Error, Result};
pub use json::{Spelling, default_if_empty, from_json, from_json_spelled, none_if_empty, same_key};
pub use names::{ContainerId, IfName, LinkName, NetworkName, PluginType};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use version::Version;
