//! Leases on disk: a file each, also of the two that an attachment may have, written atomically, so that a daemon that was killed finds
//! every lease that it had.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

use cni_core::fs::{self, Folder, UNFINISHED};
use cni_core::spec::{Error, Result};
use dhcp_client::v4::{Lease, Options};
use dhcp_client::{Time, Timers, v6};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::log::{Level, log};
use super::place::Place;
use crate::protocol::{Hex, Id, Target};

/// The version of the format.
const VERSION: u32 = 1;

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 256 << 10;

/// The ends of the names of lease files, of DHCPv4 and DHCPv6.
const SUFFIX: &str = ".json";
const IPV6_SUFFIX: &str = "-6.json";

/// The folder of the leases, for this daemon alone.
pub(crate) struct Store {
    folder: Folder,
    boot: String,
    _lock: File,
}

/// The leases of an attachment.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    pub(crate) target: Target,
    pub(crate) place: Place,
    pub(crate) broadcast: bool,
    pub(crate) ipv4: Option<Lease>,
    pub(crate) ipv6: Option<v6::Lease>,
}

/// A lease as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u32,
    /// The boot that its times belong to.
    boot: String,
    #[serde(flatten)]
    target: Target,
    place: Place,
    broadcast: bool,
    #[serde(flatten)]
    lease: Stored,
}

/// The lease under a key that says its protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stored {
    #[serde(rename = "lease")]
    Ipv4(StoredLease),
    #[serde(rename = "ipv6Lease")]
    Ipv6(StoredIpv6Lease),
}

/// Times are milliseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredLease {
    address: std::net::Ipv4Addr,
    prefix: u8,
    server: std::net::Ipv4Addr,
    start: u64,
    /// Renewal, rebinding, expiry.
    timers: Option<[u64; 3]>,
    options: Vec<(u8, Hex)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredIpv6Lease {
    address: std::net::Ipv6Addr,
    server: Hex,
    start: u64,
    preferred: Option<u64>,
    timers: Option<[u64; 3]>,
    options: Vec<(u16, Hex)>,
}

impl StoredLease {
    fn of(lease: &Lease) -> StoredLease {
        StoredLease {
            address: lease.address,
            prefix: lease.prefix,
            server: lease.server,
            start: lease.start.0,
            timers: lease.timers.map(stored_timers),
            options: lease.options.iter().map(|(number, value)| (number, Hex(value.to_vec()))).collect(),
        }
    }

    fn lease(self) -> Lease {
        let mut options = Options::default();
        for (number, value) in self.options {
            options.set(number, value.0);
        }
        let StoredLease { address, prefix, server, .. } = self;
        Lease { address, prefix, server, start: Time(self.start), timers: self.timers.map(timers), options }
    }
}

impl StoredIpv6Lease {
    fn of(lease: &v6::Lease) -> StoredIpv6Lease {
        StoredIpv6Lease {
            address: lease.address,
            server: Hex(lease.server.clone()),
            start: lease.start.0,
            preferred: lease.preferred.map(|time| time.0),
            timers: lease.timers.map(stored_timers),
            options: lease.options.iter().map(|(number, value)| (number, Hex(value.to_vec()))).collect(),
        }
    }

    fn lease(self) -> v6::Lease {
        let mut options = v6::Options::default();
        for (number, value) in self.options {
            options.push(number, value.0);
        }
        v6::Lease {
            address: self.address,
            server: self.server.0,
            start: Time(self.start),
            preferred: self.preferred.map(Time),
            timers: self.timers.map(timers),
            options,
        }
    }
}

fn stored_timers(timers: Timers) -> [u64; 3] {
    [timers.renew.0, timers.rebind.0, timers.expiry.0]
}

fn timers([renew, rebind, expiry]: [u64; 3]) -> Timers {
    Timers { renew: Time(renew), rebind: Time(rebind), expiry: Time(expiry) }
}

impl Record {
    fn is_valid(&self) -> bool {
        let ordered = |[renew, rebind, expiry]: [u64; 3]| renew < rebind && rebind < expiry;
        let (fits, timers) = match &self.lease {
            Stored::Ipv4(lease) => (lease.prefix <= 32, lease.timers),
            Stored::Ipv6(lease) => (true, lease.timers),
        };
        self.version == VERSION && fits && timers.is_none_or(ordered)
    }
}

