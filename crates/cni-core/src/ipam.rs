//! Calling the plugin that manages a network's addresses.

use crate::delegate;
use crate::request::{Command, Request};
use crate::spec::{AddResult, Code, Error, PluginType, Result};

/// Calls the IPAM plugin with ADD and the whole configuration as received.
///
/// # Errors
/// Those of the plugin, and [`Code::DELEGATE`] when it returned no address. The plugin is called
/// with DEL first.
pub fn add(ipam: &PluginType, request: &Request) -> Result<AddResult> {
    let added = delegate::call(ipam, &request.with_command(Command::Add)).and_then(|result| match result {
        Some(result) if !result.ips.is_empty() => Ok(result),
        _ => Err(Error::new(Code::DELEGATE, "it returned no address")),
    });
    added.map_err(|err| {
        // The specification, section 4: a delegate that failed at ADD is called with DEL.
        let _ = del(ipam, request);
        err.context(format_args!("ipam {ipam}"))
    })
}

/// Whether the IPAM plugin releases an address by a message from that address, so that its DEL
/// has to come before the interface is deleted. `dhcp` does: servers ignore a DHCPRELEASE that
/// comes from another address (RFC 2131, section 4.4.6).
pub fn releases_over_the_link(ipam: &PluginType) -> bool {
    ipam.as_str() == "dhcp"
}

/// Whether the addresses of the IPAM plugin can change while the interface exists. `dhcp` changes
/// the interface where a server gives another address, and its CHECK compares it with the lease.
pub fn replaces_addresses(ipam: &PluginType) -> bool {
    ipam.as_str() == "dhcp"
}

/// Calls the IPAM plugin with DEL, so that it releases the attachment's addresses.
///
/// # Errors
/// Those of the plugin.
pub fn del(ipam: &PluginType, request: &Request) -> Result<()> {
    call(ipam, request, Command::Del)
}

/// Calls the IPAM plugin with a command that has no result.
///
/// # Errors
/// Those of the plugin.
pub fn call(ipam: &PluginType, request: &Request, command: Command) -> Result<()> {
    delegate::call(ipam, &request.with_command(command))
        .map(|_| ())
        .map_err(|err| err.context(format_args!("ipam {ipam}")))
}
