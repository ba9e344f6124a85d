//! Whole attachments: an interface plugin with its IPAM plugin, beside the kernel's own part.

use super::contender::{Contender, Verb, Who};
use super::sample::{Meter, Series, Summary};
use crate::error::Result;
use crate::private_host::{PrivateHost, ip};
use crate::progress::Progress;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel frees what a DEL removed some time after its answer (RCU). The next call would wait for
/// that, and its time would be that of the wait.
pub(crate) const SETTLE: Duration = Duration::from_millis(60);

/// Rounds before the first that counts: bridges, indexes and caches are there then.
const WARM_UP: usize = 3;

/// An interface plugin with an IPAM plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    BridgeHostLocal,
    /// The same with `ipMasq`.
    BridgeMasquerade,
    MacvlanStatic,
    IpvlanHostLocal,
}

/// The figures of one contender at one command of one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) workload: Workload,
    pub(crate) verb: Verb,
    pub(crate) who: Who,
    #[serde(flatten)]
    pub(crate) figures: Summary,
    #[serde(skip)]
    pub(crate) series: Series,
}

/// What all measurements share.
pub(crate) struct Bench<'a> {
    pub(crate) host: &'a PrivateHost,
    pub(crate) meter: &'a Meter,
    /// The folder with the small programs.
    pub(crate) probes: &'a Path,
    /// For reservations; on a disk, as on a node.
    pub(crate) folder: &'a Path,
    pub(crate) progress: &'a Progress,
}