impl Store {
    /// Opens the folder of the leases, made where it is missing, for this daemon alone.
    ///
    /// # Errors
    /// When it can't be used, or another daemon uses it.
    pub(crate) fn open(path: &Path) -> Result<Store> {
        let failed = |operation: &str, err: io::Error| fs::failed(operation, path, err);
        let folder = Folder::open_or_create_with(path, 0o700).map_err(|err| failed("opening", err))?;
        let lock = File::options().create(true).append(true).open(path.join("lock"));
        let lock = lock.map_err(|err| failed("opening the lock in", err))?;
        lock.try_lock().map_err(|err| match err {
            std::fs::TryLockError::WouldBlock => Error::new(
                cni_core::spec::Code::TRY_AGAIN,
                format!("another daemon keeps its leases in {}", path.display()),
            )
            .details("it is running already; with -socketpath several can run side by side"),
            std::fs::TryLockError::Error(err) => failed("locking", err),
        })?;
        // /proc is there in every container that could run this.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Store { folder, boot: boot.trim().to_owned(), _lock: lock })
    }

    /// Keeps a lease, in place of an earlier one of the same attachment.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn save(&self, target: &Target, place: &Place, broadcast: bool, lease: &Lease) -> Result<()> {
        self.write(SUFFIX, target, place, broadcast, Stored::Ipv4(StoredLease::of(lease)))
    }

    /// The same for a lease of DHCPv6.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub(crate) fn save_ipv6(&self, target: &Target, place: &Place, lease: &v6::Lease) -> Result<()> {
        self.write(IPV6_SUFFIX, target, place, false, Stored::Ipv6(StoredIpv6Lease::of(lease)))
    }

    fn write(
        &self,
        suffix: &str,
        target: &Target,
        place: &Place,
        broadcast: bool,
        lease: Stored,
    ) -> Result<()> {
        let (boot, target, place) = (self.boot.clone(), target.clone(), place.clone());
        let name = file_name(&target.id, suffix);
        let record = Record { version: VERSION, boot, target, place, broadcast, lease };
        let text =
            serde_json::to_vec(&record).map_err(|err| Error::io("writing a lease", io::Error::from(err)))?;
        self.folder
            .replace(&name, &text, 0o600)
            .map_err(|err| fs::failed("writing", &self.folder.path().join(&name), err))
    }

    /// Removes the lease of an attachment.
    ///
    /// # Errors
    /// When it is there and can't be removed.
    pub(crate) fn remove(&self, id: &Id) -> Result<()> {
        self.remove_file(&file_name(id, SUFFIX))
    }

    /// The same for a lease of DHCPv6.
    ///
    /// # Errors
    /// As [`Store::remove`].
    pub(crate) fn remove_ipv6(&self, id: &Id) -> Result<()> {
        self.remove_file(&file_name(id, IPV6_SUFFIX))
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        self.folder
            .remove(name)
            .map(drop)
            .map_err(|err| fs::failed("removing", &self.folder.path().join(name), err))
    }

    /// All leases. What can't be read, or is of an earlier boot, is removed and logged: it can't
    /// be what a daemon wrote atomically.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub(crate) fn load(&self) -> Result<Vec<Leases>> {
        let path = self.folder.path();
        let names = self.folder.names().map_err(|err| fs::failed("listing", path, err))?;
        let mut found: HashMap<Id, Leases> = HashMap::new();
        for name in names.flatten() {
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                let _ = self.folder.remove(name);
            } else if name.ends_with(SUFFIX) {
                match self.read(name) {
                    Ok(record) => add(&mut found, record),
                    Err(why) => {
                        log(Level::Warning, "lease-file-dropped", &[("file", &name), ("why", &why)]);
                        let _ = self.folder.remove(name);
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    fn read(&self, name: &str) -> Result<Record, String> {
        let text = self.folder.read(name, MAX_FILE).map_err(|err| err.to_string())?.ok_or("it is gone")?;
        let record: Record = serde_json::from_slice(&text).map_err(|err| err.to_string())?;
        if !record.is_valid() {
            return Err("it makes no sense".to_owned());
        }
        if record.boot != self.boot {
            return Err("it is of an earlier boot".to_owned());
        }
        Ok(record)
    }
}

/// Puts a lease to the others of its attachment. A daemon that was killed may have left one of an interface that
/// has been replaced since; both are looked for in the same place.
fn add(found: &mut HashMap<Id, Leases>, record: Record) {
    let Record { target, place, broadcast, lease, .. } = record;
    let leases =
        found.entry(target.id.clone()).or_insert(Leases { target, place, broadcast, ipv4: None, ipv6: None });
    match lease {
        Stored::Ipv4(lease) => {
            leases.broadcast = broadcast;
            leases.ipv4 = Some(lease.lease());
        }
        Stored::Ipv6(lease) => leases.ipv6 = Some(lease.lease()),
    }
}

/// The name of an attachment's file: its parts may be 255 bytes long each.
fn file_name(id: &Id, suffix: &str) -> String {
    let digest = Sha512::digest(id.text());
    let digits: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}{suffix}")
}

/// A part of a path that stands for a socket: leases of daemons side by side are kept apart by it.
pub(crate) fn folder_of_socket(socket: &Path) -> String {
    let digest = Sha512::digest(socket.as_os_str().as_encoded_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
