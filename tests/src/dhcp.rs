use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Container, Host, Plugins, eventually};

/// A process that is killed when this is dropped, and the file that has what it printed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    fn start(mut command: Command, log: PathBuf, name: &str) -> Process {
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let errors = output.try_clone().expect("a second handle");
        let child = command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|err| panic!("can't start {name}: {err}"));
        Process { child, log, name: name.to_owned() }
    }

    /// All that it, and earlier ones with the same log, printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has printed a text so many times.
    #[track_caller]
    pub fn prints(&self, text: &str, times: usize) {
        let printed = eventually(|| self.log().matches(text).count() >= times);
        assert!(printed, "{} did not print {text:?} {times} times:\n{}", self.name, self.log());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a living process");
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Ends it as a user does, and waits for its end.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().expect("waiting for a child");
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log());
    }

    /// A line of `/proc/<pid>/status`, in KiB or as a number.
    pub fn status(&self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a living process");
        let line = text.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Host {
    /// Our daemon, listening.
    pub fn dhcp_daemon(&self, arguments: &[&str]) -> Process {
        self.dhcp_daemon_with(arguments, &[])
    }

    /// The same with variables in its environment.
    pub fn dhcp_daemon_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let plugins = if self.plugins() == Plugins::Go { Plugins::Multicall } else { self.plugins() };
        let mut command = Command::new(plugins.dir().join("dhcp"));
        command.arg("daemon").args(arguments).envs(environment.iter().copied());
        let log = self.path("/run/dhcp-daemon.log");
        let before = fs::read_to_string(&log).unwrap_or_default().matches("event=started").count();
        let daemon = self.enter(|| Process::start(command, log.clone(), "dhcp daemon"));
        daemon.prints("event=started", before + 1);
        daemon
    }
}

/// A DHCP server on the link `eth0` of a namespace.
#[derive(Debug)]
pub struct Dnsmasq {
    process: Process,
    leases: PathBuf,
}

impl Dnsmasq {
    /// A server with a range of addresses, such as `10.1.2.50,10.1.2.99,2m`, and more arguments.
    pub fn start(machine: &Container<'_>, range: &str, arguments: &[&str]) -> Dnsmasq {
        let id = machine.id();
        let leases = format!("/run/dnsmasq-{id}.leases");
        let mut command = Command::new("/usr/sbin/dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--no-ping",
                "--interface=eth0",
            ])
            .args(["--user=root", "--pid-file", "--log-dhcp", "--log-facility=-", "--dhcp-authoritative"])
            .arg(format!("--dhcp-range={range}"))
            .arg(format!("--dhcp-leasefile={leases}"))
            .args(arguments);
        let log = machine.host().path(&format!("/run/dnsmasq-{id}.log"));
        let before = fs::read_to_string(&log).unwrap_or_default().matches("DHCP, IP range").count();
        let process = machine.enter(|| Process::start(command, log.clone(), "dnsmasq"));
        process.prints("DHCP, IP range", before + 1);
        Dnsmasq { process, leases: machine.host().path(&leases) }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its lease file: a line a lease, `<expiry> <MAC> <address> <name> <client id>`.
    pub fn leases(&self) -> Vec<Vec<String>> {
        lines(&self.leases)
    }

    /// The addresses that are leased, in order.
    pub fn leased(&self) -> Vec<String> {
        let mut leased: Vec<_> = self.leases().into_iter().map(|line| line[2].clone()).collect();
        leased.sort();
        leased
    }
}

fn lines(file: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .filter(|words: &Vec<String>| words.len() >= 5)
        .collect()
}

/// What comes back from a Unix socket for some bytes, sent by a user.
#[allow(unsafe_code)] // there is no other way to change the user of one thread
pub fn exchange(path: &str, user: u32, bytes: &[u8]) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    // SAFETY: it takes three numbers. Of this thread alone: nix would change the user of the process.
    let changed = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, user, user, user) };
    assert_eq!(changed, 0, "becoming user {user}");
    let mut stream = std::os::unix::net::UnixStream::connect(path).expect("connecting");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}
