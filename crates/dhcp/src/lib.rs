//! dhcp: an IPAM plugin whose addresses come from DHCP servers, and the daemon that obtains,
//! renews and releases the leases.
//!
//! ```no_run
//! // All of the program; `dhcp daemon` is the daemon, `dhcp leases` lists what it holds.
//! fn main() -> std::process::ExitCode {
//!     cni_core::plugin::main(&[&oxcni_dhcp::Dhcp])
//! }
//! ```
//!
//! The plugin ([`Dhcp`]) only asks the daemon, over a Unix socket. The daemon runs the state
//! machine of the crate `dhcp-client` for each attachment.
#![deny(missing_docs)]

mod caller;
mod config;
mod daemon;
mod keys;
mod leases;
mod options;
mod protocol;
mod sockets;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cni_core::diagnostics::note;
use cni_core::interface::missing;
use cni_core::netlink::Netlink;
use cni_core::netns::Netns;
use cni_core::plugin::{About, Kind, LinkAtDel, Plugin};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Attachment, Cidr, Code, Error, IpConfig, NetworkName, Result};

use caller::Caller;
use config::Config;
pub use keys::KEYS;
use protocol::{Answer, Command, Family, Id, Report, Target};

/// The plugin.
pub struct Dhcp;

/// Reads the configuration of a request as ADD does.
///
/// # Errors
/// Those of an invalid configuration, with the wrong value.
pub fn check_config(request: &Request) -> Result<()> {
    Config::parse(request).map(drop)
}

/// A lease that the daemon holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldLease {
    /// The network.
    pub network: NetworkName,
    /// The container and its interface.
    pub attachment: Attachment,
    /// The path of the container's namespace.
    pub netns: PathBuf,
}

/// The leases that the daemon at a socket holds; `None` for the usual socket.
///
/// # Errors
/// When there is no daemon.
pub fn held_leases(socket: Option<&Path>) -> Result<Vec<HeldLease>> {
    let held =
        |Report { id: Id { network, attachment }, netns, .. }| HeldLease { network, attachment, netns };
    Ok(Caller::connect(socket)?.leases()?.into_iter().map(held).collect())
}

impl Plugin for Dhcp {
    fn about(&self) -> About {
        About {
            names: &["dhcp"],
            summary: "gives addresses of DHCP servers; dhcp daemon keeps their leases",
            kind: Kind::Ipam,
        }
    }

    fn by_hand(&self, args: &[OsString]) -> Option<ExitCode> {
        match args.first()?.to_str()? {
            "daemon" => Some(daemon::main(&args[1..])),
            "leases" => Some(leases::main(&args[1..])),
            _ => None,
        }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        let config = Config::parse(request)?;
        let target = target(request, &config)?;
        let caller = Caller::connect(config.socket.as_deref())?;
        match caller.call(Command::Add(target), report_waiting)? {
            Answer::Lease(report) => result(&report),
            other => Err(unexpected(&other)),
        }
    }

    /// Succeeds also without a daemon, and with one that is stopped or another project's: a lease that is not
    /// released ends by itself, a container that can't be removed does not.
    fn del(&self, request: &Request) -> Result<()> {
        let configured = Config::parse(request).ok().and_then(|config| config.socket);
        let del = Command::Del(id(request)?);
        let released =
            Caller::connect(configured.as_deref()).and_then(|caller| caller.call(del, report_waiting));
        if let Err(err) = released {
            note(format_args!("dhcp: the lease is not released, and ends by itself: {err}"));
        }
        Ok(())
    }

    fn link_at_del(&self) -> LinkAtDel {
        LinkAtDel::Needs
    }

    fn check(&self, request: &Request) -> Result<()> {
        let config = Config::parse(request)?;
        let prev = request.conf.required_prev_result()?;
        let target = target(request, &config)?;
        let family = config.settings.family;
        let address = prev.ips.iter().find_map(|ip| match ip.address.ip() {
            IpAddr::V4(v4) => Some(v4).filter(|_| family.has_ipv4()),
            IpAddr::V6(_) => None,
        });
        // One of a router advertisement has the prefix of its link.
        let ipv6 = prev.ips.iter().find_map(|ip| match ip.address.ip() {
            IpAddr::V6(v6) if ip.address.prefix() == 128 && family.has_ipv6() => Some(v6),
            _ => None,
        });
        let caller = Caller::connect(config.socket.as_deref())?;
        match caller.call(Command::Check { target, address, ipv6 }, report_waiting)? {
            Answer::Done => {
                let addresses: Vec<Cidr> = prev.ips.iter().map(|ip| ip.address).collect();
                check_addresses(&addresses, request)
            }
            Answer::Lease(report) => check_report(&report, family, ipv6.is_some(), request),
            other => Err(unexpected(&other)),
        }
    }

