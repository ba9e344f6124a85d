//! Leases on disk: a file each, written atomically, so that a daemon that was killed finds
//! every lease that it had.

use std::fs::File;
use std::io;
use std::path::Path;

use cni_core::fs::{self, Folder, UNFINISHED};
use cni_core::spec::{Error, Result};
use dhcp_client::Time;
use dhcp_client::v4::{Lease, Options, Timers};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::log::{Level, log};
use super::place::Place;
use crate::protocol::{Hex, Id, Target};

/// The version of the format.
const VERSION: u32 = 1;

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 256 << 10;

/// The end of the names of lease files.
const SUFFIX: &str = ".json";

/// The folder of the leases, for this daemon alone.
pub(crate) struct Store {
    folder: Folder,
    boot: String,
    _lock: File,
}

/// A lease as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    /// The boot that its times belong to.
    boot: String,
    #[serde(flatten)]
    pub(crate) target: Target,
    pub(crate) place: Place,
    pub(crate) broadcast: bool,
    lease: StoredLease,
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

impl Record {
    /// The lease.
    pub(crate) fn lease(&self) -> Lease {
        let stored = &self.lease;
        let mut options = Options::default();
        for (number, value) in &stored.options {
            options.set(*number, value.0.clone());
        }
        let timers = stored.timers.map(|[renew, rebind, expiry]| Timers {
            renew: Time(renew),
            rebind: Time(rebind),
            expiry: Time(expiry),
        });
        Lease {
            address: stored.address,
            prefix: stored.prefix,
            server: stored.server,
            start: Time(stored.start),
            timers,
            options,
        }
    }

    fn is_valid(&self) -> bool {
        let ordered = |[renew, rebind, expiry]: [u64; 3]| renew < rebind && rebind < expiry;
        self.version == VERSION && self.lease.prefix <= 32 && self.lease.timers.is_none_or(ordered)
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
        let timers = lease.timers.map(|timers| [timers.renew.0, timers.rebind.0, timers.expiry.0]);
        let options = lease.options.iter().map(|(number, value)| (number, Hex(value.to_vec()))).collect();
        let lease = StoredLease {
            address: lease.address,
            prefix: lease.prefix,
            server: lease.server,
            start: lease.start.0,
            timers,
            options,
        };
        let record = Record {
            version: VERSION,
            boot: self.boot.clone(),
            target: target.clone(),
            place: place.clone(),
            broadcast,
            lease,
        };
        let text =
            serde_json::to_vec(&record).map_err(|err| Error::io("writing a lease", io::Error::from(err)))?;
        let name = file_name(&target.id);
        self.folder
            .replace(&name, &text, 0o600)
            .map_err(|err| fs::failed("writing", &self.folder.path().join(&name), err))
    }

    /// Removes the lease of an attachment.
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

    /// All leases. What can't be read, or is of an earlier boot, is removed and logged: it can't
    /// be what a daemon wrote atomically.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub(crate) fn load(&self) -> Result<Vec<Record>> {
        let path = self.folder.path();
        let names = self.folder.names().map_err(|err| fs::failed("listing", path, err))?;
        let mut records = Vec::new();
        for name in names.flatten() {
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                let _ = self.folder.remove(name);
            } else if name.ends_with(SUFFIX) {
                match self.read(name) {
                    Ok(record) => records.push(record),
                    Err(why) => {
                        log(Level::Warning, "lease-file-dropped", &[("file", &name), ("why", &why)]);
                        let _ = self.folder.remove(name);
                    }
                }
            }
        }
        Ok(records)
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
