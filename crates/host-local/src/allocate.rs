//! Choosing addresses and reserving them.

use std::net::IpAddr;

use cni_core::diagnostics::note;
use cni_core::spec::{Code, Error, IpConfig, Result};

use crate::config::Wanted;
use crate::range::{RangeSet, address, number};
use crate::reservation::Owner;
use crate::store::Store;

/// Reserves one address of each range set. After a failure none of them stays reserved.
///
/// # Errors
/// [`Code::EXHAUSTED`] when no address is free, [`Code::INVALID_ENVIRONMENT`] when the attachment
/// has one already.
pub(crate) fn allocate(store: &mut Store, wanted: &[Wanted], owner: &Owner) -> Result<Vec<IpConfig>> {
    refuse_second(store, wanted, owner)?;
    let mut ips: Vec<IpConfig> = Vec::with_capacity(wanted.len());
    for (i, one) in wanted.iter().enumerate() {
        match reserve_one(store, i, one, owner) {
            Ok(ip) => ips.push(ip),
            Err(err) => {
                // Only what this call reserved: an earlier call may have reserved more.
                for ip in &ips {
                    if let Err(err) = store.release(ip.address.ip(), owner) {
                        note(format_args!("host-local: releasing {} again: {err}", ip.address.ip()));
                    }
                }
                return Err(err.context(format_args!("range set {i}")));
            }
        }
    }
    Ok(ips)
}

/// An attachment is added once (specification, section 2, "ADD").
fn refuse_second(store: &mut Store, wanted: &[Wanted], owner: &Owner) -> Result<()> {
    let mut held = store.held_by(owner)?;
    held.extend(store.held_by(&owner.without_ifname())?);
    for ip in held {
        if wanted.iter().any(|one| one.set.range_of(ip).is_some()) {
            return Err(Error::new(
                Code::INVALID_ENVIRONMENT,
                format!("{ip} has been allocated to {owner}, duplicate allocation is not allowed"),
            )
            .details("CNI_CONTAINERID and CNI_IFNAME name an attachment that exists; DEL releases it"));
        }
    }
    Ok(())
}

fn reserve_one(store: &mut Store, i: usize, wanted: &Wanted, owner: &Owner) -> Result<IpConfig> {
    let ip = match wanted.requested {
        Some(ip) => reserve_requested(store, ip, owner)?,
        None => reserve_next(store, i, &wanted.set, owner)?,
    };
    if let Err(err) = store.set_last_reserved(i, ip) {
        let _ = store.release(ip, owner);
        return Err(err);
    }
    let range =
        wanted.set.range_of(ip).ok_or_else(|| Error::invalid_config(format!("{ip} is in no range")))?;
    Ok(IpConfig { interface: None, address: range.cidr(ip), gateway: Some(range.gateway) })
}

fn reserve_requested(store: &mut Store, ip: IpAddr, owner: &Owner) -> Result<IpAddr> {
    if store.reserve(ip, owner)? {
        return Ok(ip);
    }
    let holder = store.owner_of(ip)?.unwrap_or_else(|| Owner::parse(b""));
    Err(Error::new(Code::EXHAUSTED, format!("requested address {ip} is not available: {holder} holds it"))
        .details("DEL of that attachment releases it, or GC when the container is gone"))
}

/// Reserves the next address in turn, so that a released address is not soon allocated again.
fn reserve_next(store: &mut Store, i: usize, set: &RangeSet, owner: &Owner) -> Result<IpAddr> {
    let last = store.last_reserved(i);
    let mut searched = false;
    loop {
        let Some(ip) = next_free(store, set, last)? else {
            let Some(ip) = store.empty_files(set)?.first().copied() else {
                return Err(exhausted(store, set));
            };
            // Another program was killed while it wrote the file, or an administrator made it to
            // hold the address back.
            note(format_args!(
                "host-local: removing the empty file of {ip}: range set {set} has no other address"
            ));
            store.release(ip, &Owner::parse(b""))?;
            continue;
        };
        if store.reserve(ip, owner)? {
            return Ok(ip);
        }
        // A file that the index does not have.
        if std::mem::replace(&mut searched, true) {
            return Err(Error::new(Code::IO, format!("{ip} is neither free nor held"))
                .details("something changes the data folder without its lock"));
        }
        store.rebuild_index()?;
    }
}

/// The first free address after the last one that was reserved.
pub(crate) fn next_free(store: &mut Store, set: &RangeSet, last: Option<IpAddr>) -> Result<Option<IpAddr>> {
    match once_around(store, set, last)? {
        None => {
            // Another process may have removed files just before the last change of this program.
            store.rebuild_index()?;
            once_around(store, set, last)
        }
        free => Ok(free),
    }
}

fn once_around(store: &mut Store, set: &RangeSet, last: Option<IpAddr>) -> Result<Option<IpAddr>> {
    let ranges = set.ranges();
    let found = last.and_then(|ip| Some((ranges.iter().position(|range| range.contains(ip))?, ip)));
    let (start, last) = found.map_or((0, None), |(at, ip)| (at, Some(ip)));
    // The range of the last reservation comes first, from there on, and as a whole at the end.
    for turn in 0..=ranges.len() {
        let range = &ranges[(start + turn) % ranges.len()];
        let mut from = range.first;
        match last {
            Some(last) if turn == 0 => {
                if last == range.last {
                    continue;
                }
                from = address(last, number(last) + 1);
            }
            None if turn == ranges.len() => break,
            _ => {}
        }
        if let Some(free) = store.first_free(from, range.last, range.gateway)? {
            return Ok(Some(free));
        }
    }
    Ok(None)
}

/// The error of a range set without a free address, with its size and how much of it is held.
pub(crate) fn exhausted(store: &mut Store, set: &RangeSet) -> Error {
    let err = Error::new(Code::EXHAUSTED, format!("no IP addresses available in range set: {set}"));
    let addresses = match set.size() {
        1 => "1 address".to_owned(),
        size => format!("{size} addresses"),
    };
    match store.count_in(set) {
        Ok((held, containers)) => err.details(format!(
            "it has {addresses} to allocate, {held} are held by {containers} containers; GC with \
             cni.dev/valid-attachments releases those of containers that are gone"
        )),
        Err(count) => {
            err.details(format!("it has {addresses} to allocate; counting the reservations: {count}"))
        }
    }
}
