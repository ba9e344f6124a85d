//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/` under libFuzzer.

use crate::debian;
use crate::error::{Context, Failure, Result};
use crate::process::{is_installed, run as run_program};
use crate::progress::{Progress, short};
use crate::table::Table;
use crate::workspace::{Workspace, cargo};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Run the fuzz targets, each for a time.
///
/// They are built with coverage counters, overflow checks and debug assertions, by the stable compiler.
/// A run begins with the committed inputs of fuzz/corpus and with what earlier runs found, which is in
/// target/fuzz/corpus. An input that makes a target panic, hang or take too much memory is written to
/// fuzz/crashes: commit it with the fix, and the tests replay it from then on.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask fuzz --time 600\n  \
    cargo xtask fuzz netlink annotation --runs 100000000")]
pub(crate) struct Args {
    /// Only these targets, such as `netlink`.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u64,
    /// End a target after this many executions, in place of the time.
    #[arg(long, value_name = "NUMBER")]
    runs: Option<u64>,
    /// Targets that run at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    jobs: usize,
    /// Add found inputs to fuzz/corpus, the shortest first, until it is full: the fewest that reach all
    /// code that was reached.
    #[arg(long)]
    keep: bool,
}

/// Flags for libFuzzer's coverage counters, as cargo-fuzz sets them, without a sanitizer: this code has no
/// unsafe parts that one could check.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// The longest input, in bytes.
const MAX_LENGTH: usize = 4096;

/// The longest input that is added to the committed corpus.
const MAX_KEPT: usize = 1024;

/// What the committed corpus of one target may hold: the tests replay it, also in debug builds.
const MAX_INPUTS: usize = 64;
const MAX_BYTES: usize = 16 << 10;

