//! The index: which addresses an owner holds and which are free, without reading a folder.
//!
//! The reservation files are the truth. The index is a file elsewhere that says the same as
//! they do for as long as its stamp is the time at which the folder was changed last; it may
//! be deleted, cut off or scribbled over at any time, and is then made again from the files.
//!
//! ```text
//! page 0           magic, stamp, sizes, the boot in which the files were looked through
//! pages of owners  slots of 40 bytes: hash of owner and n, family, hash of the container, owner, n-th address
//! pages of blocks  slots of 64 bytes: hash of the base, family, base, a bit for each of 256 addresses
//! ```

pub(crate) mod hash;
mod header;
mod pages;
mod table;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

pub(crate) use header::{BootId, Header};
use pages::{PAGE, Pages};
use table::{STATE, Table};

use crate::range::{Range, RangeSet, address, number};
use crate::reservation::Owner;

const OWNER_SLOT: usize = 40;
const BLOCK_SLOT: usize = 64;
const BITMAP: usize = 32;
const OWNER: usize = 16;
const ADDRESS: usize = 24;

/// One reservation, as the index knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    owner: u64,
    container: u64,
    ip: IpAddr,
}

impl Entry {
    /// The entry of a reservation.
    pub(crate) fn new(ip: IpAddr, owner: &Owner) -> Entry {
        // One byte of a slot is its state: the container's hash has the other seven.
        let container = hash::of_bytes(owner.container_id()) >> 8;
        Entry { owner: hash::of_owner(owner), container, ip }
    }

    /// The slot of an owner's n-th address.
    fn to_slot(self, n: u64) -> [u8; OWNER_SLOT] {
        let mut slot = [0; OWNER_SLOT];
        slot[..8].copy_from_slice(&hash::of_nth(self.owner, n).to_le_bytes());
        slot[8..16].copy_from_slice(&(self.container << 8 | u64::from(family(self.ip))).to_le_bytes());
        slot[OWNER..ADDRESS].copy_from_slice(&self.owner.to_le_bytes());
        slot[ADDRESS..].copy_from_slice(&number(self.ip).to_le_bytes());
        slot
    }

    fn from_slot(slot: &[u8]) -> io::Result<Entry> {
        let word =
            |at: usize| slot.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u64::from_le_bytes);
        let bits = slot.get(ADDRESS..).and_then(|rest| rest.first_chunk()).copied().map(u128::from_le_bytes);
        let (Some(second), Some(owner), Some(bits)) = (word(8), word(OWNER), bits) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let ip = match slot[STATE] {
            4 => address([0, 0, 0, 0].into(), bits),
            6 => address([0; 16].into(), bits),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Entry { owner, container: second >> 8, ip })
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

/// The index of one network's folder.
pub(crate) struct Index {
    pages: Pages,
    header: Header,
    /// Whether all pages have to be written, and not only those that changed.
    whole: bool,
}

impl Index {
    /// Reads the beginning of an index file.
    ///
    /// # Errors
    /// When it is none of this format, or not whole.
    pub(crate) fn read(file: Rc<File>) -> io::Result<Index> {
        let len = file.metadata()?.len();
        let mut pages = Pages::of(file);
        let header = Header::read(pages.read(0)?).ok_or(io::ErrorKind::InvalidData)?;
        if len != header.pages() * PAGE as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Index { pages, header, whole: false })
    }

