//! Attachments with addresses of a DHCP server, and what the daemon costs while nothing happens.

mod server;

use super::contender::{Contender, Verb, Who};
use super::sample::{Series, Summary};
use super::workload::{Bench, SETTLE};
use crate::error::{Context, Failure, Result};
use crate::private_host::ip;
use serde::Serialize;
use serde_json::{Value, json};
use server::Server;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The master of all attachments.
const MASTER: &str = "master-d";

/// An attachment by the Go pair takes seconds.
const MOST_ROUNDS: usize = 20;

/// The leases that the idle daemon holds, and how long it is looked at.
pub(crate) const IDLE_LEASES: usize = 200;
const IDLE: Duration = Duration::from_secs(20);

/// The probes for other hosts with an address end some seconds after an ADD.
const AFTER_ADD: Duration = Duration::from_secs(5);

/// What was measured; empty where it was not requested, or the kernel lacks macvlan.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Leases {
    pub(crate) measured: Vec<Leased>,
    /// What the server took for the two answers of a lease, in microseconds: the median.
    pub(crate) server_us: f64,
    pub(crate) idle: Option<Idle>,
}

/// The figures of one contender at one command.
#[derive(Debug, Serialize)]
pub(crate) struct Leased {
    pub(crate) ipam: Ipam,
    pub(crate) verb: Verb,
    pub(crate) who: Who,
    #[serde(flatten)]
    pub(crate) figures: Summary,
}

/// Where the address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ipam {
    Dhcp,
    Static,
}

impl Ipam {
    pub(crate) const ALL: [Self; 2] = [Self::Dhcp, Self::Static];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Dhcp => "macvlan + dhcp",
            Self::Static => "macvlan + static",
        }
    }

    fn config(self) -> Value {
        let ipam = match self {
            Self::Dhcp => json!({ "type": "dhcp" }),
            Self::Static => json!({
                "type": "static",
                "addresses": [{ "address": "10.66.255.2/16", "gateway": "10.66.0.1" }],
                "routes": [{ "dst": "0.0.0.0/0" }],
            }),
        };
        json!({ "cniVersion": "1.0.0", "name": "bench-dhcp", "type": "macvlan", "master": MASTER, "ipam": ipam })
    }
}

/// The daemon with its leases, while none is due.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) leases: usize,
    pub(crate) memory_kib: u64,
    /// How often it was woken in [`IDLE`].
    pub(crate) wake_ups: u64,
}

/// A daemon that is killed when this is dropped.
struct Daemon(Child);

