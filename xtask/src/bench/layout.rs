//! `cargo xtask layout`: which functions the calls of a node use, for the linker to put together.

use super::contender::{Contender, Who};
use super::pods::{self, PodContender, server};
use super::sample::Meter;
use super::workload::{Bench, Workload};
use crate::dist;
use crate::error::{Context, Failure, Result};
use crate::process::quietly;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::workspace::Workspace;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Note which functions calls use, and write crates/oxcni/layout.ld.
///
/// The kernel maps a program in pieces of 64 KiB around each page that is touched. What a call of a
/// plugin uses is a twelfth of the multicall binary, but spread over all of it; that file makes
/// the linker put it in one place. Run this from time to time: a name that no longer fits does no
/// harm, and a function that is missing costs a piece.
#[derive(clap::Args)]
pub(crate) struct Args {}

const HEADER: &str = "\
/* What ADD, DEL, STATUS and VERSION use stands together, that of the plugins first and then what multus adds, so
   that a call maps a few pieces of this program and not all of it. Written by
   `cargo xtask layout`; see there. */
";

/// Runs the task.
pub(crate) fn run(_: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("the calls are made in network namespaces, which needs root"));
    }
    let workspace = Workspace::load()?;
    let folder = workspace.target.join("layout");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).context(|| format!("can't make {}", folder.display()))?;
    let map = folder.join("map");
    let binary = dist::link_with_symbols(&workspace, &map, &progress)?;
    let probes = dist::build_static(&workspace, &["bench-probes"], &progress)?;
    let apiserver = server::build(&workspace, &progress)?;

    let plugins = folder.join("bin");
    fs::create_dir(&plugins).context(|| format!("can't make {}", plugins.display()))?;
    quietly(Command::new(&binary).arg("install").arg(&plugins))?;
    let functions = functions(&binary)?;
    let list: String = functions.iter().map(|address| format!("{address:x}\n")).collect();
    let text = format!("{}\n{list}", plugins.join(dist::MULTICALL).display());
    fs::write(folder.join("functions"), text).context(|| "can't write the functions".into())?;
    let [by_plugins, by_all] = make_calls(&folder, &plugins, &probes, &apiserver, &progress)?;

    let map = fs::read_to_string(&map).context(|| format!("can't read {}", map.display()))?;
    let sections = sections(&map);
    let first = patterns(&sections, &by_plugins);
    let second: BTreeSet<String> = patterns(&sections, &by_all).difference(&first).cloned().collect();
    let script = workspace.root.join("crates/oxcni/layout.ld");
    let text = [HEADER, &output_section("plugins", &first), &output_section("multus", &second)].concat();
    fs::write(&script, text).context(|| format!("can't write {}", script.display()))?;
    progress.say(format!(
        "{}: of {} functions, the plugins called {} and multus {} more",
        script.display(),
        functions.len(),
        by_plugins.len(),
        by_all.len() - by_plugins.len()
    ));
    Ok(ExitCode::SUCCESS)
}

/// A part of the linker script.
fn output_section(name: &str, patterns: &BTreeSet<String>) -> String {
    let lines: String = patterns.iter().map(|pattern| format!("    {pattern}\n")).collect();
    format!("SECTIONS {{\n  .text.{name} : {{\n{lines}  }}\n}}\nINSERT BEFORE .text;\n")
}

/// The benchmark's calls, once each: what those of plugins used, and what those of multus used, too.
fn make_calls(
    folder: &Path,
    plugins: &Path,
    probes: &Path,
    apiserver: &Path,
    progress: &Progress,
) -> Result<[BTreeSet<u64>; 2]> {
    let called = || -> Result<BTreeSet<u64>> {
        let text = fs::read_to_string(folder.join("called")).context(|| "nothing was called".into())?;
        Ok(text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()).collect())
    };
    let stage = Stage::enter()?;
    let meter = Meter::new(probes.join("probe-calls"), folder);
    let bench = Bench { stage: &stage, meter: &meter, probes, folder, progress };
    let contenders = [Contender { who: Who::Multicall, folder: plugins.to_owned() }];
    for workload in Workload::ALL {
        workload.measure(&bench, &contenders, 1)?;
    }
    for plugin in ["bridge", "host-local"] {
        brief_calls(&bench, &plugins.join(plugin), plugins)?;
    }
    let by_plugins = called()?;
    let pods = PodContender::all(&contenders, plugins, None)?;
    pods::measure(&bench, &pods, apiserver, 1)?;
    Ok([by_plugins, called()?])
}

/// The commands that runtimes send time and again beside ADD and DEL.
fn brief_calls(bench: &Bench<'_>, plugin: &Path, plugins: &Path) -> Result<()> {
    let config = json!({
        "cniVersion": "1.1.0", "name": "layout", "type": plugin.file_name().map(OsStr::to_string_lossy),
        "ipam": { "type": "host-local", "subnet": "10.66.0.0/24", "dataDir": bench.folder.join("layout") },
    });
    for command in ["STATUS", "VERSION"] {
        let environment = [("CNI_COMMAND", OsStr::new(command)), ("CNI_PATH", plugins.as_os_str())];
        bench.meter.run::<&str>(plugin, &[], &environment, &config.to_string())?;
    }
    Ok(())
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
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let length = u64::from_str_radix(words.nth(1)?, 16).ok()?;
        words.next()?;
        let name = line[line.find(words.next()?)?..].trim();
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
    fn a_name_outlives_its_build() {
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
