//! The reservations of one network on this node, locked for as long as the [`Store`] lives.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_core::fs::{self, Folder, Lock, Stat, UNFINISHED};
use cni_core::spec::{Error, Result};

use crate::hash;
use crate::index::{Entry, Index};
use crate::range::RangeSet;
use crate::reservation::{self, MAX_LEN, Owner};

/// The attribute of a reservation: the boot in which it was made, and a hash of its content.
const BOOT_ATTRIBUTE: &CStr = c"user.oxcni.boot_id";

/// The length of a boot ID, a UUID, in bytes.
const BOOT_ID_LEN: usize = 36;

/// Where a node keeps what is not in the data folder.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The folder of the indices, which a reboot empties.
    pub(crate) index_dir: PathBuf,
    /// The file with the ID of this boot.
    pub(crate) boot_id: PathBuf,
}

impl Node {
    /// The node that this process runs on.
    pub(crate) fn this() -> Node {
        Node { index_dir: "/run/oxcni/host-local".into(), boot_id: "/proc/sys/kernel/random/boot_id".into() }
    }

    /// The ID of this boot, a UUID; `None` where /proc is not mounted.
    fn boot_id(&self) -> Option<String> {
        let text = String::from_utf8(fs::read_bounded(&self.boot_id, 64).ok()?).ok()?;
        Some(text.trim().to_owned()).filter(|id| id.len() == BOOT_ID_LEN)
    }

    /// The folder of the index of a data folder, named by what identifies the data folder
    /// whatever path it is opened by.
    fn index_folder(&self, data: Stat) -> Option<Folder> {
        let path = self.index_dir.join(format!("{:x}-{}", data.dev, data.ino));
        Folder::open_or_create_with(&path, 0o700).ok()
    }
}

/// Which reservations are removed when the data folder is searched, because no DEL will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reclaim {
    /// Files without content: the process that made one was killed before it wrote, since it
    /// does not hold the lock any more.
    Empty,
    /// Those, and what this program reserved in earlier boots.
    EarlierBoots,
}

/// The reservations of a network.
pub(crate) struct Store {
    folder: Folder,
    _lock: Lock,
    boot_id: Option<String>,
    index: Index,
}

impl Store {
    /// Opens the reservations in a folder. A missing folder is made.
    pub(crate) fn open_or_create(node: &Node, path: &Path, reclaim: Reclaim) -> Result<Store> {
        let folder =
            Folder::open_or_create(path).map_err(|err| fs::failed("opening the data folder", path, err))?;
        Store::lock(node, folder, reclaim)
    }

    /// Opens the reservations in a folder; `None` where there is no folder.
    pub(crate) fn open(node: &Node, path: &Path, reclaim: Reclaim) -> Result<Option<Store>> {
        match Folder::open(path) {
            Ok(folder) => Store::lock(node, folder, reclaim).map(Some),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(fs::failed("opening the data folder", path, err)),
        }
    }

    fn lock(node: &Node, folder: Folder, reclaim: Reclaim) -> Result<Store> {
        let lock =
            folder.lock("lock").map_err(|err| fs::failed("locking", &folder.path().join("lock"), err))?;
        let stat = folder.stat().map_err(|err| fs::failed("looking at", folder.path(), err))?;
        let index = Index::open(node.index_folder(stat));
        let agrees = index.agrees_with(stat.modified);
        let mut store = Store { folder, _lock: lock, boot_id: node.boot_id(), index };
        if !agrees || store.has_to_reclaim(reclaim) {
            store.search(reclaim)?;
        }
        Ok(store)
    }

    /// Whether the data folder has to be searched for reservations of earlier boots.
    fn has_to_reclaim(&self, reclaim: Reclaim) -> bool {
        reclaim == Reclaim::EarlierBoots
            && self.boot_id.is_some()
            && self.index.reclaimed_in() != self.boot_id.as_deref()
    }

