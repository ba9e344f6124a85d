//! User-mode Linux: Debian's kernel as a process of this machine, with features that this kernel may lack.
//!
//! A process costs five times as much as outside, on QEMU's emulated processor forty times. There is one processor,
//! and nf_tables has no family `inet`: what needs these runs on QEMU.

use super::job::{Job, quoted};
use crate::debian;
use crate::error::{Context, Failure, Result};
use crate::progress::Progress;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PACKAGES: [&str; 4] = ["busybox-static", "iproute2", "kmod", "user-mode-linux"];

/// Where Debian's package has the modules of its kernel.
const MODULES: &str = "/usr/lib/uml/modules";

/// What a machine is made of.
#[derive(Debug)]
pub(crate) struct UserMode {
    /// Such as `6.1.176`.
    pub(crate) release: String,
    /// A folder of the host that can be written to from inside.
    pub(crate) results: PathBuf,
    /// Time for boot and command together.
    pub(crate) limit: Duration,
}

impl UserMode {
    /// Installs the kernel if need be.
    ///
    /// # Errors
    /// It can't be installed.
    pub(crate) fn prepare(results: PathBuf, limit: Duration, progress: &Progress) -> Result<Self> {
        debian::ensure(&PACKAGES, progress)?;
        fs::create_dir_all(&results).context(|| format!("can't make {}", results.display()))?;
        let releases = fs::read_dir(MODULES).context(|| format!("can't read {MODULES}"))?;
        let release = releases.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).max();
        let release = release.ok_or_else(|| Failure::new(format!("no kernel in {MODULES}")))?;
        Ok(Self { release, results, limit })
    }

    /// Boots and runs the job; gives the exit code. What the job prints is part of the error where the machine fails.
    ///
    /// # Errors
    /// The machine ends before its command does, or at the time limit.
    pub(crate) fn run(&self, job: &Job) -> Result<u8> {
        let folder = tempfile::Builder::new().prefix("oxcni-user-mode-").tempdir();
        let folder = folder.context(|| "can't make a temporary folder".into())?;
        let folder = folder.path();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).context(|| format!("can't write {}", path.display()))
        };
        write("settings", &self.settings(folder))?;
        write("command", &job.script())?;
        write("init", include_str!("user_mode.sh"))?;
        fs::set_permissions(folder.join("init"), fs::Permissions::from_mode(0o700))
            .context(|| "can't make the first program executable".into())?;
        let console = folder.join("console");
        let output = fs::File::create(&console).context(|| format!("can't make {}", console.display()))?;
        let mut machine = command(folder);
        let mut machine = machine.stdout(output).spawn().context(|| "can't start linux.uml".into())?;
        let in_time = wait(&mut machine, self.limit);
        // Processes inside are processes of the machine's group.
        let _ = killpg(Pid::from_raw(machine.id() as i32), Signal::SIGKILL);
        let _ = machine.wait();
        let exit = fs::read_to_string(folder.join("exit")).unwrap_or_default();
        exit.trim().parse().map_err(|_| {
            let what = if in_time { "ended before its command did" } else { "did not end in time" };
            let lines = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
            Failure::new(format!("user-mode Linux {what}\n{}{}", lines("console"), lines("output")))
        })
    }

    fn settings(&self, folder: &Path) -> String {
        let modules = Path::new(MODULES).join(&self.release);
        let paths = [("FOLDER", folder), ("RESULTS", &self.results), ("MODULES", &modules)];
        let line = |name, value: &str| format!("{name}={}\n", quoted(value));
        paths.map(|(name, path)| line(name, &path.to_string_lossy())).concat()
            + &line("RELEASE", &self.release)
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new("linux.uml");
    command
        .args(["mem=2048M", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con=null", "con0=null,fd:1"])
        .arg(format!("uml_dir={}/", folder.display()))
        .arg(format!("init={}", folder.join("init").display()))
        .stdin(Stdio::null())
        .process_group(0);
    command
}

/// Whether the machine ends within the limit.
fn wait(machine: &mut Child, limit: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if !matches!(machine.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}