/// Seconds and MiB that one input may take.
const INPUT_LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    let workspace = Workspace::load()?;
    // libFuzzer is in C++.
    if !is_installed("c++") {
        debian::ensure(&["g++"], &progress)?;
    }
    let fuzz = Fuzz::build(&workspace, &progress)?;
    let targets = fuzz.targets(&args.targets)?;
    let next = std::sync::Mutex::new(targets.iter());
    let runs = std::sync::Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let Some(target) = next.lock().ok().and_then(|mut targets| targets.next()) else { return Ok(()) };
            let run = fuzz.run(target, args)?;
            progress.print(format!("{target}: {} executions in {}", run.executions, short(run.time)));
            if args.keep {
                fuzz.keep(target)?;
            }
            if let Ok(mut runs) = runs.lock() {
                runs.push(run);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(Failure::new("a thread that runs a target panicked")))
        })
    })?;
    let runs = runs.into_inner().unwrap_or_default();
    print!("{}", table(&runs));
    let crashes: Vec<&str> = runs.iter().filter_map(|run| run.crash.as_deref()).collect();
    crashes.iter().for_each(|crash| println!("\n{crash}"));
    Ok(if crashes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The built targets and their folders.
struct Fuzz {
    /// `fuzz/`
    source: PathBuf,
    /// `target/fuzz/`
    folder: PathBuf,
    programs: PathBuf,
}

/// How one target ran.
struct Run {
    target: String,
    time: Duration,
    executions: u64,
    /// Places in the code that were reached.
    covered: u64,
    /// The end of what libFuzzer printed, where it stopped early.
    crash: Option<String>,
}

impl Fuzz {
    fn build(workspace: &Workspace, progress: &Progress) -> Result<Self> {
        progress.print("Building the fuzz targets");
        let (triple, folder) = (&workspace.platform.triple, workspace.target.join("fuzz"));
        let mut build = cargo();
        // Only with an explicit target are build scripts and procedural macros free of these flags.
        build
            .args(["build", "--release", "--package", "oxcni-fuzz", "--features", "libfuzzer", "--bins"])
            .args(["--target", triple, "--manifest-path"])
            .arg(workspace.root.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&folder)
            .env("RUSTFLAGS", COVERAGE)
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        for (setting, value) in [
            ("LTO", "off"),
            ("CODEGEN_UNITS", "4"),
            ("OPT_LEVEL", "3"),
            ("STRIP", "none"),
            ("DEBUG", "line-tables-only"),
            ("DEBUG_ASSERTIONS", "true"),
            ("OVERFLOW_CHECKS", "true"),
        ] {
            build.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        run_program(&mut build)?;
        let programs = folder.join(triple).join("release");
        Ok(Self { source: workspace.root.join("fuzz"), folder, programs })
    }

    /// The requested targets, or all.
    fn targets(&self, requested: &[String]) -> Result<Vec<String>> {
        let known: BTreeSet<String> = names(&self.source.join("corpus"))?.into_iter().collect();
        match requested.iter().find(|name| !known.contains(*name)) {
            Some(unknown) => {
                let known: Vec<String> = known.into_iter().collect();
                Err(Failure::new(format!("there is no target {unknown}; there are {}", known.join(", "))))
            }
            None if requested.is_empty() => Ok(known.into_iter().collect()),
            None => Ok(requested.to_vec()),
        }
    }

    fn committed(&self, target: &str) -> PathBuf {
        self.source.join("corpus").join(target)
    }

    fn found(&self, target: &str) -> PathBuf {
        self.folder.join("corpus").join(target)
    }

    fn run(&self, target: &str, args: &Args) -> Result<Run> {
        let (found, crashes) = (self.found(target), self.source.join("crashes").join(target));
        make(&found)?;
        let before = names(&crashes).unwrap_or_default();
        make(&crashes)?;
        let limit = match args.runs {
            Some(runs) => format!("-runs={runs}"),
            None => format!("-max_total_time={}", args.time),
        };
        let begun = Instant::now();
        let output = Command::new(self.programs.join(target))
            .args([&found, &self.committed(target)])
            .args(INPUT_LIMITS)
            .args([limit, format!("-max_len={MAX_LENGTH}"), "-print_final_stats=1".into()])
            .arg(format!("-dict={}", self.dictionary(target)?.display()))
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .stdin(Stdio::null())
            .output()
            .context(|| format!("can't start the target {target}"))?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let file = self.folder.join(format!("{target}.log"));
        fs::write(&file, &log).context(|| format!("can't write {}", file.display()))?;
        let new: Vec<String> = names(&crashes)?.into_iter().filter(|name| !before.contains(name)).collect();
        // A folder without a crash is not worth a commit.
        let _ = fs::remove_dir(&crashes);
        let crash = (!output.status.success()).then(|| {
            let inputs: Vec<String> =
                new.iter().map(|name| crashes.join(name).display().to_string()).collect();
            format!("{target} stopped on {} (see {}):\n{}", inputs.join(", "), file.display(), panic_of(&log))
        });
        Ok(Run {
            target: target.to_owned(),
            time: begun.elapsed(),
            executions: number_after(&log, "stat::number_of_executed_units:").unwrap_or(0),
            covered: number_after(&log, " cov: ").unwrap_or(0),
            crash,
        })
    }

    /// The texts in quotes of the committed inputs, so that keys need not be guessed letter by letter.
    fn dictionary(&self, target: &str) -> Result<PathBuf> {
        let folder = self.committed(target);
        let mut texts = BTreeSet::new();
        for name in names(&folder)? {
            let bytes = fs::read(folder.join(&name)).context(|| format!("can't read {name}"))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let quoted = text.split('"').skip(1).step_by(2).map(str::to_owned);
            texts.extend(quoted.filter(|text| is_plain(text)));
        }
        // libFuzzer refuses an empty dictionary, and binary formats have no such texts.
        texts.insert("cniVersion".to_owned());
        let lines: String = texts.iter().map(|text| format!("\"\\\"{text}\\\"\"\n")).collect();
        let file = self.folder.join(format!("{target}.dict"));
        fs::write(&file, lines).context(|| format!("can't write {}", file.display()))?;
        Ok(file)
    }

    /// Adds the fewest found inputs that reach what all reach together.
    fn keep(&self, target: &str) -> Result<()> {
        let chosen = self.folder.join(format!("{target}.chosen"));
        let _ = fs::remove_dir_all(&chosen);
        make(&chosen)?;
        let output = Command::new(self.programs.join(target))
            .args(["-set_cover_merge=1".to_owned(), format!("-max_len={MAX_KEPT}")])
            .args([&chosen, &self.committed(target), &self.found(target)])
            .output()
            .context(|| format!("can't start the target {target}"))?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("choosing inputs of {target} failed:\n{log}")));
        }
        let committed = self.committed(target);
        let content = |folder: &Path, name: &str| fs::read(folder.join(name)).unwrap_or_default();
        let read = |folder: &Path| -> Result<Vec<(String, Vec<u8>)>> {
            let names = names(folder)?.into_iter();
            Ok(names.map(|name| (name.clone(), content(folder, &name))).collect())
        };
        let known: Vec<Vec<u8>> = read(&committed)?.into_iter().map(|(_, bytes)| bytes).collect();
        for (name, bytes) in kept(&known, read(&chosen)?) {
            let file = committed.join(name.get(..12).unwrap_or(&name));
            fs::write(&file, bytes).context(|| format!("can't write {}", file.display()))?;
        }
        Ok(())
    }
}

