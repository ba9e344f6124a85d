//! The order of the multicall program's functions: those that calls use stand together.
//!
//! The kernel maps a program in pieces of 64 KiB around each page that is touched. A call of a plugin
//! uses a twelfth of the program, but spread over all of it. A linker script puts these functions in
//! one place. It is made for each build: the program is linked with its symbols, called as a
//! node calls it, under a tracer that notes which functions are entered, and linked once more.

use super::link::Link;
use crate::bench::calls;
use crate::elf::Elf;
use crate::error::{Context, Failure, Result};
use crate::process::{is_installed, quietly};
use crate::progress::Progress;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the order comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// From calls of the program that was built, where they can be made.
    OfCalls,
    /// A file that an earlier build wrote.
    File(PathBuf),
    /// The linker's own order.
    Linker,
}

const HEADER: &str = "\
/* The functions that ADD, DEL, STATUS and VERSION enter, first those of the plugins and then those that
   multus adds. Made by `cargo xtask dist`; `cargo xtask dist --layout FILE` links with it again. */
";

/// What was made, below `target/layout`.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn script(&self) -> PathBuf {
        self.folder.join("layout.ld")
    }

    /// The build id of the program as it was linked without a layout.
    fn made_for(&self) -> PathBuf {
        self.folder.join("made-for")
    }

    fn program(&self) -> PathBuf {
        self.folder.join("oxcni")
    }
}

/// Links `built` again with a layout; gives the program and the layout's file.
///
/// `None` means that there is no layout, for a reason that was printed.
///
/// # Errors
/// A given file can't be read or used. Where calls can't be noted, the program has no layout.
pub(super) fn lay_out(
    workspace: &Workspace,
    built: &Path,
    link: &Path,
    layout: &Layout,
    progress: &Progress,
) -> Result<Option<(PathBuf, PathBuf)>> {
    let files = Files { folder: workspace.target.join("layout") };
    match layout {
        Layout::Linker => Ok(None),
        Layout::File(script) => {
            let script = fs::canonicalize(script).context(|| format!("can't read {}", script.display()))?;
            fs::create_dir_all(&files.folder).context(|| format!("can't make {}", files.folder.display()))?;
            relink(&Link::read(link)?, &script, &files.program())?;
            // It is not the layout of this build's own calls.
            let _ = fs::remove_file(files.made_for());
            Ok(Some((files.program(), script)))
        }
        Layout::OfCalls => match of_calls(workspace, built, link, &files, progress) {
            Ok(()) => Ok(Some((files.program(), files.script()))),
            Err(failure) => {
                progress.print(format!(
                    "{} has no layout and will take more memory: {failure}",
                    super::MULTICALL
                ));
                Ok(None)
            }
        },
    }
}

fn relink(link: &Link, script: &Path, program: &Path) -> Result<()> {
    link.repeat(program, false, &[format!("-Wl,-T,{}", script.display())])
}

/// Makes the layout and the program, unless they are those of this build.
fn of_calls(
    workspace: &Workspace,
    built: &Path,
    link: &Path,
    files: &Files,
    progress: &Progress,
) -> Result<()> {
    let build_id = Elf::read(built)?.build_id.unwrap_or_default();
    if fs::read_to_string(files.made_for()).is_ok_and(|id| id == build_id) && files.program().is_file() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(
            "the calls that it follows are made in network namespaces, which needs root",
        ));
    }
    if let Some(missing) = ["ip", "nm"].iter().find(|program| !is_installed(program)) {
        return Err(Failure::new(format!("the program `{missing}` is not installed")));
    }
    let link = Link::read(link)?;
    let _ = fs::remove_dir_all(&files.folder);
    fs::create_dir_all(&files.folder).context(|| format!("can't make {}", files.folder.display()))?;

    let (with_symbols, map) = (files.folder.join("with-symbols"), files.folder.join("map"));
    link.repeat(&with_symbols, true, &[format!("-Wl,-Map={}", map.display())])?;
    let functions = functions(&with_symbols)?;
    let called = calls::note(workspace, &files.folder, &with_symbols, &functions, progress)?;
    let map = fs::read_to_string(&map).context(|| format!("can't read {}", map.display()))?;
    let script = script(&sections(&map), &called.by_plugins, &called.by_all);
    fs::write(files.script(), script).context(|| format!("can't write {}", files.script().display()))?;
    relink(&link, &files.script(), &files.program())?;
    fs::write(files.made_for(), build_id)
        .context(|| format!("can't write {}", files.made_for().display()))?;
    progress.print(format!(
        "Put together: of {} functions, the {} that the plugins call and {} more that multus calls",
        functions.len(),
        called.by_plugins.len(),
        called.by_all.len() - called.by_plugins.len()
    ));
    Ok(())
}

