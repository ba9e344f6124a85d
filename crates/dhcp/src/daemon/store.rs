//! Attachments on disk: a file each, written atomically, so that a daemon that was killed finds every one that it had,
//! also those that have no lease at the moment.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
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

/// The end of the names of the files.
const SUFFIX: &str = ".json";

/// The folder of the leases, for this daemon alone.
pub(crate) struct Store {
    folder: Folder,
    boot: String,
    _lock: File,
}

/// An attachment and its leases. It has none where its server refused the last one, and where the kernel makes all
/// addresses.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    pub(crate) target: Target,
    pub(crate) place: Place,
    pub(crate) broadcast: bool,
    pub(crate) ipv4: Option<Lease>,
    pub(crate) ipv6: Option<v6::Lease>,
}

/// The same as it is kept.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<StoredLease>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ipv6_lease: Option<StoredIpv6Lease>,
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
        let ipv4 =
            self.lease.as_ref().is_none_or(|lease| lease.prefix <= 32 && lease.timers.is_none_or(ordered));
        let ipv6 = self.ipv6_lease.as_ref().is_none_or(|lease| lease.timers.is_none_or(ordered));
        self.version == VERSION && ipv4 && ipv6
    }

    fn leases(self) -> Leases {
        let Record { target, place, broadcast, lease, ipv6_lease, .. } = self;
        let (ipv4, ipv6) = (lease.map(StoredLease::lease), ipv6_lease.map(StoredIpv6Lease::lease));
        Leases { target, place, broadcast, ipv4, ipv6 }
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
        // Whoever can open it can hold it.
        let mut options = File::options();
        options.create(true).append(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let lock = options.open(path.join("lock"));
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

    /// Keeps an attachment, in place of what was kept of it before.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn save(&self, leases: Leases) -> Result<()> {
        let Leases { target, place, broadcast, ipv4, ipv6 } = leases;
        let name = file_name(&target.id);
        let record = Record {
            version: VERSION,
            boot: self.boot.clone(),
            target,
            place,
            broadcast,
            lease: ipv4.as_ref().map(StoredLease::of),
            ipv6_lease: ipv6.as_ref().map(StoredIpv6Lease::of),
        };
        let text =
            serde_json::to_vec(&record).map_err(|err| Error::io("writing a lease", io::Error::from(err)))?;
        self.folder
            .replace(&name, &text, 0o600)
            .map_err(|err| fs::failed("writing", &self.folder.path().join(&name), err))
    }

    /// Removes what is kept of an attachment.
    ///
    /// # Errors
    /// When it is there and can't be removed.
    pub(crate) fn remove(&self, id: &Id) -> Result<()> {
        let name = file_name(id);
        self.folder
            .remove(&name)
            .map(drop)
            .map_err(|err| fs::failed("removing", &self.folder.path().join(&name), err))
    }

    /// All attachments. What can't be read, or is of an earlier boot, is removed and logged: it can't
    /// be what a daemon wrote atomically.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub(crate) fn load(&self) -> Result<Vec<Leases>> {
        let path = self.folder.path();
        let names = self.folder.names().map_err(|err| fs::failed("listing", path, err))?;
        let mut found = Vec::new();
        for name in names.flatten() {
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                let _ = self.folder.remove(name);
            } else if name.ends_with(SUFFIX) {
                match self.read(name) {
                    Ok(record) => found.push(record.leases()),
                    Err(why) => {
                        log(Level::Warning, "lease-file-dropped", &[("file", &name), ("why", &why)]);
                        let _ = self.folder.remove(name);
                    }
                }
            }
        }
        Ok(found)
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

/// The name of an attachment's file: its parts may be 255 bytes long each.
fn file_name(id: &Id) -> String {
    let digest = Sha512::digest(id.text());
    let digits: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}{SUFFIX}")
}

/// A part of a path that stands for a socket: leases of daemons side by side are kept apart by it.
pub(crate) fn folder_of_socket(socket: &Path) -> String {
    let digest = Sha512::digest(socket.as_os_str().as_encoded_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
