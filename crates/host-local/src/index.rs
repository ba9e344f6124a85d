//! The index: which addresses an owner holds and which are free, without reading the data folder.
//!
//! The reservation files are the truth. The index is a folder of small files elsewhere. It is
//! valid while its stamp is the modification time of the data folder, and can be deleted, cut
//! off or overwritten at any time: the store then makes it again from the reservation files.
//!
//! ```text
//! state      JSON: the format, the stamp, the number of buckets and of entries
//! 0, 1, ...  a bucket: a checksum, then records of 48 bytes
//! ```
//!
//! Each reservation has two records: one under the hash of its owner and one under the hash of
//! its block of 256 addresses. The hash selects the bucket.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_core::fs::{Folder, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hash;
use crate::range::{RangeSet, address, number};
use crate::reservation::Owner;

/// The layout of the files and of the hashes in them.
const FORMAT: &str = "oxcni host-local index 3";

const STATE: &str = "state";

/// The longest file of an index that is read, in bytes.
const MAX_LEN: usize = 64 << 20;

/// Records per bucket of a new index, on average: three of the four KiB of a page.
const FILL: u64 = 64;

/// The words of a record: key, owner, container, family, and the address in two.
const WORDS: usize = 6;

/// One reservation, as the index has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The hash of the owner.
    owner: u64,
    /// The hash of the container ID.
    container: u64,
    ip: IpAddr,
}

impl Entry {
    /// The entry of a reservation.
    pub(crate) fn new(ip: IpAddr, owner: &Owner) -> Entry {
        Entry { owner: hash_of_owner(owner), container: hash::of_bytes(owner.container_id()), ip }
    }

    fn keys(self) -> [u64; 2] {
        [self.owner, hash_of_block(self.ip)]
    }
}

fn hash_of_owner(owner: &Owner) -> u64 {
    hash::of_bytes(&owner.contents())
}

/// The hash of an address' block of 256.
fn hash_of_block(ip: IpAddr) -> u64 {
    let mut bytes = [0; 17];
    bytes[0] = family(ip);
    bytes[1..].copy_from_slice(&(number(ip) >> 8).to_le_bytes());
    hash::of_bytes(&bytes)
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

/// An entry under one of its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Record {
    key: u64,
    entry: Entry,
}

impl Record {
    fn to_words(self) -> [u64; WORDS] {
        let Entry { owner, container, ip } = self.entry;
        let bits = number(ip);
        [self.key, owner, container, family(ip).into(), bits as u64, (bits >> 64) as u64]
    }

    fn from_words(words: [u64; WORDS]) -> Option<Record> {
        let [key, owner, container, family, low, high] = words;
        let bits = u128::from(high) << 64 | u128::from(low);
        let ip = match family {
            4 => address([0, 0, 0, 0].into(), bits),
            6 => address([0; 16].into(), bits),
            _ => return None,
        };
        Some(Record { key, entry: Entry { owner, container, ip } })
    }
}

/// Some of the records, and whether their file has to be written.
#[derive(Default)]
struct Bucket {
    records: Vec<Record>,
    changed: bool,
}

impl Bucket {
    /// The content of the file of a bucket.
    fn to_bytes(&self, number: u32, buckets: u32) -> Vec<u8> {
        let words = self.records.iter().flat_map(|record| record.to_words());
        let sum = checksum(number, buckets, words.clone());
        std::iter::once(sum).chain(words).flat_map(u64::to_le_bytes).collect()
    }

    /// Reads a file; `None` where it is damaged.
    fn from_bytes(bytes: &[u8], number: u32, buckets: u32) -> Option<Bucket> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (sum, words) = words.split_first()?;
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let sum_is_right = u64::from_le_bytes(*sum) == checksum(number, buckets, words.iter().copied());
        if !rest.is_empty() || !sum_is_right {
            return None;
        }
        let (records, rest) = words.as_chunks::<WORDS>();
        let records = records.iter().map(|words| Record::from_words(*words)).collect::<Option<_>>()?;
        rest.is_empty().then_some(Bucket { records, changed: false })
    }
}

/// Reads any bytes as the file of a bucket; with the right checksum, too, which hides the rest of the
/// parser from random bytes.
pub(crate) fn fuzz_bucket(number: u32, buckets: u32, bytes: &[u8]) {
    let _ = Bucket::from_bytes(bytes, number, buckets);
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let sum = checksum(number, buckets, words.iter().copied());
    let file: Vec<u8> = std::iter::once(sum).chain(words).flat_map(u64::to_le_bytes).collect();
    if let Some(bucket) = Bucket::from_bytes(&file, number, buckets) {
        let again = bucket.to_bytes(number, buckets);
        let again = Bucket::from_bytes(&again, number, buckets).map(|bucket| bucket.records.len());
        assert_eq!(again, Some(bucket.records.len()), "a bucket does not survive its own file");
    }
}

