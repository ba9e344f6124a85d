use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Plugins;

/// A node made of namespaces: its own network, `/run`, `/var/lib` and `/sys`.
///
/// Nothing has to be cleaned up: when the last process and file descriptor are gone, the
/// kernel takes the namespaces and all that is mounted and linked in them away.
#[derive(Debug)]
pub struct Host {
    net: File,
    mounts: File,
    /// `/` as the mount namespace sees it: the way to its files from outside.
    root: File,
    plugins: Plugins,
    containers: AtomicUsize,
}

impl Host {
    /// A fresh host, loopback up, on which `plugins` are installed.
    pub fn new(plugins: Plugins) -> Self {
        let (net, mounts, root) = on_own_thread(|| -> io::Result<(File, File, File)> {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            cover_machine_folders()?;
            Ok((
                File::open("/proc/thread-self/ns/net")?,
                File::open("/proc/thread-self/ns/mnt")?,
                fs::OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open("/")?,
            ))
        })
        .unwrap_or_else(|err| panic!("can't make a namespace that plays the host: {err}"));
        let host = Self { net, mounts, root, plugins, containers: AtomicUsize::new(0) };
        host.enter(crate::kernel::set_loopback_up);
        host
    }

    /// The plugins of this host.
    pub fn plugins(&self) -> Plugins {
        self.plugins
    }

    /// The same host with other plugins from here on, as after an upgrade of the node.
    pub fn upgrade(&mut self, plugins: Plugins) {
        self.plugins = plugins;
    }

    /// A new container namespace, as a runtime makes it: named, loopback down.
    ///
    /// The names are `c1`, `c2`, … in the order of making.
    pub fn container(&self) -> Container<'_> {
        let number = self.containers.fetch_add(1, Ordering::Relaxed) + 1;
        self.named_container(&format!("c{number}"))
    }

    /// A new namespace under `/run/netns/<name>`; the name is also its container id.
    pub fn named_container(&self, name: &str) -> Container<'_> {
        let path = format!("/run/netns/{name}");
        self.enter_mounts_only(|| -> io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::create(&path)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                path.as_str(),
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            Ok(())
        })
        .unwrap_or_else(|err| panic!("can't make the namespace {path}: {err}"));
        Container { host: self, id: name.to_owned(), netns: path }
    }

    /// A container that was made before, by its id.
    pub fn again(&self, id: &str) -> Container<'_> {
        Container { host: self, id: id.to_owned(), netns: format!("/run/netns/{id}") }
    }

    /// Where a file of this host (an absolute path) is found from outside of it.
    pub fn path(&self, inside: &str) -> PathBuf {
        let inside = inside.strip_prefix('/').expect("an absolute path");
        PathBuf::from(format!("/proc/self/fd/{}/{inside}", self.root.as_raw_fd()))
    }

    /// Runs `work` with this host's network and files.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.enter_mounts_only(move || {
            setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering the host's network");
            work()
        })
    }

    fn enter_mounts_only<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_own_thread(move || {
            // A mount namespace can be entered only by a thread with a working folder of its own.
            unshare(CloneFlags::CLONE_FS).expect("unsharing the working folder");
            setns(self.mounts.as_fd(), CloneFlags::CLONE_NEWNS).expect("entering the host's files");
            work()
        })
    }

    /// Runs a shell script on this host and gives its output; panics where it fails.
    pub fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|err| panic!("on the host: {err}"))
    }

    /// Runs a shell script on this host: its output, or its standard error when it failed.
    ///
    /// # Errors
    /// The script, its exit status and what it printed, where the status is not 0.
    pub fn try_sh(&self, script: &str) -> Result<String, String> {
        self.enter(|| shell(script))
    }

    /// Runs commands of ip(8), separated by `;` and without the word `ip`, in one process; panics
    /// where one fails.
    pub fn ip(&self, commands: &str) {
        self.try_ip(commands).unwrap_or_else(|err| panic!("on the host: {err}"));
    }

    /// As [`Self::ip`].
    ///
    /// # Errors
    /// The commands and what `ip` printed, where one fails; those after it are not run.
    pub fn try_ip(&self, commands: &str) -> Result<String, String> {
        self.enter(|| ip_batch(commands))
    }

    /// A file of this host with the mode of a program, such as a plugin that is a script.
    pub fn install_script(&self, path: &str, script: &str) {
        let outside = self.path(path);
        if let Some(folder) = outside.parent() {
            fs::create_dir_all(folder).expect("the script's folder");
        }
        fs::write(&outside, script).expect("writing the script");
        self.sh(&format!("chmod 755 {path}"));
    }

    /// Sees to it that `/var/lib/cni` holds extended attributes `user.*`, as a node's disk does:
    /// tmpfs does since Linux 6.6, before that an ext4 file system is made.
    ///
    /// # Errors
    /// What stood in the way of the ext4 file system.
    pub fn mount_xattr_data(&self) -> Result<(), String> {
        let probe = self.path("/var/lib/cni/xattr-probe");
        std::fs::write(&probe, "").map_err(|err| err.to_string())?;
        let holds = set_xattr(&probe, "user.probe", "1").is_ok();
        std::fs::remove_file(&probe).map_err(|err| err.to_string())?;
        if holds {
            return Ok(());
        }
        self.try_sh(
            "modprobe loop || true; truncate -s 16M /run/data.ext4; mkfs.ext4 -q -F /run/data.ext4; \
             mount -o loop /run/data.ext4 /var/lib/cni; rmdir /var/lib/cni/lost+found",
        )
        .map(drop)
    }

    /// Sets an extended attribute of a file of this host, and fails the test where it can't.
    pub fn set_xattr(&self, path: &str, name: &str, value: &str) {
        if let Err(err) = set_xattr(&self.path(path), name, value) {
            panic!("can't set {name} of {path}: {err}");
        }
    }
}