    fn status(&self, request: &Request) -> Result<()> {
        let config = Config::parse(request)?;
        let unavailable = |err: Error| err.with_code(Code::UNAVAILABLE);
        let caller = Caller::connect(config.socket.as_deref()).map_err(unavailable)?;
        caller.call(Command::Status, report_waiting).map(drop).map_err(unavailable)
    }

    fn gc(&self, request: &Request) -> Result<()> {
        let Some(valid) = request.conf.valid_attachments.clone() else { return Ok(()) };
        let config = Config::parse(request)?;
        let caller = Caller::connect(config.socket.as_deref())?;
        let network = request.conf.name.clone();
        caller.call(Command::Gc { network, valid }, report_waiting).map(drop)
    }
}

/// Standard error is what the runtime's log shows of a plugin that is waiting.
fn report_waiting(text: &str) {
    note(format_args!("dhcp: {text}"));
}

fn id(request: &Request) -> Result<Id> {
    Ok(Id { network: request.conf.name.clone(), attachment: request.attachment()?.clone() })
}

fn target(request: &Request, config: &Config) -> Result<Target> {
    // The daemon has another working folder.
    let netns = std::path::absolute(request.netns()?).map_err(|err| Error::io("CNI_NETNS", err))?;
    Ok(Target { id: id(request)?, netns, settings: config.settings.clone() })
}

/// The result of an ADD. Of IPv6 the kernel has the gateway and all routes, by router advertisements.
fn result(report: &Report) -> Result<AddResult> {
    let ip = |address: Cidr, gateway: Option<IpAddr>| IpConfig { interface: None, address, gateway };
    let mut ips: Vec<IpConfig> =
        report.address.map(|address| ip(address, report.gateway.map(IpAddr::from))).into_iter().collect();
    let mut dns = report.dns.clone();
    if let Some(ipv6) = &report.ipv6 {
        ips.extend(ipv6.address.iter().chain(&ipv6.slaac).map(|address| ip(*address, None)));
        dns.nameservers.extend(ipv6.dns.nameservers.iter().cloned());
        let unknown = ipv6.dns.search.iter().filter(|name| !report.dns.search.contains(name));
        dns.search.extend(unknown.cloned());
    }
    if ips.is_empty() {
        return Err(Error::new(Code::TRY_AGAIN, "the lease was lost at once"));
    }
    Ok(AddResult { ips, routes: report.routes.clone(), dns, ..AddResult::default() })
}

/// The leases must be alive, and the interface must have their addresses: a server may have given
/// others than `prevResult` has.
fn check_report(report: &Report, family: Family, ipv6_lease: bool, request: &Request) -> Result<()> {
    let lost = |state: &str| {
        Error::check(format!("the lease of {} was lost", report.id.text()))
            .details(format!("the daemon is trying to obtain another one; its state is {state}"))
    };
    if family.has_ipv4() && report.address.is_none() {
        return Err(lost(&report.state));
    }
    let ipv6 = report.ipv6.as_ref();
    let ipv6_addresses = || ipv6.into_iter().flat_map(|ipv6| ipv6.address.iter().chain(&ipv6.slaac));
    let lease_lost = ipv6_lease && ipv6.is_none_or(|ipv6| ipv6.address.is_none());
    if lease_lost || (family == Family::Ipv6 && ipv6_addresses().next().is_none()) {
        return Err(lost(ipv6.map_or("off", |ipv6| ipv6.state.as_str())));
    }
    let addresses: Vec<Cidr> = report.address.iter().chain(ipv6_addresses()).copied().collect();
    check_addresses(&addresses, request)
}

/// The interface must have these addresses.
fn check_addresses(addresses: &[Cidr], request: &Request) -> Result<()> {
    let ifname = &request.attachment()?.ifname;
    let container = Netlink::open_in(&Netns::open_existing(request.netns()?)?)?;
    let link = container.link(ifname)?.ok_or_else(|| missing(ifname, "the container"))?;
    let found = container.addresses(&link)?;
    match addresses.iter().find(|address| !found.iter().any(|found| found.cidr == **address)) {
        None => Ok(()),
        Some(address) => {
            Err(Error::check(format!("interface {ifname} does not have the leased address {address}")))
        }
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::new(Code::IO, "the daemon gave an answer to another question").details(format!("{answer:?}"))
}
