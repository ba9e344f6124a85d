//! Where the linker put which section of which file, from the map of LLVM's linker.

use std::collections::BTreeMap;

/// An input section of the linker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Section<'m> {
    /// The object file, or `LIBRARY(MEMBER)`.
    pub(super) file: &'m str,
    pub(super) name: &'m str,
}

/// All input sections, by the address of their first byte: their length, and what they are.
#[derive(Debug)]
pub(super) struct Sections<'m>(BTreeMap<u64, (u64, Section<'m>)>);

impl<'m> Sections<'m> {
    pub(super) fn of(map: &'m str) -> Self {
        Self(map.lines().filter_map(line).collect())
    }

    /// The section that holds the address.
    pub(super) fn at(&self, address: u64) -> Option<Section<'m>> {
        let (start, (length, section)) = self.0.range(..=address).next_back()?;
        (address < start + length).then_some(*section)
    }
}

fn line(line: &str) -> Option<(u64, (u64, Section<'_>))> {
    let mut columns = line.split_whitespace();
    let address = u64::from_str_radix(columns.next()?, 16).ok()?;
    let length = u64::from_str_radix(columns.nth(1)?, 16).ok()?;
    columns.next()?;
    let (file, name) = line[line.find(columns.next()?)?..].trim().strip_suffix(')')?.rsplit_once(":(")?;
    (length > 0).then_some((address, (length, Section { file, name })))
}

impl<'m> Section<'m> {
    /// The name of the C library's archive and of the member in it. Its sections aren't named after functions.
    fn member(self) -> Option<(&'m str, &'m str)> {
        let (library, member) = self.file.strip_suffix(')')?.rsplit_once('(')?;
        let library = library.rsplit('/').next()?;
        library.ends_with(".a").then_some((library, member))
    }

    /// The name of the object file, where it is one of those by which the compiler starts a program.
    fn start_file(self) -> Option<&'m str> {
        let (_, file) = self.file.rsplit_once('/')?;
        (file.starts_with("crt") && self.name == ".text").then_some(file)
    }

    /// What selects this section of code in a linker script, and only it.
    pub(super) fn pattern(self) -> Option<String> {
        match self.member() {
            Some((library, member)) => Some(format!("*{library}:{member}(.text .text.*)")),
            None if self.name.starts_with(".text.") => Some(format!("*({})", escaped(self.name))),
            None => self.start_file().map(|file| format!("*/{file}(.text)")),
        }
    }

    /// The same, for the constants beside this section's code.
    pub(super) fn pattern_of_constants(self) -> Option<String> {
        let (library, member) = self.member()?;
        Some(format!("*{library}:{member}(.rodata .rodata.*)"))
    }

    /// What selects the section of the same function in a build by another compiler, whose names have other hashes.
    pub(super) fn pattern_of_other_builds(self) -> Option<String> {
        let name = self.name.strip_prefix(".text.").filter(|_| self.member().is_none())?;
        Some(format!("*(.text.{})", escaped(&without_hashes(name))))
    }
}

/// Without what has a meaning of its own in linker scripts.
pub(super) fn escaped(name: &str) -> String {
    name.replace('$', "?")
}

/// A mangled name with wildcards for the hashes of crates and types.
fn without_hashes(name: &str) -> String {
    // Legacy: `17h` and sixteen hexadecimal digits at the end. v0: `Cs`, base 62, `_` for each crate.
    let name = match name.rfind("17h") {
        Some(at) if name.len() == at + 20 && name.ends_with('E') => format!("{}*", &name[..at]),
        _ => name.to_owned(),
    };
    let mut parts = name.split("Cs");
    let mut cleaned = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('_') {
            Some((hash, rest))
                if (9..=12).contains(&hash.len())
                    && hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
            {
                cleaned = format!("{cleaned}Cs*_{rest}");
            }
            _ => cleaned = format!("{cleaned}Cs{part}"),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::{Section, Sections};

    const MAP: &str = "             VMA              LMA     Size Align Out     In      Symbol\n  \
          403340           403340     2000    64 .text\n          \
          403340           403340       10    16         /x/crt1.o:(.text)\n          \
          403350           403350       20    16         /x/a.o:(.text._ZN8cni_core4main17h0123456789abcdefE)\n          \
          403350           403350       20     1                 _ZN8cni_core4main17h0123456789abcdefE\n          \
          403370           403370       30    16         /x/libc.a(malloc.o):(.text)\n";

    #[test]
    fn a_call_is_found_in_its_section() {
        let sections = Sections::of(MAP);
        let pattern = |address| sections.at(address).and_then(Section::pattern);
        assert_eq!(pattern(0x403340).as_deref(), Some("*/crt1.o(.text)"));
        assert_eq!(pattern(0x403350).as_deref(), Some("*(.text._ZN8cni_core4main17h0123456789abcdefE)"));
        assert_eq!(pattern(0x403380).as_deref(), Some("*libc.a:malloc.o(.text .text.*)"));
        assert_eq!(pattern(0x4033a0), None);
        assert_eq!(pattern(0x500000), None);
    }

    #[test]
    fn constants_of_the_c_library_stand_by_file() {
        let constants = |file| Section { file, name: ".text" }.pattern_of_constants();
        assert_eq!(constants("/x/libc.a(strtol.o)").as_deref(), Some("*libc.a:strtol.o(.rodata .rodata.*)"));
        assert_eq!(constants("/x/a.o"), None);
    }

    #[test]
    fn a_pattern_fits_other_builds() {
        let other = |name| Section { file: "/x/a.o", name }.pattern_of_other_builds();
        let v0 = ".text._RNvXsK_NtCsgEmfK2I1SDS_4core3fmtNtB5_5ErrorNtB5_5Debug3fmt";
        assert_eq!(other(v0).as_deref(), Some("*(.text._RNvXsK_NtCs*_4core3fmtNtB5_5ErrorNtB5_5Debug3fmt)"));
        let legacy = ".text._ZN4core3ptr9drop$LT$a..B$GT$17h0123456789abcdefE";
        assert_eq!(other(legacy).as_deref(), Some("*(.text._ZN4core3ptr9drop?LT?a..B?GT?*)"));
        assert_eq!(other(".text"), None);
    }
}