/// The checksum of a bucket. It covers its number and the number of buckets: a file in the
/// place of another is as wrong as a torn one.
fn checksum(number: u32, buckets: u32, words: impl Iterator<Item = u64>) -> u64 {
    let seed = u64::from(buckets) << 32 | u64::from(number);
    words.fold(hash::mix(seed), |sum, word| hash::mix(sum ^ word))
}

/// What the index knows of itself.
#[derive(Serialize, Deserialize, Clone, Debug)]
struct State {
    format: String,
    /// The modification time of the data folder; `None` while the index is being changed.
    stamp: Option<(i64, i64)>,
    /// The boot in which the data folder was searched for reservations of earlier boots.
    reclaimed_in: Option<String>,
    buckets: u32,
    entries: u64,
    /// The data folder.
    data: PathBuf,
}

impl State {
    fn empty() -> State {
        State {
            format: FORMAT.to_owned(),
            stamp: None,
            reclaimed_in: None,
            buckets: 1,
            entries: 0,
            data: PathBuf::new(),
        }
    }

    fn read(folder: &Folder) -> Option<State> {
        let state: State = serde_json::from_slice(&folder.read(STATE, 4096).ok()??).ok()?;
        (state.format == FORMAT && state.buckets > 0).then_some(state)
    }
}

/// The index of one data folder.
pub(crate) struct Index {
    /// The folder of its files; `None` where it is kept in memory only.
    folder: Option<Folder>,
    /// Whether a write has failed. The next call makes the index again then.
    write_failed: bool,
    state: State,
    loaded: BTreeMap<u32, Bucket>,
    /// Whether all buckets are in memory, and none of the files counts.
    whole: bool,
    changing: bool,
}

impl Index {
    /// Opens the index of a data folder. Where there is none, it is empty and agrees with nothing.
    pub(crate) fn open(folder: Option<Folder>, data: &Path) -> Index {
        let state = folder.as_ref().and_then(State::read);
        let whole = state.is_none();
        let mut state = state.unwrap_or_else(State::empty);
        data.clone_into(&mut state.data);
        Index { folder, write_failed: false, state, loaded: BTreeMap::new(), whole, changing: false }
    }

    /// The data folder of an index; `None` where the index can't be read.
    pub(crate) fn data_of(folder: &Folder) -> Option<PathBuf> {
        State::read(folder).map(|state| state.data)
    }

    /// Whether it was made from a data folder of that modification time.
    pub(crate) fn agrees_with(&self, modified: Timestamp) -> bool {
        self.state.stamp == Some((modified.sec, modified.nsec))
    }

    /// The boot in which the data folder was searched for reservations of earlier boots.
    pub(crate) fn reclaimed_in(&self) -> Option<&str> {
        self.state.reclaimed_in.as_deref()
    }

    /// Notes that the data folder was searched in this boot.
    pub(crate) fn set_reclaimed_in(&mut self, boot: Option<&str>) {
        self.state.reclaimed_in = boot.map(str::to_owned);
    }

    /// Whether [`Index::begin`] was called, and [`Index::finish`] was not.
    pub(crate) fn is_changing(&self) -> bool {
        self.changing
    }

    /// Marks the files as invalid. To be called before the data folder is changed.
    pub(crate) fn begin(&mut self) {
        if std::mem::replace(&mut self.changing, true) {
            return;
        }
        self.state.stamp = None;
        self.write_failed = self.write_state().is_err();
    }

    /// Writes what has changed and marks the files as valid for that modification time.
    ///
    /// # Errors
    /// Those of open(2) and write(2); the files stay invalid.
    pub(crate) fn finish(&mut self, modified: Timestamp) -> io::Result<()> {
        self.changing = false;
        let Some(folder) = self.folder.as_ref().filter(|_| !self.write_failed) else {
            return Ok(());
        };
        if self.whole {
            remove_except(folder, self.state.buckets)?;
            for number in 0..self.state.buckets {
                self.loaded.entry(number).or_default().changed = true;
            }
            self.whole = false;
        }
        for (number, bucket) in self.loaded.iter_mut().filter(|(_, bucket)| bucket.changed) {
            folder.overwrite(&number.to_string(), &bucket.to_bytes(*number, self.state.buckets), 0o600)?;
            bucket.changed = false;
        }
        self.state.stamp = Some((modified.sec, modified.nsec));
        self.write_state()
    }

    fn write_state(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        folder.overwrite(STATE, &serde_json::to_vec(&self.state)?, 0o600)
    }

    /// Ends as a process does that is killed: nothing more is written.
    #[cfg(test)]
    pub(crate) fn abandon(&mut self) {
        self.write_failed = true;
    }

