//! The reservations of one network on this node, locked for as long as the [`Store`] lives.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cni_core::fs::{self, Folder, Lock, Stat, Timestamp, UNFINISHED};
use cni_core::spec::{Error, Result};

use crate::index::{BootId, Entry, Index, hash};
use crate::range::RangeSet;
use crate::reservation::{self, MAX_LEN, Owner};

/// The boot in which a reservation was made, and a number for what its file holds.
const BOOT_ATTRIBUTE: &CStr = c"user.oxcni.boot_id";

/// Where a node keeps what is not in the data folder.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The folder of the indices, which a reboot empties.
    pub(crate) index_dir: PathBuf,
    /// The file that tells this boot from every other.
    pub(crate) boot_id: PathBuf,
}

impl Node {
    /// The node that this process runs on.
    pub(crate) fn this() -> Node {
        Node { index_dir: "/run/oxcni/host-local".into(), boot_id: "/proc/sys/kernel/random/boot_id".into() }
    }

    /// This boot; `None` where /proc does not say.
    fn boot_id(&self) -> Option<BootId> {
        fs::read_bounded(&self.boot_id, 64).ok()?.trim_ascii().try_into().ok()
    }
}

/// Which reservations that nobody will release are taken away when the folder is looked through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reclaim {
    /// Files without content: whoever was killed before writing it does not hold the lock any more.
    Empty,
    /// Those, and what this program reserved before the last boot.
    EarlierBoots,
}

/// The reservations of a network.
pub(crate) struct Store {
    folder: Folder,
    _lock: Lock,
    boot_id: Option<BootId>,
    index: Index,
    /// Where the index is kept; `None` where it can't be.
    file: Option<Rc<File>>,
    /// Whether the index' file says that it is not to be trusted.
    invalidated: bool,
}

impl Store {
    /// Opens the reservations in a folder, which is made where it is missing.
    pub(crate) fn open_or_create(node: &Node, path: &Path, reclaim: Reclaim) -> Result<Store> {
        let folder =
            Folder::open_or_create(path).map_err(|err| fs::failed("opening the data folder", path, err))?;
        Store::lock(node, folder, reclaim)
    }