impl Daemon {
    /// Starts the daemon of a folder of plugins, and waits for its socket.
    fn start(folder: &Path, socket: &str) -> Result<Daemon> {
        let program = folder.join("dhcp");
        let child = Command::new(&program)
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(|| format!("can't start {}", program.display()))?;
        let daemon = Daemon(child);
        let end = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            if Instant::now() > end {
                return Err(Failure::new(format!("{} does not listen at {socket}", program.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    /// A number in `/proc/<pid>/status`, of the whole process or of all its threads.
    fn status(&self, key: &str) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten().flatten();
        let read = |path: PathBuf| {
            let text = fs::read_to_string(path.join("status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        tasks.map(|task| read(task.path())).collect::<Vec<u64>>().into_iter().sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Measures ADD and DEL of the multicall binary and of the Go plugins, and the daemon at rest.
pub(crate) fn measure(bench: &Bench<'_>, contenders: &[Contender], rounds: usize) -> Result<Leases> {
    let Some(service) = Service::start(bench, contenders)? else { return Ok(Leases::default()) };
    let rounds = rounds.min(MOST_ROUNDS);
    let measured = service.attachments(bench, rounds)?;
    bench.progress.print(format!("macvlan + dhcp: {rounds} rounds"));
    let server_us = service.server.two_answers_us();
    let idle = Some(idle(bench, service.ours, &service.daemon)?);
    Ok(Leases { measured, server_us, idle })
}

/// Makes each call once, without measuring it.
pub(crate) fn call_once(bench: &Bench<'_>, contenders: &[Contender]) -> Result<()> {
    let Some(service) = Service::start(bench, contenders)? else { return Ok(()) };
    service.attachments(bench, 0).map(drop)
}

/// A DHCP server and the daemons of those that are measured.
struct Service<'c> {
    able: Vec<&'c Contender>,
    ours: &'c Contender,
    server: Server,
    daemon: Daemon,
    _go_daemon: Option<Daemon>,
}

impl<'c> Service<'c> {
    /// `None` where the multicall binary has no dhcp, or the kernel lacks what it needs.
    fn start(bench: &Bench<'_>, contenders: &'c [Contender]) -> Result<Option<Self>> {
        let wanted = |one: &&Contender| {
            matches!(one.who, Who::Multicall | Who::Go) && one.has(&["macvlan", "dhcp", "static"])
        };
        let able: Vec<&Contender> = contenders.iter().filter(wanted).collect();
        let of = |who: Who| able.iter().find(|one| one.who == who).copied();
        let Some(ours) = of(Who::Multicall) else { return Ok(None) };
        let server = match prepare(bench) {
            Ok(server) => server,
            Err(failure) => {
                bench.progress.print(format!("dhcp: left out: this kernel lacks it ({failure})"));
                return Ok(None);
            }
        };
        // The Go daemon comes first: ours leaves the common socket to it.
        let go = of(Who::Go).map(|go| Daemon::start(&go.folder, "/run/cni/dhcp.sock")).transpose()?;
        let daemon = Daemon::start(&ours.folder, "/run/oxcni/dhcp.sock")?;
        Ok(Some(Self { able, ours, server, daemon, _go_daemon: go }))
    }

    /// All contenders in turn, with an address by either way; a first round warms up.
    fn attachments(&self, bench: &Bench<'_>, rounds: usize) -> Result<Vec<Leased>> {
        let netns = bench.host.container("bench-dhcp")?;
        let mut series: BTreeMap<(Ipam, Verb, Who), Series> = BTreeMap::new();
        for round in 0..=rounds {
            bench.progress.update(format!("macvlan + dhcp: round {round} of {rounds}"));
            for contender in &self.able {
                for ipam in Ipam::ALL {
                    for verb in [Verb::Add, Verb::Del] {
                        let id = format!("bench-{round}");
                        let config = ipam.config();
                        let sample = contender.call(bench.meter, "macvlan", verb, &netns, &id, &config)?;
                        if round > 0 {
                            series.entry((ipam, verb, contender.who)).or_default().push(sample);
                        }
                        std::thread::sleep(SETTLE);
                    }
                }
            }
        }
        let summary = |((ipam, verb, who), series): ((Ipam, Verb, Who), Series)| {
            Some(Leased { ipam, verb, who, figures: series.summary()? })
        };
        Ok(series.into_iter().filter_map(summary).collect())
    }
}

/// Makes the master and the server behind it.
fn prepare(bench: &Bench<'_>) -> Result<Server> {
    let netns = bench.host.container("dhcp-server")?;
    ip(&format!("link add name {MASTER} type veth peer name eth0 netns dhcp-server"))?;
    ip(&format!("link set {MASTER} up"))?;
    for command in ["link set eth0 up", "addr add 10.66.0.1/16 dev eth0", "route add default dev eth0"] {
        ip(&format!("-n dhcp-server {command}"))?;
    }
    ip(&format!("link add link {MASTER} name probe type macvlan"))?;
    ip("link del probe")?;
    Server::start(&netns)
}

/// Has the daemon hold many leases, and looks what it does while none is due.
fn idle(bench: &Bench<'_>, ours: &Contender, daemon: &Daemon) -> Result<Idle> {
    for number in 0..IDLE_LEASES {
        bench.progress.update(format!("idle daemon: lease {number} of {IDLE_LEASES}"));
        let name = format!("idle-{number}");
        let netns = bench.host.container(&name)?;
        ours.call(bench.meter, "macvlan", Verb::Add, &netns, &name, &Ipam::Dhcp.config())?;
    }
    std::thread::sleep(AFTER_ADD);
    let before = daemon.status("voluntary_ctxt_switches");
    std::thread::sleep(IDLE);
    let wake_ups = daemon.status("voluntary_ctxt_switches") - before;
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap_or_default();
    let memory =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    bench.progress.print(format!("dhcp daemon: {IDLE_LEASES} leases held for {} s", IDLE.as_secs()));
    Ok(Idle { leases: IDLE_LEASES, memory_kib: memory.unwrap_or(0), wake_ups })
}
