//! static: an IPAM plugin that returns the configured addresses, and keeps no record of them.
//!
//! ```no_run
//! // All of the program:
//! fn main() -> std::process::ExitCode {
//!     cni_core::plugin::main(&[&oxcni_static::Static])
//! }
//! ```
#![deny(missing_docs)]

mod config;
#[doc(hidden)]
pub mod fuzzing;
mod keys;

use cni_core::plugin::{About, Kind, LinkAtDel, Plugin};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Error, Result};

use config::Config;
pub use keys::KEYS;

/// The plugin.
pub struct Static;

/// Reads the configuration of a request as ADD does.
///
/// # Errors
/// Those of an invalid configuration, with the wrong value.
pub fn check_config(request: &Request) -> Result<()> {
    Config::parse(request).map(drop)
}

impl Plugin for Static {
    fn about(&self) -> About {
        About { names: &["static"], summary: "returns the configured addresses", kind: Kind::Ipam }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        let Config { ips, routes, dns } = Config::parse(request)?;
        let result = AddResult { ips, routes, dns, ..AddResult::default() };
        result.check_form(request.conf.cni_version)?;
        Ok(result)
    }

    /// There is nothing to release, also where the configuration has become invalid.
    fn del(&self, _request: &Request) -> Result<()> {
        Ok(())
    }

    fn link_at_del(&self) -> LinkAtDel {
        LinkAtDel::Ignores
    }

    /// Every configured address must be in `prevResult`, with its gateway.
    fn check(&self, request: &Request) -> Result<()> {
        let config = Config::parse(request)?;
        request.conf.dns()?;
        let result = request.conf.required_prev_result()?;
        for wanted in &config.ips {
            let ip = wanted.address.ip();
            let found: Vec<_> = result.ips.iter().filter(|found| found.address.ip() == ip).collect();
            if found.is_empty() {
                return Err(Error::check(format!("{ip} is configured, and is not in prevResult")));
            }
            if let Some(gateway) = wanted.gateway
                && found.iter().all(|found| found.gateway != Some(gateway))
            {
                return Err(Error::check(format!("{ip} does not have the gateway {gateway} in prevResult")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
