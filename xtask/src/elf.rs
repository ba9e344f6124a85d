//! Facts about a binary: whether it is static, and its build id.

use crate::error::{Context, Failure, Result};
use std::fs;
use std::path::Path;

/// Facts from the program headers of a 64-bit little-endian ELF file, see elf(5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// No program interpreter: it needs no dynamic loader and no libc of the host.
    pub(crate) is_static: bool,
    /// The linker's fingerprint of the build, by which copies of one build are recognised.
    pub(crate) build_id: Option<String>,
}

const LOADER: u32 = 3; // PT_INTERP
const NOTES: u32 = 4; // PT_NOTE
const BUILD_ID: u32 = 3; // NT_GNU_BUILD_ID

impl Elf {
    /// Reads the file's headers.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).context(|| format!("can't read {}", path.display()))?;
        parse(&bytes).ok_or_else(|| Failure::new(format!("{} is not a 64-bit ELF file", path.display())))
    }
}

fn parse(bytes: &[u8]) -> Option<Elf> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = size(bytes, 32, 8)?;
    let entry_size = size(bytes, 54, 2)?;
    let mut elf = Elf { is_static: true, build_id: None };
    for index in 0..size(bytes, 56, 2)? {
        let entry = bytes.get(table + index * entry_size..)?;
        match u32::try_from(size(entry, 0, 4)?).ok()? {
            LOADER => elf.is_static = false,
            NOTES => {
                let (start, length) = (size(entry, 8, 8)?, size(entry, 32, 8)?);
                elf.build_id = elf.build_id.or_else(|| build_id(bytes.get(start..start + length)?));
            }
            _ => {}
        }
    }
    Some(elf)
}

/// Looks through notes for GNU's build id.
fn build_id(mut notes: &[u8]) -> Option<String> {
    loop {
        let (name_size, content_size) = (size(notes, 0, 4)?, size(notes, 4, 4)?);
        let kind = u32::try_from(size(notes, 8, 4)?).ok()?;
        let content = 12 + name_size.next_multiple_of(4);
        if kind == BUILD_ID && notes.get(12..12 + name_size)? == b"GNU\0" {
            let id = notes.get(content..content + content_size)?;
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get(content + content_size.next_multiple_of(4)..)?;
    }
}

/// A little-endian number of up to eight bytes.
fn size(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(width)?)?;
    let number = field.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::{Elf, parse};
    use std::path::Path;

    #[test]
    fn a_test_binary_is_dynamic() {
        let elf = Elf::read(&std::env::current_exe().unwrap()).unwrap();
        assert!(!elf.is_static);
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(parse(b"#!/bin/sh\n"), None);
        assert_eq!(parse(b"\x7fELF\x02\x01"), None);
        assert!(Elf::read(Path::new("/etc/passwd")).is_err());
    }
}