    /// The index of some reservations, with room for as many again.
    ///
    /// # Errors
    /// None that can happen: the pages are in memory.
    pub(crate) fn of(entries: impl ExactSizeIterator<Item = Entry> + Clone) -> io::Result<Index> {
        let mut blocks: Vec<_> =
            entries.clone().map(|entry| (family(entry.ip), number(entry.ip) >> 8)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let header = Header {
            owner_pages: Table::pages_for(entries.len() as u64, OWNER_SLOT),
            block_pages: Table::pages_for(blocks.len() as u64, BLOCK_SLOT),
            ..Header::default()
        };
        let mut index = Index { pages: Pages::empty(), header, whole: true };
        for entry in entries {
            index.put(entry)?;
        }
        Ok(index)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Notes in which boot the folder was searched for reservations of earlier ones.
    pub(crate) fn set_reclaimed_in(&mut self, boot: Option<BootId>) {
        self.header.reclaimed_in = boot;
    }

    fn owners(&self) -> Table {
        Table::new(1, self.header.owner_pages, OWNER_SLOT)
    }

    fn blocks(&self) -> Table {
        Table::new(1 + self.header.owner_pages, self.header.block_pages, BLOCK_SLOT)
    }

    /// Writes all that changed but the header, which says that the rest is not to be trusted
    /// until [`Index::write_header`].
    ///
    /// # Errors
    /// Those of write(2).
    pub(crate) fn write_tables(&mut self, file: &File) -> io::Result<()> {
        if self.whole {
            // Not by way of 0: ext4 writes a file to the disk that was cut off entirely. Every
            // page is written here anyway.
            file.set_len(self.header.pages() * PAGE as u64)?;
            for page in 1..self.header.pages() {
                self.pages.change(u32::try_from(page).unwrap_or(u32::MAX))?;
            }
            self.whole = false;
        }
        self.pages.write_changed(file)
    }

    /// Writes the header with a stamp, or with none.
    ///
    /// # Errors
    /// Those of write(2).
    pub(crate) fn write_header(&self, file: &File, header: &Header) -> io::Result<()> {
        let mut page = Pages::empty();
        header.write(page.change(0)?);
        page.write_changed(file)
    }

    /// The addresses that an owner may hold: all that it does, and by a rare chance others,
    /// so that the file has to be looked at.
    ///
    /// # Errors
    /// When the index can't be read or is damaged.
    pub(crate) fn held_by(&mut self, owner: &Owner) -> io::Result<Vec<IpAddr>> {
        let owner = hash::of_owner(owner);
        let mut held = Vec::new();
        while let Some(entry) = self.nth(owner, held.len() as u64)? {
            held.push(entry.ip);
        }
        Ok(held)
    }

    /// An owner's n-th reservation.
    fn nth(&mut self, owner: u64, n: u64) -> io::Result<Option<Entry>> {
        let owners = self.owners();
        let Some(slot) = self.slot_of_nth(owner, n)? else {
            return Ok(None);
        };
        owners.slot(&mut self.pages, slot)?.map(Entry::from_slot).transpose()
    }

    fn slot_of_nth(&mut self, owner: u64, n: u64) -> io::Result<Option<u64>> {
        let bytes = owner.to_le_bytes();
        self.owners().find(&mut self.pages, hash::of_nth(owner, n), |slot| slot[OWNER..ADDRESS] == bytes)
    }

    /// How many reservations an owner has. They are numbered without gaps, so that the
    /// number is found in a few steps.
    fn count(&mut self, owner: u64) -> io::Result<u64> {
        let mut above = 1;
        while above <= self.header.owners && self.slot_of_nth(owner, above - 1)?.is_some() {
            above *= 2;
        }
        let mut below = above / 2;
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            if self.slot_of_nth(owner, middle - 1)?.is_some() { below = middle } else { above = middle }
        }
        Ok(below)
    }

    /// Notes a reservation.
    ///
    /// # Errors
    /// When the index can't be read or is damaged.
    pub(crate) fn insert(&mut self, entry: Entry) -> io::Result<()> {
        let (owners, blocks) = (self.owners(), self.blocks());
        if owners.is_crowded(self.header.owners) || blocks.is_crowded(self.header.blocks) {
            let entries = self.entries()?;
            let header = self.header.clone();
            *self = Index::of(entries.into_iter())?;
            self.header.reclaimed_in = header.reclaimed_in;
        }
        self.put(entry)
    }

    fn put(&mut self, entry: Entry) -> io::Result<()> {
        let blocks = self.blocks();
        let n = self.count(entry.owner)?;
        self.owners().insert(&mut self.pages, &entry.to_slot(n))?;
        self.header.owners += 1;
        let slot = match self.block(entry.ip)? {
            Some(slot) => slot,
            None => {
                blocks.insert(&mut self.pages, &empty_block(entry.ip))?;
                self.header.blocks += 1;
                self.block(entry.ip)?.ok_or(io::ErrorKind::InvalidData)?
            }
        };
        let (byte, bit) = bit_of(entry.ip);
        blocks.slot_mut(&mut self.pages, slot)?[BITMAP + byte] |= bit;
        Ok(())
    }

    /// Forgets a reservation.
    ///
    /// # Errors
    /// When the index can't be read, is damaged, or did not know it.
    pub(crate) fn remove(&mut self, entry: Entry) -> io::Result<()> {
        let (owners, blocks) = (self.owners(), self.blocks());
        let count = self.count(entry.owner)?;
        let last = count.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
        // From the end: whoever releases all of an owner does so too.
        let mut n = last;
        while self.nth(entry.owner, n)?.is_none_or(|nth| nth.ip != entry.ip) {
            n = n.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
        }
        if let (Some(moved), Some(slot)) = (self.nth(entry.owner, last)?, self.slot_of_nth(entry.owner, n)?) {
            owners.slot_mut(&mut self.pages, slot)?.copy_from_slice(&moved.to_slot(n));
        }
        let slot = self.slot_of_nth(entry.owner, last)?.ok_or(io::ErrorKind::InvalidData)?;
        owners.remove(&mut self.pages, slot)?;
        self.header.owners = self.header.owners.saturating_sub(1);
        let slot = self.block(entry.ip)?.ok_or(io::ErrorKind::InvalidData)?;
        let (byte, bit) = bit_of(entry.ip);
        let block = blocks.slot_mut(&mut self.pages, slot)?;
        block[BITMAP + byte] &= !bit;
        if block[BITMAP..].iter().all(|byte| *byte == 0) {
            blocks.remove(&mut self.pages, slot)?;
            self.header.blocks = self.header.blocks.saturating_sub(1);
        }
        Ok(())
    }

    /// The slot of an address' block; `None` when nothing of the block is held.
    fn block(&mut self, ip: IpAddr) -> io::Result<Option<u64>> {
        let wanted = empty_block(ip);
        let hash = hash_of_block(ip);
        self.blocks().find(&mut self.pages, hash, |slot| slot[..BITMAP] == wanted[..BITMAP])
    }

    /// The first address that nobody holds from `from` to the end of a range, but not its gateway.
    ///
    /// # Errors
    /// When the index can't be read or is damaged.
    pub(crate) fn first_free(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        gateway: IpAddr,
    ) -> io::Result<Option<IpAddr>> {
        let (mut next, last) = (number(from), number(to));
        let gateway = (gateway.is_ipv4() == from.is_ipv4()).then(|| number(gateway));
        // Each turn passes a block of which all was held: there are at most as many of those
        // as reservations, whatever the size of the range.
        while next <= last {
            let end = last.min(next | 0xff);
            let held: [u8; BITMAP] = match self.block(address(from, next))? {
                Some(slot) => {
                    let slot = self.blocks().slot(&mut self.pages, slot)?;
                    slot.and_then(|slot| slot[BITMAP..].first_chunk().copied()).unwrap_or_default()
                }
                None => [0; BITMAP],
            };
            let is_held = |n: u128| {
                let (byte, bit) = bit(n);
                held[byte] & bit != 0
            };
            if let Some(free) = (next..=end).find(|n| Some(*n) != gateway && !is_held(*n)) {
                return Ok(Some(address(from, free)));
            }
            let Some(after) = end.checked_add(1) else {
                break;
            };
            next = after;
        }
        Ok(None)
    }

    /// How many containers hold how many addresses of a range set.
    ///
    /// # Errors
    /// When the index can't be read or is damaged.
    pub(crate) fn count_in(&mut self, set: &RangeSet) -> io::Result<(u64, usize)> {
        let allocatable = |range: &Range, ip| ip != range.gateway;
        let entries = self.entries()?;
        let held: Vec<_> = entries
            .iter()
            .filter(|entry| set.range_of(entry.ip).is_some_and(|range| allocatable(range, entry.ip)))
            .collect();
        let containers: HashSet<u64> = held.iter().map(|entry| entry.container).collect();
        Ok((held.len() as u64, containers.len()))
    }

    /// All reservations.
    fn entries(&mut self) -> io::Result<Vec<Entry>> {
        let owners = self.owners();
        let mut entries = Vec::new();
        for slot in 0..owners.capacity() {
            if let Some(slot) = owners.slot(&mut self.pages, slot)? {
                entries.push(Entry::from_slot(slot)?);
            }
        }
        Ok(entries)
    }
}

fn bit(number: u128) -> (usize, u8) {
    let low = (number & 0xff) as usize;
    (low / 8, 1 << (low % 8))
}

fn bit_of(ip: IpAddr) -> (usize, u8) {
    bit(number(ip))
}

fn hash_of_block(ip: IpAddr) -> u64 {
    let mut bytes = [0; 17];
    bytes[0] = family(ip);
    bytes[1..].copy_from_slice(&(number(ip) >> 8).to_le_bytes());
    hash::of_bytes(&bytes)
}

fn empty_block(ip: IpAddr) -> [u8; BLOCK_SLOT] {
    let mut slot = [0; BLOCK_SLOT];
    slot[..8].copy_from_slice(&hash_of_block(ip).to_le_bytes());
    slot[STATE] = family(ip);
    slot[16..32].copy_from_slice(&(number(ip) >> 8 << 8).to_le_bytes());
    slot
}

#[cfg(test)]
mod tests;
