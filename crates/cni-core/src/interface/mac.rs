//! The MAC address that a caller requests.

use crate::spec::{CniArgs, Code, Error, Mac, Result};

/// Where a MAC address can be requested.
#[derive(Clone, Copy, Debug)]
pub enum MacSource<'a> {
    /// `MAC=` in `CNI_ARGS`.
    Args(&'a CniArgs),
    /// A value of the configuration; the empty string requests nothing.
    Config(&'a str),
}

/// The MAC address that is requested: each source overrules those before it.
///
/// ```
/// use cni_core::interface::{MacSource, requested_mac};
/// use cni_core::spec::CniArgs;
///
/// let args = CniArgs::parse("MAC=02:00:00:00:00:01").unwrap();
/// let requested = requested_mac(&[MacSource::Args(&args), MacSource::Config("")]).unwrap();
/// assert_eq!(requested, "02:00:00:00:00:01".parse().ok());
/// ```
///
/// # Errors
/// A malformed address: [`Code::INVALID_ENVIRONMENT`] in `CNI_ARGS`, [`Code::INVALID_CONFIG`] in
/// the configuration.
pub fn requested_mac(sources: &[MacSource<'_>]) -> Result<Option<Mac>> {
    let values = sources.iter().map(|source| match source {
        MacSource::Args(args) => (args.get("MAC").unwrap_or_default(), true),
        MacSource::Config(text) => (*text, false),
    });
    let Some((text, in_args)) = values.rev().find(|(text, _)| !text.is_empty()) else { return Ok(None) };
    let malformed = |err: String| {
        if in_args {
            Error::new(Code::INVALID_ENVIRONMENT, format!("CNI_ARGS: MAC: {err}"))
        } else {
            Error::invalid_config(err)
        }
    };
    text.parse().map(Some).map_err(malformed)
}
