//! Runs cases side by side, each in a process and namespaces of its own.

use crate::Result;
use crate::case::{Case, Kind};
use crate::plan::{Item, Selection, plan};
use crate::profile::Profile;
use crate::report::{Entry, ProfileReport, Report};
use crate::worker::{CaseJob, Failure, Job, Outcome, ProbeJob, Probed, Status};
use nix::sched::{CloneFlags, unshare};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Where the control groups are.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// Number of the next case.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The hidden command by which the program runs one case.
pub const WORKER: &str = "case-worker";

/// The plugins under test.
#[derive(Debug, Clone)]
pub struct Target {
    /// Their folder, absolute.
    pub plugins: PathBuf,
    /// This program: it executes itself for each case.
    pub program: PathBuf,
}

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Cases at the same time.
    pub jobs: usize,
    /// Time after which a plugin counts as hanging.
    pub limit: Duration,
    /// Called after each run with the number of runs that are done.
    pub progress: Option<fn(usize, usize)>,
}

impl Default for Options {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        // Cases mostly wait, for the kernel's grace periods above all.
        Self { jobs: processors * 2, limit: Duration::from_secs(20), progress: None }
    }
}

impl Target {
    /// The plugins of a folder, tested by the program that is running.
    ///
    /// # Errors
    /// The folder is not there.
    pub fn new(plugins: &Path) -> Result<Self> {
        let absolute = plugins.canonicalize().map_err(|error| format!("{}: {error}", plugins.display()))?;
        if !absolute.is_dir() {
            return Err(format!("{} is not a folder", plugins.display()));
        }
        let program = std::env::current_exe().map_err(|error| format!("can't find this program: {error}"))?;
        Ok(Self { plugins: absolute, program })
    }

    /// Whether the folder has a plugin.
    #[must_use]
    pub fn has(&self, plugin: &str) -> bool {
        self.plugins.join(plugin).is_file()
    }
}

/// Runs what `selection` wants for all `profiles`.
///
/// # Errors
/// Nothing could be run: not root, or the kernel refuses namespaces.
pub fn run(
    target: &Target,
    profiles: &[Profile],
    cases: &[Case],
    selection: &Selection,
    options: &Options,
) -> Result<Report> {
    if !nix::unistd::geteuid().is_root() {
        return Err("namespaces and links can be made by root only: run this as root".to_owned());
    }
    let start = Instant::now();
    let probed = probe(target, profiles, cases, options)?;
    let items: Vec<Item<'_>> = profiles
        .iter()
        .flat_map(|profile| plan(profile, cases, selection, &probed, &target.plugins))
        .collect();
    let outcomes = run_all(target, &items, options);
    let mut report = Report::new(&target.plugins, selection.is_choice());
    for profile in profiles {
        let versions = probed.versions.get(&profile.plugin).cloned().unwrap_or_default();
        let mut part = ProfileReport::new(profile, versions);
        for (item, outcome) in items.iter().zip(&outcomes) {
            if item.profile.name == profile.name {
                part.entries.push(Entry::new(item, outcome.clone()));
            }
        }
        report.profiles.push(part);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Finds out what the kernel, the node and the plugins have.
///
/// # Errors
/// Namespaces can't be made.
pub fn probe(target: &Target, profiles: &[Profile], cases: &[Case], options: &Options) -> Result<Probed> {
    let mut job = ProbeJob {
        plugins: target.plugins.clone(),
        types: profiles.iter().map(|profile| profile.plugin.clone()).collect(),
        kernel: Vec::new(),
        programs: Vec::new(),
        limit: options.limit.as_secs_f64(),
    };
    for needs in cases.iter().map(|case| &case.needs).chain(profiles.iter().map(|profile| &profile.needs)) {
        job.kernel.extend(needs.kernel.iter().cloned());
        job.programs.extend(needs.programs.iter().cloned());
    }
    for list in [&mut job.types, &mut job.kernel, &mut job.programs] {
        list.sort();
        list.dedup();
    }
    let limit = options.limit * u32::try_from(job.types.len() + 2).unwrap_or(2);
    work(target, &Job::Probe(job), limit)
}

fn run_all(target: &Target, items: &[Item<'_>], options: &Options) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let outcomes = std::sync::Mutex::new(vec![None; items.len()]);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let outcome = run_one(target, item, options);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes[index] = Some(outcome);
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if let Some(progress) = options.progress {
                        progress(done, items.len());
                    }
                }
            });
        }
    });
    let lost = || verdict(Status::Broken, "the thread of this case ended early");
    let outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect()
}

