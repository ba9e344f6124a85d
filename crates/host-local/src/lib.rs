//! host-local: an IPAM plugin that allocates addresses from ranges and keeps the reservations
//! in files on this node.
//!
//! ```no_run
//! // All of the program:
//! fn main() -> std::process::ExitCode {
//!     cni_core::plugin::main(&[&oxcni_host_local::HostLocal])
//! }
//! ```
//!
//! The files and the lock are those of the Go plugin of the same name, so that both plugins can
//! work on one folder. The Go plugin does not see what is added: an index under `/run`, which
//! keeps the cost of a call independent of the number of reservations, and an extended
//! attribute on each file with the boot ID, which shows after a reboot that the container is
//! gone.
#![deny(missing_docs)]

mod allocate;
mod config;
mod elsewhere;
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod index;
mod keys;
mod range;
mod reservation;
mod resolv_conf;
mod store;

use std::collections::HashSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use cni_core::fs;
use cni_core::plugin::{About, Kind, LinkAtDel, Plugin};
use cni_core::request::Request;
use cni_core::spec::{AddResult, Code, Dns, Error, Result};

use config::Config;
pub use keys::KEYS;
use reservation::Owner;
pub use reservation::Reservation;
use store::{Node, Reclaim, Store};

/// The plugin.
pub struct HostLocal;

impl Plugin for HostLocal {
    fn about(&self) -> About {
        About {
            names: &["host-local"],
            summary: "allocates addresses from ranges, and keeps the reservations on this node",
            kind: Kind::Ipam,
        }
    }

    /// What its own process for `resolvConf` does; people have no use for it.
    fn by_hand(&self, args: &[OsString]) -> Option<ExitCode> {
        match args {
            [argument, path, max] if argument == elsewhere::ARGUMENT => {
                Some(elsewhere::print(Path::new(path), max.to_str()?.parse().ok()?))
            }
            _ => None,
        }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        add(&Node::this(), request)
    }

    fn del(&self, request: &Request) -> Result<()> {
        del(&Node::this(), request)
    }

    fn link_at_del(&self) -> LinkAtDel {
        LinkAtDel::Ignores
    }

    fn check(&self, request: &Request) -> Result<()> {
        check(&Node::this(), request)
    }

    fn status(&self, request: &Request) -> Result<()> {
        status(&Node::this(), request).map_err(|err| err.with_code(Code::UNAVAILABLE))
    }

    fn gc(&self, request: &Request) -> Result<()> {
        gc(&Node::this(), request)
    }
}

/// Reads the configuration of a request as ADD does.
///
/// # Errors
/// Those of an invalid configuration, with the wrong value.
pub fn check_config(request: &Request) -> Result<()> {
    Config::parse(request)?.require_ranges().map(drop)
}

/// The reservations in the folder of a network: the address, the container ID, and the interface where
/// the file names one. Files that are no reservation are passed over.
///
/// # Errors
/// Those of reading the folder; a missing one has none.
pub fn reservations(folder: &Path) -> Result<Vec<Reservation>> {
    reservation::all(folder).map_err(|err| fs::failed("reading the reservations in", folder, err))
}

fn add(node: &Node, request: &Request) -> Result<AddResult> {
    let owner = Owner::of(request.attachment()?);
    let config = Config::parse(request)?.require_ranges()?;
    let wanted = config.wanted()?;
    let dns = config
        .resolv_conf
        .as_deref()
        .map_or(Ok(Dns::default()), |path| resolv_conf::read(path, node.read_file))?;
    let mut store = Store::open_or_create(node, &config.folder, config.reclaim)?;
    let ips = allocate::allocate(&mut store, &wanted, &owner)?;
    Ok(AddResult { ips, routes: config.routes, dns, ..AddResult::default() })
}

fn del(node: &Node, request: &Request) -> Result<()> {
    let owner = Owner::of(request.attachment()?);
    let Some(mut store) = Store::open(node, &config::folder(request)?, Reclaim::Nothing)? else {
        return Ok(());
    };
    let result = request.conf.prev_result().ok().flatten().unwrap_or_default();
    let of_result: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
    if release_all(&mut store, &owner, &of_result)? == 0 {
        // A change of a file in place does not show in the index.
        store.search_once()?;
        release_all(&mut store, &owner, &of_result)?;
    }
    Ok(())
}

