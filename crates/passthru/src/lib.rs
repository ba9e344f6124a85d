//! Returns `prevResult` as it is: a place in a chain that does nothing.
//!
//! Multus puts it at the head of the auxiliary chain (`auxiliaryCNIChainName`), where other
//! plugins hang themselves on to it.
#![deny(missing_docs)]

use cni_core::plugin::{About, Plugin};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Result};

/// The plugin.
pub struct Passthru;

impl Plugin for Passthru {
    fn about(&self) -> About {
        About { names: &["passthru"], summary: "returns prevResult as it is" }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        Ok(request.conf.prev_result()?.unwrap_or_default())
    }

    fn del(&self, _request: &Request) -> Result<()> {
        Ok(())
    }

    fn check(&self, _request: &Request) -> Result<()> {
        Ok(())
    }
}