fn run_one(target: &Target, item: &Item<'_>, options: &Options) -> Outcome {
    if let Some(reason) = &item.skip {
        return verdict(Status::Skipped, reason);
    }
    let job = CaseJob {
        plugins: target.plugins.clone(),
        profile: item.profile.clone(),
        case: item.case.clone(),
        version: item.version,
        unique: format!("cni-conformance-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
        limit: options.limit.as_secs_f64(),
    };
    // A case that hangs elsewhere than in a plugin: every call may take its limit, and there are ten.
    let limit = options.limit * 10;
    let groups = (item.profile.kind == Kind::Runtime).then(|| job.unique.clone());
    let outcome = work(target, &Job::Case(Box::new(job)), limit);
    if let Some(prefix) = groups {
        remove_groups(Path::new(CGROUPS), &prefix);
    }
    outcome.unwrap_or_else(|error| verdict(Status::Broken, &error))
}

/// Removes the control groups that a runtime left behind: unlike namespaces they don't end with the
/// processes in them. Groups of the first version have a folder for each controller.
fn remove_groups(folder: &Path, prefix: &str) {
    let folders =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in
        folders(folder).chain(folders(folder).flat_map(|controller| folders(&controller).collect::<Vec<_>>()))
    {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            remove_group(&path);
        }
    }
}

/// Removes one and those in it.
fn remove_group(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    // One that is not empty stays: it can't be, all processes of the case have ended.
    let _ = fs::remove_dir(path);
}

fn verdict(status: Status, message: &str) -> Outcome {
    let failure = Some(Failure { message: message.to_owned(), ..Failure::default() });
    Outcome { status, failure, milliseconds: 0 }
}

/// Executes this program for one job, as the first process of new namespaces: when it ends, the kernel
/// ends all that it started, and the namespaces with it.
fn work<T: DeserializeOwned + Send>(target: &Target, job: &Job, limit: Duration) -> Result<T> {
    let input = serde_json::to_vec(job).map_err(|error| error.to_string())?;
    let output = supervise(start(&target.program)?, &input, limit)?;
    serde_json::from_slice(&output).map_err(|error| {
        format!("the process of the case printed {:?}: {error}", String::from_utf8_lossy(&output))
    })
}

/// Starts this program in new namespaces. By a thread of its own: one that has made a PID namespace for
/// its children can neither start threads nor leave it again.
fn start(program: &Path) -> Result<Child> {
    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let spawn = || {
        unshare(namespaces).map_err(|error| format!("can't make namespaces: {error}"))?;
        Command::new(program)
            .arg(WORKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("can't execute {}: {error}", program.display()))
    };
    std::thread::scope(|scope| scope.spawn(spawn).join().map_err(|_| "a thread panicked".to_owned())?)
}

/// Hands over the input, waits for the output, and ends the process if that takes too long.
fn supervise(mut child: Child, input: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("a process without pipes".to_owned());
    };
    stdin.write_all(input).map_err(|error| format!("the process of a case reads nothing: {error}"))?;
    drop(stdin);
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let (mut out, mut err) = (Vec::new(), String::new());
        let read = stdout.read_to_end(&mut out).and_then(|_| stderr.read_to_string(&mut err));
        // The receiver is gone only if the time is over.
        let _ = sender.send(read.map(|_| (out, err)));
    });
    let received = receiver.recv_timeout(limit);
    if received.is_err() {
        child.kill().map_err(|error| format!("can't end the process of a case: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("can't wait for the process of a case: {error}"))?;
    let _ = reader.join();
    match received {
        Err(_) => Err(format!("the case did not end within {} s", limit.as_secs())),
        Ok(Err(error)) => Err(format!("can't read from the process of a case: {error}")),
        Ok(Ok((out, _))) if status.success() => Ok(out),
        Ok(Ok((_, err))) => Err(format!("the process of the case failed ({status}): {}", err.trim())),
    }
}
