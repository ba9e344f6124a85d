//! Calling the plugin that manages a network's addresses.

use crate::delegate;
use crate::request::{Command, Request};
use crate::spec::{AddResult, Code, Error, PluginType, Result};

/// Asks the IPAM plugin for addresses, with the whole configuration as it came.
///
/// # Errors
/// Those of the plugin, which is called with DEL then, and [`Code::DELEGATE`] when it gave
/// no address.
pub fn add(ipam: &PluginType, request: &Request) -> Result<AddResult> {
    let asked = delegate::call(ipam, &request.with_command(Command::Add)).and_then(|result| match result {
        Some(result) if !result.ips.is_empty() => Ok(result),
        _ => Err(Error::new(Code::DELEGATE, "it returned no address")),
    });
    asked.map_err(|err| {
        // The specification, section 4: a delegate that failed at ADD is called with DEL.
        let _ = del(ipam, request);
        err.context(format_args!("ipam {ipam}"))
    })
}

/// Has the IPAM plugin release what the attachment holds.
///
/// # Errors
/// Those of the plugin.
pub fn del(ipam: &PluginType, request: &Request) -> Result<()> {
    call(ipam, request, Command::Del)
}

/// Passes a command that has no result on to the IPAM plugin.
///
/// # Errors
/// Those of the plugin.
pub fn call(ipam: &PluginType, request: &Request, command: Command) -> Result<()> {
    delegate::call(ipam, &request.with_command(command))
        .map(|_| ())
        .map_err(|err| err.context(format_args!("ipam {ipam}")))
}
