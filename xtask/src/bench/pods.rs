//! Whole pods: multus from the annotation to the status, with an API server on loopback.

pub(crate) mod reference;
pub(crate) mod report;
pub(crate) mod server;

use super::contender::{Contender, Verb, Who};
use super::sample::{Sample, Series, Summary};
use super::workload::{Bench, SETTLE};
use crate::error::{Failure, Result};
use serde::Serialize;
use serde_json::{Value, json};
use server::Server;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// How many bridge networks pods name beside the default one.
pub(crate) const ADDITIONAL: [usize; 4] = [0, 1, 3, 6];

/// Rounds before the first that counts: bridges, indexes and caches are there then.
const WARM_UP: usize = 2;

/// A multus with the folder of its delegates.
#[derive(Debug, Clone)]
pub(crate) struct PodContender {
    pub(crate) who: Who,
    pub(crate) multus: PathBuf,
    pub(crate) delegates: PathBuf,
}

/// The figures of one contender at one command for a pod with so many additional networks.
#[derive(Debug, Serialize)]
pub(crate) struct Attached {
    pub(crate) additional: usize,
    pub(crate) verb: Verb,
    pub(crate) who: Who,
    #[serde(flatten)]
    pub(crate) figures: Summary,
    #[serde(skip)]
    pub(crate) series: Series,
}

impl PodContender {
    /// Those of this and an earlier build, and the Go multus where one is named.
    ///
    /// # Errors
    /// One of them is not there.
    pub(crate) fn all(ours: &[Contender], go: &Path, go_multus: Option<&Path>) -> Result<Vec<Self>> {
        let ours = ours.iter().filter(|one| one.who != Who::Go).map(|one| Self {
            who: one.who,
            multus: one.folder.join("multus"),
            delegates: one.folder.clone(),
        });
        let go = go_multus.map(|multus| Self {
            who: Who::Go,
            multus: multus.to_owned(),
            delegates: go.to_owned(),
        });
        let all: Vec<Self> = ours.chain(go).collect();
        match all.iter().find(|one| !one.multus.is_file()) {
            Some(missing) => Err(Failure::new(format!("there is no {}", missing.multus.display()))),
            None => Ok(all),
        }
    }
}

/// Measures all contenders with all numbers of networks in turn, round after round.
pub(crate) fn measure(
    bench: &Bench<'_>,
    contenders: &[PodContender],
    apiserver: &Path,
    rounds: usize,
) -> Result<Vec<Attached>> {
    let objects: Vec<Value> = contenders.iter().flat_map(|one| objects(one.who, bench.folder)).collect();
    let server = Server::start(apiserver, bench.folder, &objects)?;
    let mut cases = Vec::new();
    for contender in contenders {
        for additional in ADDITIONAL {
            cases.push(Case::new(bench, contender, additional, &server)?);
        }
    }
    let mut series: BTreeMap<(usize, Verb, Who), Series> = BTreeMap::new();
    for round in 0..WARM_UP + rounds {
        bench.progress.update(format!("pods: round {} of {rounds}", (round + 1).saturating_sub(WARM_UP)));
        // The order changes, so that none always follows the same other one.
        for turn in 0..cases.len() {
            let case = &cases[(turn + round) % cases.len()];
            for verb in [Verb::Add, Verb::Del] {
                let sample = case.call(bench, verb, round)?;
                if round >= WARM_UP {
                    series.entry((case.additional, verb, case.contender.who)).or_default().push(sample);
                }
                std::thread::sleep(SETTLE);
            }
        }
    }
    bench.progress.print(format!("pods with an API server: {rounds} rounds"));
    let attached = series.into_iter().filter_map(|((additional, verb, who), series)| {
        Some(Attached { additional, verb, who, figures: series.summary()?, series })
    });
    Ok(attached.collect())
}

/// The figures of one contender.
pub(crate) fn find(pods: &[Attached], additional: usize, verb: Verb, who: Who) -> Option<Summary> {
    let found = pods.iter().find(|one| (one.additional, one.verb, one.who) == (additional, verb, who));
    found.map(|one| one.figures)
}

/// Whether the Go multus was measured in this run.
pub(crate) fn go_is_here(pods: &[Attached]) -> bool {
    pods.iter().any(|one| one.who == Who::Go)
}

