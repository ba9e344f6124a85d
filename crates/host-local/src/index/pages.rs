//! A file in pages, each with a checksum, read when asked for and written together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::hash;

/// The size of a page in the file, in bytes.
pub(super) const PAGE: usize = 4096;

/// What a page has room for: all but its checksum.
pub(super) const BODY: usize = PAGE - SUM;

const SUM: usize = 8;

/// The pages of an index, in memory as far as they were asked for.
pub(super) struct Pages {
    /// Where pages come from that are not in memory; without it they are empty.
    file: Option<Rc<File>>,
    loaded: BTreeMap<u32, Page>,
}

struct Page {
    bytes: Box<[u8; PAGE]>,
    changed: bool,
}

impl Pages {
    /// Pages that are all empty.
    pub(super) fn empty() -> Pages {
        Pages { file: None, loaded: BTreeMap::new() }
    }

    /// The pages of a file.
    pub(super) fn of(file: Rc<File>) -> Pages {
        Pages { file: Some(file), loaded: BTreeMap::new() }
    }

    /// A page to read.
    pub(super) fn read(&mut self, number: u32) -> io::Result<&[u8]> {
        Ok(&self.load(number)?.bytes[SUM..])
    }

    /// A page to change.
    pub(super) fn change(&mut self, number: u32) -> io::Result<&mut [u8]> {
        let page = self.load(number)?;
        page.changed = true;
        Ok(&mut page.bytes[SUM..])
    }

    fn load(&mut self, number: u32) -> io::Result<&mut Page> {
        use std::collections::btree_map::Entry;
        match self.loaded.entry(number) {
            Entry::Occupied(page) => Ok(page.into_mut()),
            Entry::Vacant(place) => {
                let mut bytes = Box::new([0; PAGE]);
                if let Some(file) = &self.file {
                    file.read_exact_at(&mut bytes[..], offset(number))?;
                    if bytes[..SUM] != checksum(number, &bytes) {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
                Ok(place.insert(Page { bytes, changed: false }))
            }
        }
    }

    /// Writes what was changed, and keeps it in memory.
    pub(super) fn write_changed(&mut self, file: &File) -> io::Result<()> {
        for (number, page) in &mut self.loaded {
            if page.changed {
                let sum = checksum(*number, &page.bytes);
                page.bytes[..SUM].copy_from_slice(&sum);
                file.write_all_at(&page.bytes[..], offset(*number))?;
                page.changed = false;
            }
        }
        Ok(())
    }
}

fn offset(number: u32) -> u64 {
    u64::from(number) * PAGE as u64
}

/// The checksum of a page of that number: a page in another's place is as wrong as a torn one.
fn checksum(number: u32, page: &[u8; PAGE]) -> [u8; SUM] {
    let words = page[SUM..].chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    let sum = words.fold(u64::from(number) + 1, |sum, word| hash::mix(sum ^ word));
    sum.to_le_bytes()
}