    /// Replaces all entries.
    pub(crate) fn fill(&mut self, entries: &[Entry]) {
        let buckets = (2 * entries.len() as u64).div_ceil(FILL).max(1);
        self.state.buckets = u32::try_from(buckets).unwrap_or(u32::MAX);
        self.state.entries = 0;
        self.loaded.clear();
        self.whole = true;
        for entry in entries {
            // Without a file there is nothing that could fail.
            let _ = self.put(*entry);
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub(crate) fn insert(&mut self, entry: Entry) -> io::Result<()> {
        if self.state.entries > FILL * u64::from(self.state.buckets) {
            let entries = self.entries()?;
            self.fill(&entries);
        }
        self.put(entry)
    }

    fn put(&mut self, entry: Entry) -> io::Result<()> {
        for key in entry.keys() {
            let bucket = self.bucket_of(key)?;
            bucket.records.push(Record { key, entry });
            bucket.changed = true;
        }
        self.state.entries += 1;
        Ok(())
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// When a file is missing or damaged, or has no such entry.
    pub(crate) fn remove(&mut self, entry: Entry) -> io::Result<()> {
        for key in entry.keys() {
            let bucket = self.bucket_of(key)?;
            // From the end: the addresses of an owner are released in that order.
            let found = bucket.records.iter().rposition(|record| *record == Record { key, entry });
            bucket.records.remove(found.ok_or(io::ErrorKind::InvalidData)?);
            bucket.changed = true;
        }
        self.state.entries = self.state.entries.saturating_sub(1);
        Ok(())
    }

    /// The addresses that an owner may hold: all that it holds, and where two hashes are equal
    /// others too. The reservation file has to be compared.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub(crate) fn held_by(&mut self, owner: &Owner) -> io::Result<Vec<IpAddr>> {
        let key = hash_of_owner(owner);
        Ok(self.entries_under(key)?.filter(|entry| entry.owner == key).map(|entry| entry.ip).collect())
    }

    /// The first free address from `from` to `to`, both inclusive, that is not the gateway.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub(crate) fn first_free(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        gateway: IpAddr,
    ) -> io::Result<Option<IpAddr>> {
        let (mut next, last) = (number(from), number(to));
        // Each turn skips a block of which every address is held, so there are at most as many
        // turns as reservations, whatever the size of the range.
        while next <= last {
            let end = last.min(next | 0xff);
            let mut held = [false; 256];
            for entry in self.entries_under(hash_of_block(address(from, next)))? {
                if entry.ip.is_ipv4() == from.is_ipv4() && number(entry.ip) >> 8 == next >> 8 {
                    held[(number(entry.ip) & 0xff) as usize] = true;
                }
            }
            let is_free = |n: &u128| !held[(n & 0xff) as usize] && address(from, *n) != gateway;
            if let Some(free) = (next..=end).find(is_free) {
                return Ok(Some(address(from, free)));
            }
            let Some(after) = end.checked_add(1) else {
                break;
            };
            next = after;
        }
        Ok(None)
    }

    /// How many addresses of a range set are held, and by how many containers.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub(crate) fn count_in(&mut self, set: &RangeSet) -> io::Result<(usize, usize)> {
        let can_be_given =
            |entry: &Entry| set.range_of(entry.ip).is_some_and(|range| entry.ip != range.gateway);
        let held: Vec<Entry> = self.entries()?.into_iter().filter(can_be_given).collect();
        let containers: HashSet<u64> = held.iter().map(|entry| entry.container).collect();
        Ok((held.len(), containers.len()))
    }

    fn entries(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for number in 0..self.state.buckets {
            // The records under the owner: each entry once.
            let records = self.bucket(number)?.records.iter();
            entries
                .extend(records.filter(|record| record.key == record.entry.owner).map(|record| record.entry));
        }
        Ok(entries)
    }

    fn entries_under(&mut self, key: u64) -> io::Result<impl Iterator<Item = Entry>> {
        let records = self.bucket_of(key)?.records.iter();
        Ok(records.filter(move |record| record.key == key).map(|record| record.entry))
    }

    fn bucket_of(&mut self, key: u64) -> io::Result<&mut Bucket> {
        // The remainder is less than the number of buckets.
        self.bucket((key % u64::from(self.state.buckets)) as u32)
    }

    fn bucket(&mut self, number: u32) -> io::Result<&mut Bucket> {
        use std::collections::btree_map::Entry;
        let place = match self.loaded.entry(number) {
            Entry::Occupied(bucket) => return Ok(bucket.into_mut()),
            Entry::Vacant(place) => place,
        };
        let bucket = match &self.folder {
            Some(folder) if !self.whole => {
                let bytes = folder.read(&number.to_string(), MAX_LEN)?;
                let bucket = bytes.and_then(|bytes| Bucket::from_bytes(&bytes, number, self.state.buckets));
                bucket.ok_or(io::ErrorKind::InvalidData)?
            }
            _ => Bucket::default(),
        };
        Ok(place.insert(bucket))
    }
}

/// Removes every file but the state and the buckets below a number.
fn remove_except(folder: &Folder, buckets: u32) -> io::Result<()> {
    for name in folder.names()? {
        let name = name?;
        let Some(name) = name.to_str() else {
            continue;
        };
        let is_bucket = name.parse().is_ok_and(|number: u32| number < buckets);
        if name != STATE && !is_bucket {
            folder.remove(name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
