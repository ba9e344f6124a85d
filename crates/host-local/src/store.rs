//! The reservations of one network on this node, locked for as long as the [`Store`] lives.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_core::fs::{self, Folder, Lock, Stat, UNFINISHED};
use cni_core::spec::{Error, Result};

use crate::elsewhere;
use crate::hash;
use crate::index::{Entry, Index};
use crate::range::RangeSet;
use crate::reservation::{self, MAX_LEN, Owner};
use crate::resolv_conf::ReadFile;

/// The attribute of a reservation: the boot in which it was made, a hash of its content, and a hash
/// of the machine's ID, separated by spaces.
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
    /// The files with the ID of this machine; the first that is not empty counts.
    pub(crate) machine_id: [PathBuf; 2],
    /// Whether other machines can have a data folder mounted.
    pub(crate) is_shared: fn(&Folder) -> io::Result<bool>,
    /// How `resolvConf` is read.
    pub(crate) read_file: ReadFile,
}

/// A boot of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Boot {
    id: String,
    machine: String,
}

impl Node {
    /// The node that this process runs on.
    pub(crate) fn this() -> Node {
        Node {
            index_dir: "/run/oxcni/host-local".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            machine_id: ["/etc/machine-id".into(), "/proc/sys/kernel/hostname".into()],
            is_shared: Folder::is_on_network,
            read_file: elsewhere::read,
        }
    }

