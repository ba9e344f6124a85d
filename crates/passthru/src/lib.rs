//! A plugin that changes nothing and returns `prevResult`, or an empty result without one. Multus' auxiliary chain begins with it, because a chain must begin with a plugin.
#![deny(missing_docs)]

use cni_core::plugin::{About, Kind, Plugin};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Result};

/// The plugin.
pub struct Passthru;

/// Every key, for the documentation and `cnictl validate`: none.
pub const KEYS: &[cni_core::keys::Key] = &[];

impl Plugin for Passthru {
    fn about(&self) -> About {
        About { names: &["passthru"], summary: "changes nothing and returns prevResult", kind: Kind::Chained }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        Ok(request.conf.prev_result()?.unwrap_or_default())
    }

    fn del(&self, _: &Request) -> Result<()> {
        Ok(())
    }

    fn check(&self, _: &Request) -> Result<()> {
        Ok(())
    }
}