/// A container's network namespace on a [`Host`].
#[derive(Debug)]
pub struct Container<'h> {
    pub(crate) host: &'h Host,
    id: String,
    netns: String,
}

impl<'h> Container<'h> {
    /// The container id that calls use for it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The namespace's path on the host.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// The host that it lives on.
    pub fn host(&self) -> &'h Host {
        self.host
    }

    /// Runs `work` with the container's network and the host's files.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.host.enter(|| {
            let netns = File::open(&self.netns).expect("opening the container's namespace");
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering the container's network");
            drop(netns);
            work()
        })
    }

    /// Runs a shell script in the container's network and gives its output; panics where it fails.
    pub fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|err| panic!("in {}: {err}", self.id))
    }

    /// Runs a shell script in the container's network.
    ///
    /// # Errors
    /// The script, its exit status and what it printed, where the status is not 0.
    pub fn try_sh(&self, script: &str) -> Result<String, String> {
        self.enter(|| shell(script))
    }

    /// Runs commands of ip(8) in the container's network, as [`Host::ip`]; panics where one fails.
    pub fn ip(&self, commands: &str) {
        self.try_ip(commands).unwrap_or_else(|err| panic!("in {}: {err}", self.id));
    }

    /// As [`Self::ip`].
    ///
    /// # Errors
    /// The commands and what `ip` printed, where one fails; those after it are not run.
    pub fn try_ip(&self, commands: &str) -> Result<String, String> {
        self.enter(|| ip_batch(commands))
    }

    /// True where `address` answers a ping within seconds, also while an IPv6 address of the
    /// other side is still being looked for elsewhere.
    pub fn reaches(&self, address: &str) -> bool {
        crate::eventually(|| self.answered(address))
    }

    /// True where `address` does not answer a ping within a second.
    pub fn is_cut_off_from(&self, address: &str) -> bool {
        !self.answered(address)
    }

    fn answered(&self, address: &str) -> bool {
        self.try_sh(&format!("ping -n -c 1 -W 1 {address}")).is_ok()
    }

    /// Takes the namespace away, as a runtime does before a late DEL.
    pub fn vanish(&self) {
        // As runtimes do: a process that looks at the namespace at this moment does not keep the path.
        self.host.sh(&format!("umount --lazy {0} && rm {0}", self.netns));
    }
}

/// Gives the thread's mount namespace folders of its own where tests would otherwise meet.
fn cover_machine_folders() -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for folder in ["/run", "/var/lib"] {
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    }
    // sysfs shows the links of the network namespace that mounted it.
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    for folder in ["/run/netns", "/run/lock", "/var/lib/cni"] {
        fs::create_dir_all(folder)?;
    }
    Ok(())
}

/// Namespaces belong to threads: what is entered here ends with the thread.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn shell(script: &str) -> Result<String, String> {
    run("/bin/sh", &["-euc", script], "", script)
}

fn ip_batch(commands: &str) -> Result<String, String> {
    run("ip", &["-batch", "-"], &commands.replace(';', "\n"), commands)
}

/// Runs a program and gives its output; `shown` stands for it in an error.
fn run(program: &str, arguments: &[&str], input: &str, shown: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| format!("can't start {program}: {err}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|err| format!("can't write to {program}: {err}"))?;
    }
    let output = child.wait_with_output().map_err(|err| format!("can't wait for {program}: {err}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{shown}` ended with {}\n{stdout}{stderr}", output.status))
}

/// See setxattr(2).
#[allow(unsafe_code, reason = "neither std nor nix wraps setxattr")]
pub(crate) fn set_xattr(file: &Path, name: &str, value: &str) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;
    let file = CString::new(file.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    // SAFETY: both names end in NUL and, like the value, outlive the call; the length is the value's.
    let result =
        unsafe { nix::libc::setxattr(file.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An extended attribute as text; nothing where it is not there. See getxattr(2).
#[allow(unsafe_code, reason = "neither std nor nix wraps getxattr")]
pub fn get_xattr(file: &Path, name: &str) -> Option<String> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;
    let file = CString::new(file.as_os_str().as_bytes()).ok()?;
    let name = CString::new(name).ok()?;
    let mut value = [0_u8; 256];
    // SAFETY: both names end in NUL and, like the buffer, outlive the call; the length is the buffer's.
    let length =
        unsafe { nix::libc::getxattr(file.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let length = usize::try_from(length).ok()?;
    Some(String::from_utf8_lossy(&value[..length]).into_owned())
}
