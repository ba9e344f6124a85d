//! Test binaries: built by cargo, run by us, here or in the virtual machine.

use super::tally::{Tally, count};
use crate::error::{Context, Failure, Result};
use crate::progress::{Progress, short};
use crate::workspace::{Workspace, cargo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a test that can't run says so: a line `TEST: REASON` in the file this names.
const SKIP_LOG: &str = "OXCNI_SKIP_LOG";

/// Where a test that is not repeated in the machine says so, in the same form.
const LEFT_OUT_LOG: &str = "OXCNI_LEFT_OUT_LOG";

/// How many tests of a binary run side by side, unless `RUST_TEST_THREADS` says otherwise: what they
/// wait for is the kernel taking namespaces and links down, answers to pings, and limits of time.
const SIDE_BY_SIDE: &str = "12";

/// How many binaries run side by side: the last tests of one do not wait alone.
const AT_ONCE: usize = 3;

/// How often a long run says that it is alive where no line can be overwritten.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// An executable full of tests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TestBinary {
    pub(crate) package: String,
    /// The target: the crate for unit tests, the file for integration tests.
    name: String,
    path: PathBuf,
    /// The package's folder, where its tests expect to be run.
    folder: PathBuf,
}

impl TestBinary {
    fn title(&self) -> String {
        if self.name.replace('_', "-") == self.package.replace('_', "-") {
            self.package.clone()
        } else {
            format!("{} {}", self.package, self.name)
        }
    }
}

/// Builds all tests of the workspace and finds their executables in what cargo says.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<TestBinary>> {
    let mut build = cargo()
        .args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context(|| "can't start cargo test".into())?;
    let stdout = build.stdout.take().ok_or_else(|| Failure::new("cargo has no output"))?;
    let mut binaries = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context(|| "can't read cargo's messages".into())?;
        if let Ok(message) = serde_json::from_str::<Message>(&line) {
            binaries.extend(message.test_binary(workspace));
        }
    }
    let status = build.wait().context(|| "can't wait for cargo test".into())?;
    if !status.success() {
        return Err(Failure::new("the tests don't build"));
    }
    binaries.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(binaries)
}

/// One of cargo's messages, as far as it concerns us:
/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
    target: Option<MessageTarget>,
    profile: Option<MessageProfile>,
}

#[derive(Deserialize)]
struct MessageTarget {
    name: String,
}

#[derive(Deserialize)]
struct MessageProfile {
    test: bool,
}

impl Message {
    fn test_binary(self, workspace: &Workspace) -> Option<TestBinary> {
        if self.reason != "compiler-artifact" || !self.profile?.test {
            return None;
        }
        let manifest = self.manifest_path?;
        let package = workspace.packages.iter().find(|package| package.manifest_path == manifest)?;
        Some(TestBinary {
            package: package.name.clone(),
            name: self.target?.name,
            path: self.executable?,
            folder: package.folder().to_owned(),
        })
    }
}

/// How test binaries are run.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Handed to each test binary: filters and options of its own.
    pub(crate) arguments: Vec<String>,
    /// Set for each test binary.
    pub(crate) environment: BTreeMap<String, String>,
    /// Where the output of each goes.
    pub(crate) logs: PathBuf,
    /// Put before each line about them, where they run in two places at once.
    pub(crate) place: String,
}

/// Runs the binaries, some at once, with a line for each that has ended.
pub(crate) fn run_all(binaries: &[TestBinary], options: &Options, progress: &Progress) -> Result<Tally> {
    fs::create_dir_all(&options.logs).context(|| format!("can't make {}", options.logs.display()))?;
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Ok(Tally::default()));
    let work = || {
        while let Some(binary) = binaries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            let mut command = Command::new(&binary.path);
            command.args(&options.arguments).envs(&options.environment).current_dir(&binary.folder);
            let tally = run_one(command, &binary.title(), options, progress);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            match (tally, total.as_mut()) {
                (Ok(tally), Ok(sum)) => {
                    let (place, title) = (&options.place, binary.title());
                    progress.print(format!("{place}{title}: {tally} in {}", short(begun.elapsed())));
                    sum.add(tally);
                }
                (Err(failure), Ok(_)) => *total = Err(failure),
                (_, Err(_)) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the examples in the documentation of the libraries.
pub(crate) fn run_doc_tests(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<Tally> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--doc", "--quiet", "--"]).arg("--format=pretty");
    command.args(&options.arguments).current_dir(&workspace.root);
    let tally = run_one(command, "documentation", options, progress)?;
    progress.print(format!("examples in the documentation: {tally}"));
    Ok(tally)
}

fn run_one(mut command: Command, title: &str, options: &Options, progress: &Progress) -> Result<Tally> {
    let log = options.logs.join(title.replace([' ', '/'], "-"));
    let (skips, left_out) = (log.with_extension("skipped"), log.with_extension("left-out"));
    let stderr = log.with_extension("stderr");
    let _ = (fs::remove_file(&skips), fs::remove_file(&left_out));
    let stderr_file = File::create(&stderr).context(|| format!("can't write {}", stderr.display()))?;
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", SIDE_BY_SIDE);
    }
    let mut child = command
        .env(SKIP_LOG, &skips)
        .env(LEFT_OUT_LOG, &left_out)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr_file)
        .spawn()
        .context(|| format!("can't start the tests of {title}"))?;
    let stdout = child.stdout.take().ok_or_else(|| Failure::new("a test binary has no output"))?;
    let output = follow(lines_of(stdout), &format!("{}{title}", options.place), progress);
    let status = child.wait().context(|| format!("can't wait for the tests of {title}"))?;
    let _ = fs::write(log.with_extension("stdout"), output.join("\n"));

    let read = |log| fs::read_to_string(log).unwrap_or_default();
    let mut tally = count(&output, &read(&skips), &read(&left_out));
    if !status.success() && tally.failed.is_empty() {
        tally.failed.push(format!("{title}: ended with {status}"));
    }
    if !tally.failed.is_empty() {
        print_failure(&format!("{}{title}", options.place), &output, &stderr);
    }
    Ok(tally)
}

/// Takes the lines as they come and shows how far the tests are.
fn follow(lines: Receiver<String>, title: &str, progress: &Progress) -> Vec<String> {
    let mut output = Vec::new();
    let mut done = 0_usize;
    let mut last_word = Instant::now();
    loop {
        match lines.recv_timeout(HEARTBEAT) {
            Ok(line) => {
                if line.starts_with("test ") && line.contains(" ... ") {
                    done += 1;
                    progress.update(format!("{title}: {done} done, {}", &line["test ".len()..]));
                }
                output.push(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return output,
        }
        if last_word.elapsed() >= HEARTBEAT && !progress.is_live() {
            progress.print(format!("{title}: {done} done so far"));
            last_word = Instant::now();
        }
    }
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(|line| line.ok()) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    lines
}

/// The output of the failed tests, or the last of it where the binary itself broke down.
fn print_failure(title: &str, output: &[String], stderr: &Path) {
    // One at a time, whole.
    let _out = std::io::stdout().lock();
    println!("\n──── {title} failed ────");
    let from = output.iter().position(|line| line == "failures:");
    let from = from.unwrap_or(output.len().saturating_sub(40));
    for line in &output[from..] {
        println!("{line}");
    }
    let text = fs::read(stderr).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    if !lines.is_empty() {
        println!("──── the last of its standard error ({}) ────", stderr.display());
        println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
    }
}
