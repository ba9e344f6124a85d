mod flood;
mod scripted;
mod scripted_ipv6;
mod scripted_server;

/// What tests of IPv6 have in common.
pub mod dual_stack;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::{Container, Host, Plugins, eventually, with_keys};

pub use flood::Flood;
pub use scripted::{Reply, Request, Scripted};
pub use scripted_ipv6::{Ipv6Reply, Ipv6Request, ScriptedIpv6, association};
pub use scripted_server::{Message, Server};

/// A process that is killed when this is dropped, and the file that has what it printed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    fn start(command: Command, log: PathBuf, name: &str) -> Process {
        Process::start_with(command, log, name, Stdio::null())
    }

    fn start_with(mut command: Command, log: PathBuf, name: &str, stdin: Stdio) -> Process {
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let errors = output.try_clone().expect("a second handle");
        let child = command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(stdin)
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

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
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

impl Host {
    /// The daemon of Debian's Go plugin.
    pub fn go_dhcp_daemon(&self) -> Process {
        let mut command = Command::new(Plugins::Go.dir().join("dhcp"));
        command.arg("daemon");
        let log = self.path("/run/go-dhcp-daemon.log");
        self.enter(|| Process::start(command, log.clone(), "the Go daemon"))
    }

    /// Our daemon with a socket at a path that it gets as systemd hands one over.
    pub fn dhcp_daemon_handed(&self, path: &str, arguments: &[&str]) -> Process {
        // The shell sets LISTEN_PID to what becomes the daemon; the socket comes as descriptor 3.
        let mut command = Command::new("/bin/sh");
        let dhcp = self.plugins().dir().join("dhcp").display().to_string();
        command.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$@\"", "sh", &dhcp, "daemon"]);
        command.args(arguments).env("LISTEN_FDS", "1");
        let log = self.path("/run/dhcp-daemon.log");
        let daemon = self.enter(|| {
            let socket = std::os::unix::net::UnixListener::bind(path).expect("a socket");
            Process::start_with(
                command,
                log.clone(),
                "dhcp daemon",
                std::os::fd::OwnedFd::from(socket).into(),
            )
        });
        daemon.prints("event=started", 1);
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

/// One of Kea's servers on the link `eth0` of a namespace.
#[derive(Debug)]
pub struct Kea {
    process: Process,
    leases: PathBuf,
    protocol: Protocol,
}

/// What differs between Kea's servers.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    program: &'static str,
    key: &'static str,
    started: &'static str,
    /// The columns of its lease file that have the lifetime and the state.
    lifetime: usize,
    state: usize,
}

const DHCP4: Protocol =
    Protocol { program: "kea-dhcp4", key: "Dhcp4", started: "DHCP4_STARTED", lifetime: 3, state: 9 };
const DHCP6: Protocol =
    Protocol { program: "kea-dhcp6", key: "Dhcp6", started: "DHCP6_STARTED", lifetime: 2, state: 13 };

impl Kea {
    /// A server with these keys of `Dhcp4` beside those that every one here has.
    pub fn start(machine: &Container<'_>, keys: Value) -> Kea {
        Kea::start_with(
            machine,
            DHCP4,
            with_keys(
                json!({ "interfaces-config": { "interfaces": ["eth0"], "dhcp-socket-type": "raw" } }),
                keys,
            ),
        )
    }

    /// A server of DHCPv6 with these keys of `Dhcp6`.
    pub fn start_ipv6(machine: &Container<'_>, keys: Value) -> Kea {
        let identifier = machine.mac("eth0").replace(':', "");
        let own = json!({
            "interfaces-config": { "interfaces": ["eth0"] },
            "server-id": { "type": "LL", "htype": 1, "identifier": identifier, "persist": false },
        });
        Kea::start_with(machine, DHCP6, with_keys(own, keys))
    }

    fn start_with(machine: &Container<'_>, protocol: Protocol, keys: Value) -> Kea {
        let Protocol { program, key, started, .. } = protocol;
        let id = machine.id();
        let folder = format!("/run/{program}-{id}");
        let host = machine.host();
        fs::create_dir_all(host.path(&folder)).expect("a folder for Kea");
        let config = with_keys(
            json!({
                "lease-database": { "type": "memfile", "name": format!("{folder}/leases.csv"), "lfc-interval": 0 },
                "loggers": [{ "name": program, "output_options": [{ "output": "stdout" }], "severity": "INFO" }],
            }),
            keys,
        );
        let file = format!("{folder}/kea.json");
        fs::write(host.path(&file), json!({ key: config }).to_string()).expect("writing Kea's configuration");
        let mut command = Command::new(format!("/usr/sbin/{program}"));
        command.args(["-c", &file]).env("KEA_PIDFILE_DIR", &folder).env("KEA_LOCKFILE_DIR", &folder);
        let log = host.path(&format!("{folder}/log"));
        let before = fs::read_to_string(&log).unwrap_or_default().matches(started).count();
        let process = machine.enter(|| Process::start(command, log.clone(), program));
        process.prints(started, before + 1);
        Kea { process, leases: host.path(&format!("{folder}/leases.csv")), protocol }
    }

    /// A server of 10.1.2.50 to 10.1.2.`last` whose leases are renewed, rebound and over after so many
    /// seconds.
    pub fn with_leases_of(machine: &Container<'_>, [renew, rebind, end]: [u32; 3], last: u8) -> Kea {
        Kea::start(
            machine,
            json!({
                "valid-lifetime": end, "renew-timer": renew, "rebind-timer": rebind, "authoritative": true,
                "subnet4": [{ "id": 1, "subnet": "10.1.2.0/24", "pools": [{ "pool": format!("10.1.2.50-10.1.2.{last}") }] }],
            }),
        )
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// How often it has granted an address: the file has a line for each time.
    pub fn grants(&self, address: &str) -> usize {
        self.lines(address).filter(|line| line[self.protocol.lifetime] != "0").count()
    }

    /// Whether the last that it knows of an address is its release.
    pub fn has_released(&self, address: &str) -> bool {
        let Protocol { lifetime, state, .. } = self.protocol;
        self.lines(address).last().is_some_and(|line| line[lifetime] == "0" || line[state] == "2")
    }

    fn lines(&self, address: &str) -> impl Iterator<Item = Vec<String>> {
        let text = fs::read_to_string(&self.leases).unwrap_or_default();
        let lines: Vec<Vec<String>> =
            text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
        let (address, least) = (address.to_owned(), self.protocol.state);
        lines.into_iter().filter(move |line| line.len() > least && line[0] == address)
    }
}
