//! Calling the plugin that manages a network's addresses.

use crate::delegate;
use crate::plugin;
use crate::request::{Command, Kind, LinkAtDel, Request};
use crate::spec::{AddResult, Code, Error, PluginType, Result};

/// Calls the IPAM plugin with ADD and the whole configuration as received.
///
/// # Errors
/// Those of the plugin, and [`Code::DELEGATE`] when it returned no address. The plugin is called
/// with DEL first.
pub fn add(ipam: &PluginType, request: &Request) -> Result<AddResult> {
    require_ipam(ipam, request)?;
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

/// Whether the IPAM plugin needs the container's interface for DEL, as a DHCP client does for its
/// RELEASE. A plugin of another program can't say so, and gets the interface.
pub fn needs_link(ipam: &PluginType, request: &Request) -> bool {
    let file = delegate::find(ipam, &request.env.path);
    let plugin = file.ok().and_then(|file| delegate::in_process(ipam, &file, request.plugins));
    plugin.is_none_or(|plugin| plugin.link_at_del() == LinkAtDel::Needs)
}

/// Whether the addresses of the IPAM plugin can change while the interface exists. `dhcp` changes
/// the interface where a server gives another address, and its CHECK compares it with the lease. Its
/// IPv6 addresses the interface has before the plugin returns, from the kernel or from its daemon.
pub fn replaces_addresses(ipam: &PluginType) -> bool {
    ipam.as_str() == "dhcp"
}

/// Calls the IPAM plugin with DEL, so that it releases the attachment's addresses.
///
/// # Errors
/// Those of the plugin.
pub fn del(ipam: &PluginType, request: &Request) -> Result<()> {
    // ADD refused it, so nothing has to be released.
    if require_ipam(ipam, request).is_err() {
        return Ok(());
    }
    call(ipam, request, Command::Del)
}

/// Calls the IPAM plugin with a command that has no result.
///
/// # Errors
/// Those of the plugin.
pub fn call(ipam: &PluginType, request: &Request, command: Command) -> Result<()> {
    require_ipam(ipam, request)?;
    delegate::call(ipam, &request.with_command(command))
        .map(|_| ())
        .map_err(|err| err.context(format_args!("ipam {ipam}")))
}

/// Refuses a plugin of this program that does not manage addresses. A tenant's configuration may name
/// any: a meta-plugin would read the configuration as its own, an interface plugin would call itself.
fn require_ipam(ipam: &PluginType, request: &Request) -> Result<()> {
    match plugin::find(request.plugins, ipam) {
        Some(plugin) if plugin.about().kind != Kind::Ipam => {
            Err(Error::invalid_config(format!("ipam.type {:?} is not an IPAM plugin", ipam.as_str()))
                .details("this program has it as a plugin of another kind"))
        }
        _ => Ok(()),
    }
}
