//! The MAC address that was asked for.

use crate::spec::{CniArgs, Code, Error, Mac, Result};

/// Where a MAC address can be asked for.
#[derive(Clone, Copy, Debug)]
pub enum MacSource<'a> {
    /// `MAC=` in `CNI_ARGS`.
    Args(&'a CniArgs),
    /// A value of the configuration; the empty string asks for nothing.
    Config(&'a str),
}

/// The MAC address that was asked for: each source overrules those before it.
///
/// ```
/// use cni_core::interface::{MacSource, asked_mac};
/// use cni_core::spec::CniArgs;
///
/// let args = CniArgs::parse("MAC=02:00:00:00:00:01").unwrap();
/// let asked = asked_mac(&[MacSource::Args(&args), MacSource::Config("")]).unwrap();
/// assert_eq!(asked, "02:00:00:00:00:01".parse().ok());
/// ```
///
/// # Errors
/// When it is none: [`Code::INVALID_ENVIRONMENT`] for that of `CNI_ARGS`,
/// [`Code::INVALID_CONFIG`] for that of the configuration.
pub fn asked_mac(sources: &[MacSource<'_>]) -> Result<Option<Mac>> {
    let said = sources.iter().map(|source| match source {
        MacSource::Args(args) => (args.get("MAC").unwrap_or_default(), true),
        MacSource::Config(text) => (*text, false),
    });
    let Some((text, in_args)) = said.rev().find(|(text, _)| !text.is_empty()) else { return Ok(None) };
    let malformed = |err: String| {
        if in_args {
            Error::new(Code::INVALID_ENVIRONMENT, format!("CNI_ARGS: MAC: {err}"))
        } else {
            Error::invalid_config(err)
        }
    };
    text.parse().map(Some).map_err(malformed)
}