    /// Opens the reservations in a folder; `None` when there is no such folder.
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
        let boot_id = node.boot_id();
        let stat = folder.stat().map_err(|err| fs::failed("looking at", folder.path(), err))?;
        let file = open_index(node, stat).map(Rc::new);
        let current = file.clone().and_then(|file| current(file, stat));
        let mut store = Store {
            index: Index::of([].into_iter()).map_err(defect)?,
            folder,
            _lock: lock,
            boot_id,
            file,
            invalidated: false,
        };
        match current {
            Some(index) if !store.wants_search(&index, reclaim) => store.index = index,
            _ => store.search(reclaim)?,
        }
        Ok(store)
    }

    /// Whether the folder has to be looked through for reservations of earlier boots.
    fn wants_search(&self, index: &Index, reclaim: Reclaim) -> bool {
        reclaim == Reclaim::EarlierBoots
            && self.boot_id.is_some()
            && index.header().reclaimed_in != self.boot_id
    }

    /// Looks through the folder and makes the index again.
    fn search(&mut self, reclaim: Reclaim) -> Result<()> {
        let failed = |path: &Path, err| fs::failed("reading the data folder", path, err);
        let mut entries = Vec::new();
        for name in self.folder.names().map_err(|err| failed(self.folder.path(), err))? {
            let name = name.map_err(|err| failed(self.folder.path(), err))?;
            let Some(name) = name.to_str() else {
                continue;
            };
            if name.starts_with(UNFINISHED) {
                // Whoever was writing it does not hold the lock any more.
                let _ = self.folder.remove(name);
            }
            let Some(ip) = reservation::address_of(name) else {
                continue;
            };
            let (owner, is_stale) = self.look_at(name, reclaim);
            if !is_stale || !self.folder.remove(name).unwrap_or(false) {
                entries.push(Entry::new(ip, &owner));
            }
        }
        self.index = Index::of(entries.into_iter()).map_err(defect)?;
        self.index.set_reclaimed_in(self.boot_id.filter(|_| reclaim == Reclaim::EarlierBoots));
        self.invalidate();
        Ok(())
    }

    /// Who a file says holds its address, and whether it is to be reclaimed. A file that
    /// can't be read holds its address all the same.
    fn look_at(&self, name: &str, reclaim: Reclaim) -> (Owner, bool) {
        let nobody = Owner::parse(b"");
        let Ok(Some(mut file)) = self.folder.open_file(name) else {
            return (nobody, false);
        };
        let Ok(contents) = fs::read_at_most(&mut file, MAX_LEN) else {
            return (nobody, false);
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

    /// Whether this program wrote the file before the last boot, and nobody changed it since.
    fn is_of_earlier_boot(&self, file: &File, contents: &[u8]) -> bool {
        let Some(this_boot) = self.boot_id else {
            return false;
        };
        let mut buffer = [0; 64];
        let Some(value) = fs::attribute(file, BOOT_ATTRIBUTE, &mut buffer) else {
            return false;
        };
        match value.split_first_chunk() {
            Some((boot, rest)) => *boot != this_boot && rest == seal(contents).as_bytes(),
            None => false,
        }
    }

    /// Runs something on the index; where that turns out to be damaged, on a new one.
    fn indexed<T>(&mut self, run: impl Fn(&mut Index) -> io::Result<T>) -> Result<T> {
        if let Ok(value) = run(&mut self.index) {
            return Ok(value);
        }
        self.search(Reclaim::Empty)?;
        run(&mut self.index).map_err(defect)
    }

    /// The addresses that an owner holds, as the files say.
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

    /// Who holds an address; `None` when nobody does.
    pub(crate) fn owner_of(&self, ip: IpAddr) -> Result<Option<Owner>> {
        let name = reservation::file_name(ip);
        match self.folder.read(&name, MAX_LEN) {
            Ok(contents) => Ok(contents.map(|contents| Owner::parse(&contents))),
            // Something else of that name.
            Err(_) => Ok(Some(Owner::parse(b""))),
        }
    }

    /// The first free address from `from` to `to` that is not the gateway.
    pub(crate) fn first_free(&mut self, from: IpAddr, to: IpAddr, gateway: IpAddr) -> Result<Option<IpAddr>> {
        self.indexed(|index| index.first_free(from, to, gateway))
    }

    /// How many addresses of a range set are held, and by how many containers.
    pub(crate) fn count_in(&mut self, set: &RangeSet) -> Result<(u64, usize)> {
        self.indexed(|index| index.count_in(set))
    }

    /// Reserves an address; `false` when it is held.
    ///
    /// Nothing is flushed to the disk: what a power cut makes of the file, empty or whole, is
    /// of an earlier boot by then and will be reclaimed.
    pub(crate) fn reserve(&mut self, ip: IpAddr, owner: &Owner) -> Result<bool> {
        self.invalidate();
        let name = reservation::file_name(ip);
        let contents = owner.contents();
        let mark = self.boot_id.map(|boot| [&boot[..], seal(&contents).as_bytes()].concat());
        let attribute = mark.as_ref().map(|mark| (BOOT_ATTRIBUTE, &mark[..]));
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

    /// Makes the index again because it did not know what the files say.
    pub(crate) fn distrust_index(&mut self) -> Result<()> {
        self.search(Reclaim::Empty)
    }

    /// Releases an address that an owner holds.
    pub(crate) fn release(&mut self, ip: IpAddr, owner: &Owner) -> Result<()> {
        self.invalidate();
        let name = reservation::file_name(ip);
        self.folder
            .remove(&name)
            .map_err(|err| fs::failed("removing the reservation", &self.folder.path().join(&name), err))?;
        if self.index.remove(Entry::new(ip, owner)).is_err() {
            self.search(Reclaim::Empty)?;
        }
        Ok(())
    }

    /// Releases every address but those whose owner is to be kept.
    pub(crate) fn release_unless(&mut self, keep: impl Fn(&Owner) -> bool) -> Result<()> {
        let mut errors = Vec::new();
        let names = self
            .folder
            .names()
            .map_err(|err| fs::failed("reading the data folder", self.folder.path(), err))?;
        let held: Vec<IpAddr> =
            names.filter_map(|name| reservation::address_of(name.ok()?.to_str()?)).collect();
        for ip in held {
            if let Some(owner) = self.owner_of(ip)?.filter(|owner| !owner.is_nobody() && !keep(owner))
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
        // A mark that can't be read costs a turn of the round, no more.
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// Notes which address of a range set was reserved last.
    pub(crate) fn set_last_reserved(&mut self, set: usize, ip: IpAddr) -> Result<()> {
        self.invalidate();
        let name = mark_name(set);
        self.folder
            .rewrite(&name, ip.to_string().as_bytes(), 0o600)
            .map_err(|err| fs::failed("writing", &self.folder.path().join(name), err))
    }

    /// Ends as a process does that is killed: without writing the index.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.file = None;
    }

    /// Says in the index' file that it is not to be trusted, before anything is changed.
    fn invalidate(&mut self) {
        if std::mem::replace(&mut self.invalidated, true) {
            return;
        }
        let mut header = self.index.header().clone();
        header.stamp = None;
        if let Some(file) = &self.file
            && self.index.write_header(file, &header).is_err()
        {
            self.file = None;
        }
    }

    /// Writes the index, so that the next call need not look through the folder.
    ///
    /// The stamp is a time that the kernel never sets: it takes the folder's, which the last
    /// change set, and moves it back by less than a millisecond. Where the kernel's clock for
    /// this is coarse, another program could change the folder within the same tick, and the
    /// time alone would not show it. How far it is moved back differs from call to call, so
    /// that two processes that see different indices of one folder don't stamp alike.
    fn write_index(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        self.index.write_tables(file)?;
        let changed = self.folder.stat()?.modified;
        let stamp = changed.minus(1 + i64::from(fs::nanoseconds_now() % 999_999));
        self.folder.set_modified(stamp)?;
        // A file system that keeps coarser times than that can't be relied on.
        if self.folder.stat()?.modified != stamp {
            return Ok(());
        }
        let mut header = self.index.header().clone();
        header.stamp = Some(stamp);
        self.index.write_header(file, &header)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.invalidated {
            // Without it the next call takes longer, and that is all.
            let _ = self.write_index();
        }
    }
}

/// The index in a file, where it says what the folder does.
fn current(file: Rc<File>, folder: Stat) -> Option<Index> {
    let index = Index::read(file).ok()?;
    let stamp: Timestamp = index.header().stamp?;
    (folder.modified == stamp).then_some(index)
}

/// Opens the file of a folder's index, named by what identifies the folder however it is reached.
fn open_index(node: &Node, folder: Stat) -> Option<File> {
    let path = node.index_dir.join(format!("{:x}-{}.index", folder.dev, folder.ino));
    let open =
        || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    match open() {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            Folder::open_or_create_with(&node.index_dir, 0o700).ok()?;
            open().ok()
        }
        opened => opened.ok(),
    }
}

fn mark_name(set: usize) -> String {
    format!("last_reserved_ip.{set}")
}

/// What stands behind the boot id, so that a file that somebody edited is left alone.
fn seal(contents: &[u8]) -> String {
    format!(" {:016x}", hash::of_bytes(contents))
}

fn defect(err: io::Error) -> Error {
    Error::io("defect: the index of host-local in memory", err)
}