    /// This boot of this machine; `None` where /proc is not mounted.
    fn boot(&self) -> Option<Boot> {
        let read = |path: &PathBuf| {
            let text = String::from_utf8(fs::read_bounded(path, 256).ok()?).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let id = read(&self.boot_id).filter(|id| id.len() == BOOT_ID_LEN)?;
        // A hash, since the ID itself is confidential (machine-id(5)).
        let machine = hash::of_bytes(self.machine_id.iter().find_map(read)?.as_bytes());
        Some(Boot { id, machine: format!("{machine:016x}") })
    }

    /// The folder of the index of a data folder, named by what identifies the data folder
    /// whatever path it is opened by.
    fn index_folder(&self, data: Stat) -> Option<Folder> {
        let path = self.index_dir.join(format!("{:x}-{}", data.dev, data.ino));
        Folder::open_or_create_with(&path, 0o700).ok()
    }

    /// Removes indices whose data folder is gone. Only those on the same device are looked at: the
    /// file system of another may not answer.
    fn remove_abandoned_indices(&self, device: u64) {
        let prefix = format!("{device:x}-");
        for entry in std::fs::read_dir(&self.index_dir).into_iter().flatten().flatten().take(1000) {
            let name = entry.file_name();
            let Some(inode) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else {
                continue;
            };
            let Some(data) = Folder::open(&entry.path()).ok().and_then(|folder| Index::data_of(&folder))
            else {
                continue;
            };
            let is_gone = match Folder::open(&data).and_then(|folder| folder.stat()) {
                Ok(stat) => stat.dev != device || stat.ino.to_string() != inode,
                Err(err) => err.kind() == io::ErrorKind::NotFound,
            };
            if is_gone {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Which reservations are removed when the data folder is searched, because no DEL will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reclaim {
    /// None.
    Nothing,
    /// Those that this program made on this machine in earlier boots.
    EarlierBoots,
}

/// Where and when a reservation was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// Without a mark, or changed since: by another program.
    Unknown,
    ThisBoot,
    /// On this machine.
    EarlierBoot,
    OtherMachine,
}

/// The reservations of a network.
pub(crate) struct Store {
    folder: Folder,
    _lock: Lock,
    boot: Option<Boot>,
    is_shared: fn(&Folder) -> io::Result<bool>,
    index: Index,
    /// Whether the data folder was searched by this call.
    searched: bool,
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
        let index = Index::open(node.index_folder(stat), folder.path());
        let agrees = index.agrees_with(stat.modified);
        let mut store = Store {
            folder,
            _lock: lock,
            boot: node.boot(),
            is_shared: node.is_shared,
            index,
            searched: false,
        };
        if !agrees || store.has_to_reclaim(reclaim) {
            store.search(reclaim)?;
            node.remove_abandoned_indices(stat.dev);
        }
        Ok(store)
    }

    /// Whether the data folder has to be searched for reservations of earlier boots.
    fn has_to_reclaim(&self, reclaim: Reclaim) -> bool {
        reclaim == Reclaim::EarlierBoots
            && self.boot.is_some()
            && self.index.reclaimed_in() != self.boot.as_ref().map(|boot| &boot.id[..])
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
        let this_boot = self.boot.as_ref().map(|boot| &boot.id[..]);
        self.index.set_reclaimed_in(this_boot.filter(|_| reclaim == Reclaim::EarlierBoots));
        self.searched = true;
        Ok(())
    }

    /// The owner that a file names, and whether the file is to be reclaimed. A file that can't
    /// be read holds its address all the same.
    fn inspect(&self, name: &str, reclaim: Reclaim) -> (Owner, bool) {
        let Some((owner, contents, file)) = self.read(name) else {
            return (Owner::parse(b""), false);
        };
        let is_stale =
            reclaim == Reclaim::EarlierBoots && self.origin(&file, &contents) == Origin::EarlierBoot;
        (owner, is_stale)
    }

    fn read(&self, name: &str) -> Option<(Owner, Vec<u8>, File)> {
        let mut file = self.folder.open_file(name).ok()??;
        let contents = fs::read_at_most(&mut file, MAX_LEN).ok()?;
        Some((Owner::parse(&contents), contents, file))
    }

    fn origin(&self, file: &File, contents: &[u8]) -> Origin {
        let mut buffer = [0; 128];
        let mark = fs::attribute(file, BOOT_ATTRIBUTE, &mut buffer);
        let (Some(this), Some(mark)) = (&self.boot, mark.and_then(|mark| std::str::from_utf8(mark).ok()))
        else {
            return Origin::Unknown;
        };
        let mut parts = mark.split(' ');
        let (Some(boot), Some(seal), Some(machine), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Origin::Unknown;
        };
        // A power cut can leave the mark and no content.
        if seal != self::seal(contents) && !contents.is_empty() {
            Origin::Unknown
        } else if machine != this.machine {
            Origin::OtherMachine
        } else if boot == this.id {
            Origin::ThisBoot
        } else {
            Origin::EarlierBoot
        }
    }

    /// Runs an operation on the index; where the index is damaged, on a new one.
    fn indexed<T>(&mut self, run: impl Fn(&mut Index) -> io::Result<T>) -> Result<T> {
        if let Ok(value) = run(&mut self.index) {
            return Ok(value);
        }
        self.search(Reclaim::Nothing)?;
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
        let mark =
            self.boot.as_ref().map(|Boot { id, machine }| format!("{id} {} {machine}", seal(&contents)));
        let attribute = mark.as_ref().map(|mark| (BOOT_ATTRIBUTE, mark.as_bytes()));
        let created = self
            .folder
            .create(&name, &contents, 0o600, attribute)
            .map_err(|err| fs::failed("writing the reservation", &self.folder.path().join(&name), err))?;
        if !created {
            return Ok(false);
        }
        if self.index.insert(Entry::new(ip, owner)).is_err() {
            self.search(Reclaim::Nothing)?;
        }
        Ok(true)
    }

    /// Makes the index again, unless this call has done that: a change of a file in place does not
    /// alter the modification time of the folder.
    pub(crate) fn search_once(&mut self) -> Result<()> {
        if self.searched { Ok(()) } else { self.search(Reclaim::Nothing) }
    }

    /// The addresses of a range set whose reservation is an empty file, in order.
    pub(crate) fn empty_files(&self, set: &RangeSet) -> Result<Vec<IpAddr>> {
        let is_empty = |ip: &IpAddr| {
            let file = self.folder.open_file(&reservation::file_name(*ip));
            let meta = file.ok().flatten().and_then(|file| file.metadata().ok());
            meta.is_some_and(|meta| meta.is_file() && meta.len() == 0)
        };
        let can_be_given = |ip: &IpAddr| set.range_of(*ip).is_some_and(|range| range.gateway != *ip);
        let mut empty: Vec<IpAddr> = self.addresses()?;
        empty.retain(|ip| can_be_given(ip) && is_empty(ip));
        empty.sort();
        Ok(empty)
    }

    /// The addresses of all reservation files.
    fn addresses(&self) -> Result<Vec<IpAddr>> {
        let names = self.folder.names();
        let names = names.map_err(|err| fs::failed("reading the data folder", self.folder.path(), err))?;
        Ok(names.filter_map(|name| reservation::address_of(name.ok()?.to_str()?)).collect())
    }

    /// Makes the index again, where it is found to differ from the files.
    pub(crate) fn rebuild_index(&mut self) -> Result<()> {
        self.search(Reclaim::Nothing)
    }

    /// Releases an address that an owner holds.
    pub(crate) fn release(&mut self, ip: IpAddr, owner: &Owner) -> Result<()> {
        self.index.begin();
        let name = reservation::file_name(ip);
        self.folder
            .remove(&name)
            .map_err(|err| fs::failed("removing the reservation", &self.folder.path().join(&name), err))?;
        if self.index.remove(Entry::new(ip, owner)).is_err() {
            self.search(Reclaim::Nothing)?;
        }
        Ok(())
    }

    /// Releases every address whose owner is not to be kept.
    ///
    /// Other machines can have the folder mounted. Only they know which of their attachments are
    /// valid: what another machine reserved is kept, and on a network file system also what has no
    /// mark.
    pub(crate) fn release_unless(&mut self, keep: impl Fn(&Owner) -> bool) -> Result<()> {
        // Where the kernel does not report the file system, nothing is released by mistake.
        let is_shared = (self.is_shared)(&self.folder).unwrap_or(true);
        let mut errors = Vec::new();
        for ip in self.addresses()? {
            let Some((owner, contents, file)) = self.read(&reservation::file_name(ip)) else {
                continue;
            };
            let is_ours = match self.origin(&file, &contents) {
                Origin::ThisBoot | Origin::EarlierBoot => true,
                Origin::Unknown => !is_shared,
                Origin::OtherMachine => false,
            };
            if is_ours && !owner.is_empty() && !keep(&owner) {
                errors.extend(self.release(ip, &owner).err());
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

/// The hash of the content in the attribute, so that an edited file is not reclaimed.
fn seal(contents: &[u8]) -> String {
    format!("{:016x}", hash::of_bytes(contents))
}
