//! A hash table in pages: open addressing with linear probing, no marks for what is gone.

use std::io;

use super::pages::{BODY, Pages};

/// A table of slots of `size` bytes. A slot begins with its hash, little endian, and the
/// byte after that is 0 where the slot is free.
#[derive(Clone, Copy)]
pub(super) struct Table {
    first_page: u32,
    pages: u32,
    size: usize,
}

/// Where in a slot stands whether it is taken.
pub(super) const STATE: usize = 8;

impl Table {
    /// A table on some of the pages.
    pub(super) fn new(first_page: u32, pages: u32, size: usize) -> Table {
        Table { first_page, pages, size }
    }

    /// The pages that a table needs to be at most half full with that many slots.
    pub(super) fn pages_for(slots: u64, size: usize) -> u32 {
        let per_page = (BODY / size) as u64;
        u32::try_from((2 * slots).div_ceil(per_page).max(1)).unwrap_or(u32::MAX)
    }

    /// Whether probing would become slow with that many slots taken.
    pub(super) fn is_crowded(self, taken: u64) -> bool {
        taken >= self.capacity() / 4 * 3
    }

    fn per_page(self) -> u64 {
        (BODY / self.size) as u64
    }

    pub(super) fn capacity(self) -> u64 {
        u64::from(self.pages) * self.per_page()
    }

    fn place(self, slot: u64) -> (u32, std::ops::Range<usize>) {
        // Both fit: a slot is below the capacity.
        let page = self.first_page + (slot / self.per_page()) as u32;
        let start = (slot % self.per_page()) as usize * self.size;
        (page, start..start + self.size)
    }

    /// The slot of that number; `None` where it is free.
    pub(super) fn slot(self, pages: &mut Pages, slot: u64) -> io::Result<Option<&[u8]>> {
        let (page, range) = self.place(slot);
        let bytes = &pages.read(page)?[range];
        Ok((bytes[STATE] != 0).then_some(bytes))
    }

    /// The slot of that number, to change.
    pub(super) fn slot_mut(self, pages: &mut Pages, slot: u64) -> io::Result<&mut [u8]> {
        let (page, range) = self.place(slot);
        Ok(&mut pages.change(page)?[range])
    }

    fn home(self, slot: &[u8]) -> u64 {
        hash_of(slot) % self.capacity()
    }

    /// The number of the slot with that hash for which `is_it` holds.
    pub(super) fn find(
        self,
        pages: &mut Pages,
        hash: u64,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Option<u64>> {
        let home = hash % self.capacity();
        for step in 0..self.capacity() {
            let number = (home + step) % self.capacity();
            match self.slot(pages, number)? {
                Some(slot) if hash_of(slot) == hash && is_it(slot) => return Ok(Some(number)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    /// Puts a slot into the table.
    pub(super) fn insert(self, pages: &mut Pages, slot: &[u8]) -> io::Result<()> {
        let home = self.home(slot);
        for step in 0..self.capacity() {
            let number = (home + step) % self.capacity();
            if self.slot(pages, number)?.is_none() {
                self.slot_mut(pages, number)?.copy_from_slice(slot);
                return Ok(());
            }
        }
        // The caller makes a larger table before this one is full: the file is damaged.
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Takes a slot out, and moves those up that probing would miss behind the gap
    /// (Knuth, The Art of Computer Programming 3, algorithm 6.4 R).
    pub(super) fn remove(self, pages: &mut Pages, slot: u64) -> io::Result<()> {
        let capacity = self.capacity();
        let distance = |from: u64, to: u64| (to + capacity - from) % capacity;
        let mut gap = slot;
        for step in 1..capacity {
            let number = (slot + step) % capacity;
            let Some(other) = self.slot(pages, number)? else {
                break;
            };
            if distance(self.home(other), number) >= distance(gap, number) {
                let other = other.to_vec();
                self.slot_mut(pages, gap)?.copy_from_slice(&other);
                gap = number;
            }
        }
        self.slot_mut(pages, gap)?.fill(0);
        Ok(())
    }
}

fn hash_of(slot: &[u8]) -> u64 {
    slot.first_chunk().map_or(0, |hash| u64::from_le_bytes(*hash))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn slot(hash: u64, value: u8) -> [u8; 256] {
        let mut slot = [0; 256];
        slot[..8].copy_from_slice(&hash.to_le_bytes());
        slot[STATE] = 1;
        slot[9] = value;
        slot
    }

    proptest! {
        // One page of 15 slots and few hashes: every run wraps around and collides.
        #[test]
        fn a_table_holds_what_was_put_in_and_not_taken_out(steps in proptest::collection::vec((0u64..20, any::<bool>()), 0..200)) {
            let table = Table::new(0, 1, 256);
            let mut pages = Pages::empty();
            let mut model: BTreeMap<(u64, u8), ()> = BTreeMap::new();
            for (i, (hash, put)) in steps.into_iter().enumerate() {
                let value = i as u8;
                if put && model.len() < 14 {
                    if model.insert((hash, value), ()).is_none() {
                        table.insert(&mut pages, &slot(hash, value)).unwrap();
                    }
                } else if let Some(first) = table.find(&mut pages, hash, |_| true).unwrap() {
                    let value = table.slot(&mut pages, first).unwrap().unwrap()[9];
                    table.remove(&mut pages, first).unwrap();
                    prop_assert!(model.remove(&(hash, value)).is_some());
                }
                for (hash, value) in model.keys() {
                    prop_assert!(table.find(&mut pages, *hash, |slot| slot[9] == *value).unwrap().is_some());
                }
                let taken = (0..table.capacity()).filter(|n| table.slot(&mut pages, *n).unwrap().is_some()).count();
                prop_assert_eq!(taken, model.len());
            }
        }
    }
}