    /// Searches the data folder, removes what is to be reclaimed, and makes the index again.
    fn search(&mut self, reclaim: Reclaim) -> Result<()> {
        self.index.begin();
        let failed = |path: &Path, err| fs::failed("reading the data folder", path, err);
        let mut entries = Vec::new();
        for name in self.folder.names().map_err(|err| failed(self.folder.path(), err))? {
            let name = name.map_err(|err| failed(self.folder.path(), err))?;
            let Some(name) = name.to_str() else {
                continue;
            };
            if name.starts_with(UNFINISHED) {
                // Its process was killed: it does not hold the lock any more.
                let _ = self.folder.remove(name);
            }
            let Some(ip) = reservation::address_of(name) else {
                continue;
            };
            let (owner, is_stale) = self.inspect(name, reclaim);
            if !is_stale || !self.folder.remove(name).unwrap_or(false) {
                entries.push(Entry::new(ip, &owner));
            }
        }
        self.index.fill(&entries);
        let searched = self.boot_id.as_deref().filter(|_| reclaim == Reclaim::EarlierBoots);
        self.index.set_reclaimed_in(searched);
        Ok(())
    }

    /// The owner that a file names, and whether the file is to be reclaimed. A file that can't
    /// be read holds its address all the same.
    fn inspect(&self, name: &str, reclaim: Reclaim) -> (Owner, bool) {
        let unnamed = Owner::parse(b"");
        let Ok(Some(mut file)) = self.folder.open_file(name) else {
            return (unnamed, false);
        };
        let Ok(contents) = fs::read_at_most(&mut file, MAX_LEN) else {
            return (unnamed, false);
        };
        let owner = Owner::parse(&contents);
        let is_stale = match reclaim {
            // A pipe reads as empty too.
            _ if contents.is_empty() => file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0),
            Reclaim::Empty => false,
            Reclaim::EarlierBoots => self.is_of_earlier_boot(&file, &contents),
        };
        (owner, is_stale)
    }

    /// Whether this program wrote the file in an earlier boot, and it was not changed since.
    fn is_of_earlier_boot(&self, file: &File, contents: &[u8]) -> bool {
        let Some(this_boot) = &self.boot_id else {
            return false;
        };
        let mut buffer = [0; 64];
        let Some(value) = fs::attribute(file, BOOT_ATTRIBUTE, &mut buffer) else {
            return false;
        };
        match value.split_at_checked(BOOT_ID_LEN) {
            Some((boot, rest)) => boot != this_boot.as_bytes() && rest == seal(contents).as_bytes(),
            None => false,
        }
    }

    /// Runs an operation on the index; where the index is damaged, on a new one.
    fn indexed<T>(&mut self, run: impl Fn(&mut Index) -> io::Result<T>) -> Result<T> {
        if let Ok(value) = run(&mut self.index) {
            return Ok(value);
        }
        self.search(Reclaim::Empty)?;
        run(&mut self.index).map_err(|err| Error::io("defect: host-local's index in memory", err))
    }

    /// The addresses that an owner holds, according to the reservation files.
    pub(crate) fn held_by(&mut self, owner: &Owner) -> Result<Vec<IpAddr>> {
        let held = self.indexed(|index| index.held_by(owner))?;
        let mut verified = Vec::with_capacity(held.len());
        for ip in held {
            if self.owner_of(ip)?.as_ref() == Some(owner) {
                verified.push(ip);
            }
        }
        Ok(verified)
    }

    /// The owner of an address; `None` where it is free.
    pub(crate) fn owner_of(&self, ip: IpAddr) -> Result<Option<Owner>> {
        let name = reservation::file_name(ip);
        match self.folder.read(&name, MAX_LEN) {
            Ok(contents) => Ok(contents.map(|contents| Owner::parse(&contents))),
            // A folder or a link of that name.
            Err(_) => Ok(Some(Owner::parse(b""))),
        }
    }

    /// The first free address from `from` to `to`, both inclusive, that is not the gateway.
    pub(crate) fn first_free(&mut self, from: IpAddr, to: IpAddr, gateway: IpAddr) -> Result<Option<IpAddr>> {
        self.indexed(|index| index.first_free(from, to, gateway))
    }

    /// How many addresses of a range set are held, and by how many containers.
    pub(crate) fn count_in(&mut self, set: &RangeSet) -> Result<(usize, usize)> {
        self.indexed(|index| index.count_in(set))
    }

    /// Reserves an address; `false` where it is held.
    ///
    /// The file is not flushed to the disk. After a power cut it may be empty, and it belongs
    /// to an earlier boot, so that it is reclaimed.
    pub(crate) fn reserve(&mut self, ip: IpAddr, owner: &Owner) -> Result<bool> {
        self.index.begin();
        let name = reservation::file_name(ip);
        let contents = owner.contents();
        let mark = self.boot_id.as_ref().map(|boot| format!("{boot}{}", seal(&contents)));
        let attribute = mark.as_ref().map(|mark| (BOOT_ATTRIBUTE, mark.as_bytes()));
        let created = self
            .folder
            .create(&name, &contents, 0o600, attribute)
            .map_err(|err| fs::failed("writing the reservation", &self.folder.path().join(&name), err))?;
        if !created {
            return Ok(false);
        }
        if self.index.insert(Entry::new(ip, owner)).is_err() {
            self.search(Reclaim::Empty)?;
        }
        Ok(true)
    }

    /// Makes the index again, where it is found to differ from the files.
    pub(crate) fn rebuild_index(&mut self) -> Result<()> {
        self.search(Reclaim::Empty)
    }

    /// Releases an address that an owner holds.
    pub(crate) fn release(&mut self, ip: IpAddr, owner: &Owner) -> Result<()> {
        self.index.begin();
        let name = reservation::file_name(ip);
        self.folder
            .remove(&name)
            .map_err(|err| fs::failed("removing the reservation", &self.folder.path().join(&name), err))?;
        if self.index.remove(Entry::new(ip, owner)).is_err() {
            self.search(Reclaim::Empty)?;
        }
        Ok(())
    }

    /// Releases every address whose owner is not to be kept.
    pub(crate) fn release_unless(&mut self, keep: impl Fn(&Owner) -> bool) -> Result<()> {
        let mut errors = Vec::new();
        let names = self
            .folder
            .names()
            .map_err(|err| fs::failed("reading the data folder", self.folder.path(), err))?;
        let held: Vec<IpAddr> =
            names.filter_map(|name| reservation::address_of(name.ok()?.to_str()?)).collect();
        for ip in held {
            if let Some(owner) = self.owner_of(ip)?.filter(|owner| !owner.is_empty() && !keep(owner))
                && let Err(err) = self.release(ip, &owner)
            {
                errors.push(err);
            }
        }
        Error::all(errors)
    }

    /// The address of a range set that was reserved last.
    pub(crate) fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = self.folder.read(&mark_name(set), 64).ok()??;
        // Without it the search begins at the first address of the set.
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// Notes which address of a range set was reserved last.
    pub(crate) fn set_last_reserved(&mut self, set: usize, ip: IpAddr) -> Result<()> {
        self.index.begin();
        let name = mark_name(set);
        self.folder
            .rewrite(&name, ip.to_string().as_bytes(), 0o600)
            .map_err(|err| fs::failed("writing", &self.folder.path().join(name), err))
    }

    /// Ends as a process does that is killed: without writing the index.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.index.abandon();
    }

    /// Writes the index, so that the next call need not search the data folder.
    ///
    /// The stamp is a time that the kernel never sets: the modification time that the last
    /// change gave the folder, less up to a millisecond. The kernel's clock for modification
    /// times can be coarse: another program could change the folder within the same tick, and
    /// an unaltered time would not show it. The difference varies from call to call, so that
    /// two processes with different indices of one folder don't set the same time.
    fn write_index(&mut self) -> io::Result<()> {
        let changed = self.folder.stat()?.modified;
        let stamp = changed.minus(1 + i64::from(fs::nanoseconds_now() % 999_999));
        self.folder.set_modified(stamp)?;
        // A file system with coarser times can't show later changes.
        if self.folder.stat()?.modified != stamp {
            return Ok(());
        }
        self.index.finish(stamp)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.index.is_changing() {
            // Where this fails, the next call searches the data folder.
            let _ = self.write_index();
        }
    }
}

fn mark_name(set: usize) -> String {
    format!("last_reserved_ip.{set}")
}

/// What follows the boot ID in the attribute, so that an edited file is not reclaimed.
fn seal(contents: &[u8]) -> String {
    format!(" {:016x}", hash::of_bytes(contents))
}