/// Releases the addresses of an owner, those of its result among them, and returns how many there
/// were.
fn release_all(store: &mut Store, owner: &Owner, of_result: &[IpAddr]) -> Result<usize> {
    // A file of a very old version has no interface name. It may belong to another interface of the
    // container, so it is released only where the container has no other file.
    for owner in [owner, &owner.without_ifname()] {
        let held = holdings(store, owner, of_result)?;
        let release = |ip: &IpAddr| store.release(*ip, owner).err();
        let errors: Vec<Error> = held.iter().rev().filter_map(release).collect();
        Error::all(errors)?;
        if !held.is_empty() {
            return Ok(held.len());
        }
    }
    Ok(0)
}

/// The addresses that an owner holds by the index, and those of a result by their files.
fn holdings(store: &mut Store, owner: &Owner, of_result: &[IpAddr]) -> Result<Vec<IpAddr>> {
    let mut held = store.held_by(owner)?;
    for ip in of_result {
        if !held.contains(ip) && store.owner_of(*ip)?.as_ref() == Some(owner) {
            held.push(*ip);
        }
    }
    Ok(held)
}

fn check(node: &Node, request: &Request) -> Result<()> {
    let owner = Owner::of(request.attachment()?);
    let config = Config::parse(request)?.require_ranges()?;
    let result = request.conf.prev_result()?.unwrap_or_default();
    let of_result: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
    let none_held = || Error::check(format!("no address is reserved for {owner}"));
    let Some(mut store) = Store::open(node, &config.folder, Reclaim::Nothing)? else {
        return Err(none_held().details(format!("there is no folder {}", config.folder.display())));
    };
    let holdings_of_both = |store: &mut Store| -> Result<Vec<IpAddr>> {
        let mut held = holdings(store, &owner, &of_result)?;
        held.extend(holdings(store, &owner.without_ifname(), &of_result)?);
        Ok(held)
    };
    let mut held = holdings_of_both(&mut store)?;
    if held.is_empty() {
        store.search_once()?;
        held = holdings_of_both(&mut store)?;
    }
    if held.is_empty() {
        return Err(none_held().details(format!("searched {}", config.folder.display())));
    }
    let ours = |ip: &&IpAddr| config.sets.iter().any(|set| set.range_of(**ip).is_some());
    for ip in of_result.iter().filter(ours) {
        if !held.contains(ip) {
            let holder =
                store.owner_of(*ip)?.map_or("it is free".to_owned(), |other| format!("{other} holds it"));
            return Err(
                Error::check(format!("{ip} of prevResult is not reserved for {owner}")).details(holder)
            );
        }
    }
    Ok(())
}

fn status(node: &Node, request: &Request) -> Result<()> {
    let config = Config::parse(request)?;
    let existing = config.folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Err(Error::new(Code::UNAVAILABLE, format!("{} is not a folder", existing.display()))
            .details(format!("reservations are kept in {}", config.folder.display())));
    }
    fs::check_writable(existing).map_err(|err| fs::failed("making reservations in", existing, err))?;
    let Some(mut store) = Store::open(node, &config.folder, config.reclaim)? else {
        return Ok(());
    };
    for (i, set) in config.sets.iter().enumerate() {
        // An ADD needs an address of every set.
        if allocate::next_free(&mut store, set, None)?.is_none() && store.empty_files(set)?.is_empty() {
            return Err(allocate::exhausted(&mut store, set).context(format_args!("range set {i}")));
        }
    }
    Ok(())
}

fn gc(node: &Node, request: &Request) -> Result<()> {
    let (folder, reclaim) = config::folder_and_reclaim(request)?;
    let Some(mut store) = Store::open(node, &folder, reclaim)? else {
        return Ok(());
    };
    // Without a list, or with null in its place, only earlier boots are reclaimed.
    let Some(valid) = &request.conf.valid_attachments else {
        return Ok(());
    };
    // A file without an interface name is kept with any valid attachment of its container.
    let keep: HashSet<Owner> =
        valid.iter().map(Owner::of).flat_map(|owner| [owner.without_ifname(), owner]).collect();
    store.release_unless(|owner| keep.contains(owner))
}

#[cfg(test)]
mod tests;