/// The linker script.
fn script(
    sections: &BTreeMap<u64, (u64, &str)>,
    by_plugins: &BTreeSet<u64>,
    by_all: &BTreeSet<u64>,
) -> String {
    let first = patterns(sections, by_plugins);
    let second: BTreeSet<String> = patterns(sections, by_all).difference(&first).cloned().collect();
    [HEADER, &output_section("plugins", &first), &output_section("multus", &second)].concat()
}

/// A part of the linker script.
fn output_section(name: &str, patterns: &BTreeSet<String>) -> String {
    let lines: String = patterns.iter().map(|pattern| format!("    {pattern}\n")).collect();
    format!("SECTIONS {{\n  .text.{name} : {{\n{lines}  }}\n}}\nINSERT BEFORE .text;\n")
}

/// The addresses of all functions, as nm(1) gives them.
fn functions(binary: &Path) -> Result<BTreeSet<u64>> {
    let table = quietly(Command::new("nm").args(["--defined-only", "--format=sysv"]).arg(binary))?;
    let function = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, address, _, kind, ..] = cells[..] else { return None };
        let is_function = ["FUNC", "IFUNC", "GNU_IFUNC"].contains(&kind);
        is_function.then(|| u64::from_str_radix(address, 16).ok()).flatten()
    };
    Ok(table.lines().filter_map(function).collect())
}

/// Input sections by address: length, and `FILE:(SECTION)`, from the map of LLVM's linker.
fn sections(map: &str) -> BTreeMap<u64, (u64, &str)> {
    let section = |line| {
        let line: &str = line;
        let mut columns = line.split_whitespace();
        let address = u64::from_str_radix(columns.next()?, 16).ok()?;
        let length = u64::from_str_radix(columns.nth(1)?, 16).ok()?;
        columns.next()?;
        let name = line[line.find(columns.next()?)?..].trim();
        (length > 0 && name.ends_with(')') && name.contains(":(")).then_some((address, (length, name)))
    };
    map.lines().filter_map(section).collect()
}

/// What names the sections of the called functions in a linker script, in this and later builds.
fn patterns(sections: &BTreeMap<u64, (u64, &str)>, called: &BTreeSet<u64>) -> BTreeSet<String> {
    let of_address = |address: &u64| {
        let (start, (length, name)) = sections.range(..=*address).next_back()?;
        (*address < start + length).then_some(*name)
    };
    called.iter().filter_map(of_address).filter_map(pattern).collect()
}

/// `FILE:(.text.NAME)` without what changes from build to build; libraries of C have no section
/// for each function, but a file.
fn pattern(section: &str) -> Option<String> {
    let (file, section) = section.strip_suffix(')')?.rsplit_once(":(")?;
    if let Some((library, member)) = file.strip_suffix(')').and_then(|file| file.rsplit_once('('))
        && let Some(library) = library.rsplit('/').next().filter(|library| library.ends_with(".a"))
    {
        return Some(format!("*{library}:{member}(.text .text.*)"));
    }
    let name = section.strip_prefix(".text.")?;
    Some(format!("*(.text.{})", without_hashes(name)))
}

/// A mangled name with wildcards for the hashes of crates and types, and for what linker scripts
/// give a meaning of its own.
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
    cleaned.replace('$', "?")
}

#[cfg(test)]
mod tests {
    use super::{pattern, patterns, sections};
    use std::collections::BTreeSet;

    const MAP: &str = "             VMA              LMA     Size Align Out     In      Symbol\n  \
          403340           403340     2000    64 .text\n          \
          403340           403340       10    16         /x/crt1.o:(.text)\n          \
          403350           403350       20    16         /x/a.o:(.text._ZN8cni_core4main17h0123456789abcdefE)\n          \
          403350           403350       20     1                 _ZN8cni_core4main17h0123456789abcdefE\n          \
          403370           403370       30    16         /x/libc.a(malloc.o):(.text)\n";

    #[test]
    fn a_call_is_found_in_its_section() {
        let sections = sections(MAP);
        assert_eq!(sections.len(), 3);
        let patterns = patterns(&sections, &BTreeSet::from([0x403350, 0x403380, 0x500000]));
        let expected = ["*(.text._ZN8cni_core4main*)", "*libc.a:malloc.o(.text .text.*)"];
        assert_eq!(patterns, expected.map(str::to_owned).into());
    }

    #[test]
    fn a_pattern_fits_other_builds() {
        let v0 = "/x/a.o:(.text._RNvXsK_NtCsgEmfK2I1SDS_4core3fmtNtB5_5ErrorNtB5_5Debug3fmt)";
        assert_eq!(
            pattern(v0).as_deref(),
            Some("*(.text._RNvXsK_NtCs*_4core3fmtNtB5_5ErrorNtB5_5Debug3fmt)")
        );
        let legacy = "/x/a.o:(.text._ZN4core3ptr9drop$LT$a..B$GT$17h0123456789abcdefE)";
        assert_eq!(pattern(legacy).as_deref(), Some("*(.text._ZN4core3ptr9drop?LT?a..B?GT?*)"));
        assert_eq!(pattern("/x/crt1.o:(.text)"), None);
    }
}
