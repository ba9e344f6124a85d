//! The first page of an index.

use cni_core::fs::Timestamp;

/// Says what the file is, and the version of its layout and of its hashes.
const MAGIC: &[u8; 8] = b"oxcniHL1";

/// The text of `/proc/sys/kernel/random/boot_id`, a UUID.
pub(crate) type BootId = [u8; 36];

/// The header of an index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Header {
    /// The time of the folder's last change that the index agrees with; `None` while the
    /// index is being changed.
    pub(crate) stamp: Option<Timestamp>,
    /// The boot in which the folder was searched for reservations of earlier ones.
    pub(crate) reclaimed_in: Option<BootId>,
    /// The pages of the table of owners.
    pub(super) owner_pages: u32,
    /// The pages of the table of blocks.
    pub(super) block_pages: u32,
    /// How many slots of owners are taken.
    pub(super) owners: u64,
    /// How many slots of blocks are taken.
    pub(super) blocks: u64,
}

const STAMPED: u8 = 1;
const RECLAIMED: u8 = 2;

impl Header {
    /// The pages of the whole file.
    pub(super) fn pages(&self) -> u64 {
        1 + u64::from(self.owner_pages) + u64::from(self.block_pages)
    }

    /// Reads a page; `None` when it is no header of this format.
    pub(super) fn read(page: &[u8]) -> Option<Header> {
        let mut reader = Reader(page);
        if reader.take()? != *MAGIC {
            return None;
        }
        let [flags] = reader.take()?;
        let stamp =
            Timestamp { sec: i64::from_le_bytes(reader.take()?), nsec: i64::from_le_bytes(reader.take()?) };
        let boot: BootId = reader.take()?;
        let header = Header {
            stamp: (flags & STAMPED != 0).then_some(stamp),
            reclaimed_in: (flags & RECLAIMED != 0).then_some(boot),
            owner_pages: u32::from_le_bytes(reader.take()?),
            block_pages: u32::from_le_bytes(reader.take()?),
            owners: u64::from_le_bytes(reader.take()?),
            blocks: u64::from_le_bytes(reader.take()?),
        };
        (header.owner_pages > 0 && header.block_pages > 0).then_some(header)
    }

    /// Writes a page.
    pub(super) fn write(&self, page: &mut [u8]) {
        let stamp = self.stamp.unwrap_or_default();
        let flags = if self.stamp.is_some() { STAMPED } else { 0 }
            | if self.reclaimed_in.is_some() { RECLAIMED } else { 0 };
        let fields: [&[u8]; 9] = [
            MAGIC,
            &[flags],
            &stamp.sec.to_le_bytes(),
            &stamp.nsec.to_le_bytes(),
            &self.reclaimed_in.unwrap_or([0; 36]),
            &self.owner_pages.to_le_bytes(),
            &self.block_pages.to_le_bytes(),
            &self.owners.to_le_bytes(),
            &self.blocks.to_le_bytes(),
        ];
        for (to, from) in page.iter_mut().zip(fields.concat()) {
            *to = from;
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }
}
