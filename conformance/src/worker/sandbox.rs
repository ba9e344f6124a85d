//! Furnishes the namespaces that a case runs in: folders that plugins write to are empty and are
//! forgotten afterwards, and `/proc` and `/sys` show the new namespaces.

use super::HOME;
use crate::run::CGROUPS;
use crate::{Result, double};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where names of network namespaces are.
pub(crate) const NAMESPACES: &str = "/run/netns";

/// Furnishes them. The calling process must already be in them, alone. With `cgroups` the node's
/// control groups are in `/sys` too.
pub(crate) fn furnish(plugins: &Path, cgroups: bool) -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| format!("can't make mounts private: {error}"))?;
    // Both may lie below a folder that is covered next.
    let suite = open(Path::new("/proc/self/exe"))?;
    let plugins = open(plugins)?;
    let groups = if cgroups && Path::new(CGROUPS).is_dir() { Some(open(Path::new(CGROUPS))?) } else { None };
    for folder in ["/run", "/var/lib"] {
        cover(folder)?;
    }
    cover_etc_cni()?;
    for (kind, folder) in [("proc", "/proc"), ("sysfs", "/sys")] {
        mount(Some(kind), folder, Some(kind), MsFlags::empty(), none)
            .map_err(|error| format!("can't mount {folder}: {error}"))?;
    }
    if let Some(groups) = groups {
        bind(&groups, CGROUPS)?;
    }
    for folder in [NAMESPACES, &format!("{HOME}/plugins"), &format!("{HOME}/files"), double::FOLDER] {
        fs::create_dir_all(folder).map_err(|error| format!("can't make {folder}: {error}"))?;
    }
    bind(&plugins, &format!("{HOME}/plugins"))?;
    let program = format!("{HOME}/suite");
    fs::write(&program, "").map_err(|error| format!("can't make {program}: {error}"))?;
    bind(&suite, &program)?;
    // IFF_UP. A process for it would cost as much as all else that a short case does.
    fs::write("/sys/class/net/lo/flags", "1").map_err(|error| format!("can't set lo up: {error}"))
}

/// A descriptor by which the kernel finds the file again wherever something is mounted over it.
fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| format!("can't open {}: {error}", path.display()))
}

/// Covers a folder. Its size is bounded: it is memory.
fn cover(folder: &str) -> Result<()> {
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=512m"))
        .map_err(|error| format!("can't cover {folder}: {error}"))
}

/// `/etc/cni` need not exist on the node, and must not be made there.
fn cover_etc_cni() -> Result<()> {
    if Path::new("/etc/cni").is_dir() {
        return cover("/etc/cni");
    }
    let (upper, work) = ("/run/etc/upper", "/run/etc/work");
    for folder in [&format!("{upper}/cni"), work] {
        fs::create_dir_all(folder).map_err(|error| format!("can't make {folder}: {error}"))?;
    }
    let options = format!("lowerdir=/etc,upperdir={upper},workdir={work}");
    // A kernel without overlay leaves /etc as it is; the cases that need the folder can't run then.
    let _ = mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    Ok(())
}

fn bind(source: &File, target: &str) -> Result<()> {
    // The new /proc shows this process too.
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| format!("can't mount {target}: {error}"))
}

/// Makes a network namespace that plays a container.
pub(crate) fn container(name: &str) -> Result<PathBuf> {
    let path = Path::new(NAMESPACES).join(name);
    fs::write(&path, "").map_err(|error| format!("can't make {}: {error}", path.display()))?;
    let file = path.clone();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    });
    let outcome =
        thread.join().map_err(|_| format!("the thread that makes the namespace {name} panicked"))?;
    outcome.map_err(|error| format!("can't make the network namespace {name}: {error}"))?;
    Ok(path)
}

/// Runs a function in the network namespace of a container, or here for `host`.
pub(crate) fn inside<T: Send>(namespace: &str, function: impl FnOnce() -> T + Send) -> Result<T> {
    if namespace == "host" {
        return Ok(function());
    }
    let file = open(&Path::new(NAMESPACES).join(namespace))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            nix::sched::setns(&file, CloneFlags::CLONE_NEWNET)
                .map_err(|error| format!("can't enter the namespace {namespace}: {error}"))?;
            Ok(function())
        });
        thread.join().map_err(|_| "a thread panicked".to_owned())?
    })
}

/// Runs a command line and returns what it prints.
pub(crate) fn shell(line: &str) -> Result<String> {
    printed(sh(line), line)
}

/// Runs commands of `ip` in a namespace, all by one process.
pub(crate) fn ip_batch(namespace: &str, commands: &[String]) -> Result<()> {
    let mut ip = ip_in(namespace);
    let (input, mut commands_end) = std::io::pipe().map_err(|error| format!("can't make a pipe: {error}"))?;
    let text = commands.join("\n") + "\n";
    commands_end.write_all(text.as_bytes()).map_err(|error| format!("can't write to a pipe: {error}"))?;
    drop(commands_end);
    ip.args(["-batch", "-"]).stdin(input);
    printed(ip, &format!("ip -batch: {}", commands.join("; "))).map(drop)
}

/// The program `ip`, to work in a namespace.
pub(crate) fn ip_in(namespace: &str) -> Command {
    let mut ip = Command::new("ip");
    if namespace != "host" {
        ip.args(["-n", namespace]);
    }
    ip
}

/// What a command prints; `line` names it in the error where it fails.
pub(crate) fn printed(mut command: Command, line: &str) -> Result<String> {
    let output = command.output().map_err(|error| format!("can't run `{line}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{line}` failed ({}): {}", output.status, stderr.trim()))
}

/// A command line, as a person would type it.
pub(crate) fn sh(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    command
}