/// The inputs that are added to those of the committed corpus: the shortest, as far as there is room.
fn kept(known: &[Vec<u8>], mut chosen: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let (mut count, mut size) = (known.len(), known.iter().map(Vec::len).sum::<usize>());
    chosen.retain(|(_, bytes)| !known.contains(bytes));
    chosen.sort_by_key(|(_, bytes)| bytes.len());
    let has_room = |(_, bytes): &(String, Vec<u8>)| {
        count += 1;
        size += bytes.len();
        count <= MAX_INPUTS && size <= MAX_BYTES
    };
    chosen.into_iter().take_while(has_room).collect()
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).context(|| format!("can't make {}", folder.display()))
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).context(|| format!("can't read {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Whether a text needs no escapes in libFuzzer's dictionaries.
fn is_plain(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// The last number that follows a mark.
fn number_after(log: &str, mark: &str) -> Option<u64> {
    let rest = &log[log.rfind(mark)? + mark.len()..];
    rest.split_whitespace().next()?.parse().ok()
}

/// The message of the panic, or the end of the log.
fn panic_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from =
        lines.iter().position(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
    let from = from.unwrap_or(lines.len().saturating_sub(12));
    lines[from..].iter().take(12).map(|line| format!("  {line}\n")).collect()
}

fn table(runs: &[Run]) -> Table {
    let mut table = Table::new(["target", ">executions", ">per second", ">places reached", "outcome"]);
    let mut runs: Vec<&Run> = runs.iter().collect();
    runs.sort_by(|one, other| one.target.cmp(&other.target));
    for run in runs {
        table.row([
            run.target.clone(),
            run.executions.to_string(),
            format!("{:.0}", run.executions as f64 / run.time.as_secs_f64()),
            run.covered.to_string(),
            if run.crash.is_some() { "stopped" } else { "" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, MAX_INPUTS, is_plain, kept, names, number_after, panic_of};
    use std::fs;
    use std::path::Path;

    const LOG: &str = "#2\tINITED cov: 10 ft: 11 corp: 1/1b\n#9\tDONE   cov: 12 ft: 20 corp: 2/9b\n\
                       stat::number_of_executed_units: 4711\nthread 'x' panicked at a.rs:1:2:\nwhy\n";

    #[test]
    fn figures_are_the_last_of_the_log() {
        assert_eq!(number_after(LOG, " cov: "), Some(12));
        assert_eq!(number_after(LOG, "stat::number_of_executed_units:"), Some(4711));
        assert_eq!(number_after(LOG, "missing:"), None);
    }

    #[test]
    fn the_corpus_grows_by_short_inputs_up_to_its_bounds() {
        let input = |number: usize, length: usize| (format!("{number:03}"), vec![number as u8; length]);
        let names = |inputs: Vec<(String, Vec<u8>)>| inputs.into_iter().map(|it| it.0).collect::<Vec<_>>();
        let known = [vec![1; 10]];
        assert_eq!(names(kept(&known, vec![input(3, 30), input(1, 10), input(2, 20)])), ["002", "003"]);
        let many = (0..2 * MAX_INPUTS).map(|number| input(number, 9)).collect();
        assert_eq!(kept(&known, many).len(), MAX_INPUTS - 1);
        assert_eq!(names(kept(&known, vec![input(4, MAX_BYTES), input(5, 5)])), ["005"]);
    }

    #[test]
    fn the_committed_corpus_is_within_its_bounds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for target in names(&corpus).unwrap() {
            let inputs = names(&corpus.join(&target)).unwrap();
            let size = |name: &String| fs::metadata(corpus.join(&target).join(name)).unwrap().len() as usize;
            let bytes: usize = inputs.iter().map(size).sum();
            assert!(
                inputs.len() <= MAX_INPUTS && bytes <= MAX_BYTES,
                "{target}: {} in {bytes}",
                inputs.len()
            );
        }
    }

    #[test]
    fn a_crash_is_shown_by_its_panic() {
        assert!(panic_of(LOG).starts_with("  thread 'x' panicked"));
        assert!(panic_of("a\nb\n").contains("  a\n  b\n"));
    }

    #[test]
    fn a_dictionary_has_plain_texts() {
        assert!(is_plain("cniVersion") && is_plain("10.1.0.0/24"));
        assert!(!is_plain("") && !is_plain("a b") && !is_plain("a\\n") && !is_plain(&"x".repeat(41)));
    }
}
