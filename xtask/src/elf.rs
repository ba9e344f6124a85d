//! Facts about programs and object files.

use crate::error::{Context, Failure, Result};
use object::elf::FileHeader64;
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Facts about a 64-bit little-endian program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// No program interpreter: it needs no dynamic loader and no libc of the host.
    pub(crate) is_static: bool,
    /// The linker's fingerprint of the build, by which copies of one build are recognised.
    pub(crate) build_id: Option<String>,
}

impl Elf {
    /// Reads the file's headers.
    ///
    /// # Errors
    /// The file can't be read, or is no 64-bit ELF file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        of_file(path, |file| {
            let header: &FileHeader64<LittleEndian> = file.elf_header();
            let segments = header.program_headers(LittleEndian, file.data())?;
            let is_static =
                !segments.iter().any(|segment| segment.p_type(LittleEndian) == object::elf::PT_INTERP);
            let build_id = file.build_id()?.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect());
            Ok(Self { is_static, build_id })
        })
    }
}

/// The addresses of all functions of a program that has its symbols.
///
/// # Errors
/// The file can't be read, or is no 64-bit ELF file.
pub(crate) fn functions(program: &Path) -> Result<BTreeSet<u64>> {
    of_file(program, |file| {
        let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        Ok(functions.filter(|symbol| !symbol.is_undefined()).map(|symbol| symbol.address()).collect())
    })
}

/// The sections of an object file, each with the sections that it refers to.
pub(crate) type References = BTreeMap<String, BTreeSet<String>>;

/// Reads which section refers to which from the relocations of an object file.
///
/// # Errors
/// The file can't be read, or is no 64-bit ELF file.
pub(crate) fn references(object: &Path) -> Result<References> {
    of_file(object, |file| {
        let mut all = References::new();
        for section in file.sections() {
            let mut to = BTreeSet::new();
            for (_, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
                if let Some(target) = file.symbol_by_index(symbol)?.section_index() {
                    to.insert(file.section_by_index(target)?.name()?.to_owned());
                }
            }
            if !to.is_empty() {
                all.entry(section.name()?.to_owned()).or_default().append(&mut to);
            }
        }
        Ok(all)
    })
}

fn of_file<T>(
    path: &Path,
    read: impl FnOnce(&ElfFile64<'_, LittleEndian>) -> object::Result<T>,
) -> Result<T> {
    let bytes = fs::read(path).context(|| format!("can't read {}", path.display()))?;
    ElfFile64::parse(&*bytes)
        .and_then(|file| read(&file))
        .map_err(|error| Failure::new(format!("{} is not a 64-bit ELF file: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::{Elf, functions};
    use std::path::Path;

    #[test]
    fn a_test_binary_is_dynamic_and_has_functions() {
        let this = std::env::current_exe().unwrap();
        assert!(!Elf::read(&this).unwrap().is_static);
        assert!(functions(&this).unwrap().len() > 100);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Elf::read(Path::new("/etc/passwd")).is_err());
        assert!(Elf::read(Path::new("/proc/self/nothing")).is_err());
    }
}