impl Workload {
    pub(crate) const ALL: [Self; 4] =
        [Self::BridgeHostLocal, Self::BridgeMasquerade, Self::MacvlanStatic, Self::IpvlanHostLocal];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::BridgeHostLocal => "bridge + host-local",
            Self::BridgeMasquerade => "bridge with ipMasq",
            Self::MacvlanStatic => "macvlan + static",
            Self::IpvlanHostLocal => "ipvlan + host-local",
        }
    }

    /// The interface plugin and the IPAM plugin.
    pub(crate) fn plugins(self) -> [&'static str; 2] {
        match self {
            Self::BridgeHostLocal | Self::BridgeMasquerade => ["bridge", "host-local"],
            Self::MacvlanStatic => ["macvlan", "static"],
            Self::IpvlanHostLocal => ["ipvlan", "host-local"],
        }
    }

    /// A short name for networks, containers and bridges.
    fn slug(self) -> &'static str {
        match self {
            Self::BridgeHostLocal => "br",
            Self::BridgeMasquerade => "mq",
            Self::MacvlanStatic => "macvlan",
            Self::IpvlanHostLocal => "ipvlan",
        }
    }

    /// Makes the links that the workload needs; an error where the kernel lacks their kind.
    fn prepare(self) -> Result<()> {
        match self {
            Self::BridgeHostLocal => ip("link add name floor0 type bridge").and(ip("link set floor0 up"))?,
            Self::BridgeMasquerade => String::new(),
            Self::MacvlanStatic | Self::IpvlanHostLocal => {
                let [kind, _] = self.plugins();
                let master = self.master();
                ip(&format!("link add name {master} type veth peer name {master}p"))?;
                ip(&format!("link set {master} up"))?;
                ip(&format!("link set {master}p up"))?;
                ip(&format!("link add link {master} name probe type {kind}"))?;
                ip("link del probe")?
            }
        };
        Ok(())
    }

    fn master(self) -> &'static str {
        match self {
            Self::BridgeHostLocal | Self::BridgeMasquerade => "floor0",
            Self::MacvlanStatic => "master-m",
            Self::IpvlanHostLocal => "master-i",
        }
    }

    /// Each contender has a network of its own, with an interface, a subnet and a folder.
    fn config(self, who: Who, folder: &Path) -> Value {
        let network = format!("bench-{}-{}", self.slug(), who.slug());
        let bridge = format!("{}-{}", self.slug(), who.slug());
        // Both workloads have bridges on the host at the same time.
        let second = if self == Self::BridgeMasquerade { 89 } else { 88 };
        let third = who as usize;
        let [kind, ipam_type] = self.plugins();
        let ipam = match ipam_type {
            "static" => json!({
                "type": "static",
                "addresses": [{ "address": format!("10.77.{third}.2/24"), "gateway": format!("10.77.{third}.1") }],
                "routes": [{ "dst": "0.0.0.0/0" }],
            }),
            _ => json!({
                "type": "host-local",
                "subnet": format!("10.{second}.{third}.0/24"),
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": folder.join(who.slug()),
            }),
        };
        match self {
            Self::BridgeHostLocal => json!({
                "cniVersion": "1.0.0", "name": network, "type": kind,
                "bridge": bridge, "isGateway": true, "ipam": ipam,
            }),
            Self::BridgeMasquerade => json!({
                "cniVersion": "1.0.0", "name": network, "type": kind,
                "bridge": bridge, "isGateway": true, "ipMasq": true, "ipam": ipam,
            }),
            _ => json!({
                "cniVersion": "1.0.0", "name": network, "type": kind,
                "master": self.master(), "ipam": ipam,
            }),
        }
    }

    /// `None` where nothing sends only the messages.
    fn floor_arguments(self, netns: &Path) -> Option<Vec<String>> {
        let netns = netns.display().to_string();
        let arguments: &[&str] = match self {
            Self::BridgeMasquerade => return None,
            Self::BridgeHostLocal => &["bridge", &netns, "floor1", "floor0", "10.99.0.2/24", "10.99.0.1"],
            Self::MacvlanStatic => &["macvlan", &netns, self.master(), "10.99.0.2/24", "10.99.0.1"],
            Self::IpvlanHostLocal => &["ipvlan", &netns, self.master(), "10.99.0.2/24", "10.99.0.1"],
        };
        Some(arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }

    /// Measures all contenders in turn, round after round; `None` where the kernel lacks the kind of link.
    pub(crate) fn measure(
        self,
        bench: &Bench<'_>,
        contenders: &[Contender],
        rounds: usize,
    ) -> Result<Option<Vec<Measured>>> {
        let title = self.title();
        let able: Vec<&Contender> = contenders.iter().filter(|one| one.has(&self.plugins())).collect();
        for missing in contenders.iter().filter(|one| !one.has(&self.plugins())) {
            let folder = missing.folder.display();
            bench
                .progress
                .print(format!("{title}: {} is left out: {folder} lacks a plugin", missing.who.title()));
        }
        if able.is_empty() {
            return Ok(None);
        }
        if let Err(failure) = self.prepare() {
            bench.progress.print(format!("{title}: left out: this kernel lacks it ({failure})"));
            return Ok(None);
        }
        let cases = able
            .into_iter()
            .map(|contender| Case::new(self, bench, contender.clone()))
            .collect::<Result<Vec<_>>>()?;
        let floor_name = format!("{}-floor", self.slug());
        let floor = bench.host.container(&floor_name)?;
        let mut series: BTreeMap<(Verb, Who), Series> = BTreeMap::new();
        for round in 0..WARM_UP + rounds {
            bench
                .progress
                .update(format!("{title}: round {} of {rounds}", (round + 1).saturating_sub(WARM_UP)));
            let counts = round >= WARM_UP;
            let mut keep = |verb, who, sample| {
                if counts {
                    series.entry((verb, who)).or_default().push(sample);
                }
            };
            // The order changes, so that none always follows the same other one.
            for turn in 0..cases.len() {
                let case = &cases[(turn + round) % cases.len()];
                for verb in [Verb::Add, Verb::Del] {
                    keep(verb, case.contender.who, case.call(bench, verb, round)?);
                    std::thread::sleep(SETTLE);
                }
            }
            if let Some(arguments) = self.floor_arguments(&floor) {
                keep(Verb::Add, Who::Floor, floor_sample(bench, &arguments, &floor_name)?);
            }
            keep(
                Verb::Add,
                Who::Empty,
                bench.meter.run::<&str>(&bench.probes.join("probe-empty"), &[], &[], "")?,
            );
        }
        bench.progress.print(format!("{title}: {rounds} rounds"));
        let measured = series.into_iter().filter_map(|((verb, who), series)| {
            Some(Measured { workload: self, verb, who, figures: series.summary()?, series })
        });
        Ok(Some(measured.collect()))
    }
}

/// Sends the messages of one ADD, and deletes the link.
fn floor_sample(bench: &Bench<'_>, arguments: &[String], name: &str) -> Result<super::sample::Sample> {
    let sample = bench.meter.run(&bench.probes.join("probe-floor"), arguments, &[], "")?;
    std::thread::sleep(SETTLE);
    ip(&format!("-n {name} link del eth0"))?;
    std::thread::sleep(SETTLE);
    Ok(sample)
}

/// A contender with its container and its network.
struct Case {
    contender: Contender,
    plugin: &'static str,
    netns: PathBuf,
    config: Value,
}

impl Case {
    fn new(workload: Workload, bench: &Bench<'_>, contender: Contender) -> Result<Self> {
        let [plugin, _] = workload.plugins();
        let netns = bench.host.container(&format!("{}-{}", workload.slug(), contender.who.slug()))?;
        let config = workload.config(contender.who, bench.folder);
        Ok(Self { contender, plugin, netns, config })
    }

    fn call(&self, bench: &Bench<'_>, verb: Verb, round: usize) -> Result<super::sample::Sample> {
        let container_id = format!("bench-{round}");
        self.contender.call(bench.meter, self.plugin, verb, &self.netns, &container_id, &self.config)
    }
}