/// A contender with a pod and its namespaces: that of the network, and that of the cluster, which
/// is the contender's own.
struct Case<'a> {
    contender: &'a PodContender,
    additional: usize,
    netns: PathBuf,
    config: String,
}

impl<'a> Case<'a> {
    fn new(
        bench: &Bench<'_>,
        contender: &'a PodContender,
        additional: usize,
        server: &Server,
    ) -> Result<Self> {
        let who = contender.who;
        let netns = bench.host.container(&format!("pod-{additional}-{}", who.slug()))?;
        let config = json!({
            "cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus",
            "kubeconfig": server.kubeconfig, "binDir": contender.delegates,
            "cniDir": bench.folder.join(format!("multus-{}", who.slug())),
            "delegates": [bridge(who, "default", 0, bench.folder)],
        });
        Ok(Self { contender, additional, netns, config: config.to_string() })
    }

    fn call(&self, bench: &Bench<'_>, verb: Verb, round: usize) -> Result<Sample> {
        let container_id = format!("bench-{}-{round}", self.additional);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={container_id}",
            self.contender.who.slug(),
            pod_name(self.additional),
        );
        let environment = [
            ("CNI_COMMAND", OsStr::new(verb.name())),
            ("CNI_CONTAINERID", OsStr::new(&container_id)),
            ("CNI_NETNS", self.netns.as_os_str()),
            ("CNI_IFNAME", OsStr::new("eth0")),
            ("CNI_ARGS", OsStr::new(&args)),
            ("CNI_PATH", self.contender.delegates.as_os_str()),
        ];
        bench.meter.run::<&str>(&self.contender.multus, &[], &environment, &self.config)
    }
}

fn pod_name(additional: usize) -> String {
    format!("pod-{additional}")
}

/// A contender's definitions and pods.
fn objects(who: Who, folder: &Path) -> Vec<Value> {
    let most = ADDITIONAL.into_iter().max().unwrap_or(0);
    let names: Vec<String> = (1..=most).map(|number| format!("net-{number}")).collect();
    let definitions = names.iter().zip(1..).map(|(name, number)| {
        json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": name, "namespace": who.slug() },
            "spec": { "config": bridge(who, name, number, folder).to_string() },
        })
    });
    let pods = ADDITIONAL.iter().map(|additional| {
        let annotations = json!({ "k8s.v1.cni.cncf.io/networks": names[..*additional].join(",") });
        let metadata =
            json!({ "name": pod_name(*additional), "namespace": who.slug(), "annotations": annotations });
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata })
    });
    definitions.chain(pods).collect()
}

/// A network with a bridge, a subnet and a folder of its contender's own.
fn bridge(who: Who, name: &str, number: usize, folder: &Path) -> Value {
    let slug = who.slug();
    json!({
        "cniVersion": "1.0.0", "name": format!("{slug}-{name}"), "type": "bridge",
        "bridge": format!("pod{number}-{slug}"), "isGateway": true,
        "ipam": {
            "type": "host-local", "subnet": format!("10.{}.{}.0/24", 100 + number, who as usize),
            "dataDir": folder.join(format!("pods-{slug}")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{ADDITIONAL, bridge, objects};
    use crate::bench::contender::Who;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn each_contender_has_a_pod_for_each_number_of_networks() {
        let objects = objects(Who::Go, Path::new("/x"));
        let pods: Vec<_> = objects.iter().filter(|object| object["kind"] == "Pod").collect();
        assert_eq!(pods.len(), ADDITIONAL.len());
        for (pod, additional) in pods.iter().zip(ADDITIONAL) {
            let networks = pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"].as_str().unwrap();
            assert_eq!(networks.split(',').filter(|name| !name.is_empty()).count(), additional);
        }
    }

    #[test]
    fn no_two_networks_share_a_bridge_or_a_subnet() {
        let all = Who::PLUGINS;
        let networks =
            || all.into_iter().flat_map(|who| (0..7).map(move |n| bridge(who, "x", n, Path::new("/"))));
        let bridges: BTreeSet<_> = networks().map(|network| network["bridge"].to_string()).collect();
        let subnets: BTreeSet<_> = networks().map(|network| network["ipam"]["subnet"].to_string()).collect();
        assert_eq!((bridges.len(), subnets.len()), (35, 35));
        assert!(bridges.iter().all(|name| name.len() - 2 <= 15), "{bridges:?}");
    }
}
