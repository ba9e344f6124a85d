//! The requirements, and whether they are met.

use super::beside::Beside;
use super::contender::{Verb, Who};
use super::dhcp::{Ipam, Leases};
use super::growth::Grown;
use super::pods::{self, Attached, reference};
use super::sample::Summary;
use super::workload::{Measured, Workload};
use serde::Serialize;

/// A requirement and what was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) required: f64,
    /// Whether more is better.
    at_least: bool,
    pub(crate) unit: &'static str,
    pub(crate) met: bool,
}

impl Verdict {
    fn at_least(what: String, measured: f64, required: f64) -> Self {
        Self { what, measured, required, at_least: true, unit: "×", met: measured >= required }
    }

    fn at_most(what: String, measured: f64, required: f64, unit: &'static str) -> Self {
        Self { what, measured, required, at_least: false, unit, met: measured <= required }
    }

    /// The requirement as text.
    pub(crate) fn required(&self) -> String {
        let direction = if self.at_least { "≥" } else { "≤" };
        format!("{direction} {} {}", self.required, self.unit)
    }
}

/// Requirements for one ADD, against Go and against the floor.
const TIMES_GO: f64 = 4.0;
const TIMES_FLOOR: f64 = 1.5;
/// DEL waits for the kernel: it may take this much of Go's time.
const DEL_OF_GO: f64 = 1.1;
/// The same with `ipMasq`, for which the Go plugin executes iptables.
const TIMES_GO_MASQUERADE: f64 = 8.0;
const DEL_OF_GO_MASQUERADE: f64 = 0.33;
/// ADD and DEL with `ipMasq` may take this much of those without.
const ADD_MASQUERADE: f64 = 1.3;
const DEL_MASQUERADE: f64 = 1.2;
/// The most reservations may make this much of the cost without any.
const GROWTH: f64 = 1.5;
/// `cnictl add` and `del` may take this much of the two calls of the plugin.
const TOOL_OF_PLUGIN: f64 = 1.2;
/// Peak memory of a plugin, in MiB, and size of the multicall binary, in MB.
const MEMORY_MIB: f64 = 2.5;
const MULTICALL_MB: f64 = 9.0;
/// Requirements for multus and a pod with three networks beside the default one, against Go.
const POD_ADDITIONAL: usize = 3;
const POD_ADD_WALL: f64 = 4.0;
const POD_ADD_CPU: f64 = 5.0;
const POD_DEL_WALL: f64 = 3.0;
/// DEL of a pod with the most networks may take this much of one with one.
const POD_DEL_GROWTH: f64 = 1.5;
/// Peak memory of multus, in MiB.
const POD_MEMORY_MIB: f64 = 8.0;

/// Requirements for ADD with a lease: beside the server's own time, against an ADD with a static
/// address; and against Go.
const LEASE_OF_STATIC: f64 = 1.5;
const LEASE_TIMES_GO: f64 = 3.0;
/// The memory of the dhcp daemon at rest with its leases, in MiB.
const DAEMON_MIB: f64 = 8.0;

const OURS: [Who; 2] = [Who::Multicall, Who::Separate];

/// Judges what was measured. Speed is judged of the multicall binary, as nodes are meant to have it:
/// one process for the interface and its addresses.
pub(crate) fn judge(
    measured: &[Measured],
    grown: &[Grown],
    pods: &[Attached],
    multicall_bytes: Option<u64>,
    beside: &[Beside],
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if !beside.is_empty() {
        let worse = beside.iter().flat_map(Beside::ratios).filter(|(_, ratio)| ratio.is_worse()).count();
        let what = "figures worse than the earlier build's, beyond the spread".to_owned();
        verdicts.push(Verdict::at_most(what, worse as f64, 0.0, ""));
    }
    for workload in Workload::ALL {
        judge_workload(workload, measured, &mut verdicts);
    }
    judge_masquerade(measured, &mut verdicts);
    for who in OURS {
        judge_growth(who, grown, &mut verdicts);
    }
    for who in OURS {
        judge_memory(who, measured, grown, &mut verdicts);
    }
    judge_pods(pods, &mut verdicts);
    if let Some(bytes) = multicall_bytes {
        let what = "size of the multicall binary".to_owned();
        verdicts.push(Verdict::at_most(what, bytes as f64 / 1e6, MULTICALL_MB, "MB"));
    }
    verdicts
}

/// One requirement for both: the multicall binary is larger, and more of its file is mapped at a time.
fn judge_memory(who: Who, measured: &[Measured], grown: &[Grown], verdicts: &mut Vec<Verdict>) {
    let whole = measured.iter().filter(|one| one.who == who).map(|one| one.figures.memory_peak_kib);
    let alone = grown.iter().filter(|one| one.who == who).map(|one| one.figures.memory_peak_kib);
    if let Some(peak) = whole.chain(alone).max() {
        let what = format!("peak memory of a plugin, {}", who.title());
        verdicts.push(Verdict::at_most(what, peak as f64 / 1024.0, MEMORY_MIB, "MiB"));
    }
}

fn judge_workload(workload: Workload, measured: &[Measured], verdicts: &mut Vec<Verdict>) {
    let figures = |verb: Verb, who: Who| {
        let found = measured.iter().find(|one| (one.workload, one.verb, one.who) == (workload, verb, who));
        found.map(|one| one.figures)
    };
    let title = workload.title();
    let (times_go, del_of_go) = match workload {
        Workload::BridgeMasquerade => (TIMES_GO_MASQUERADE, DEL_OF_GO_MASQUERADE),
        _ => (TIMES_GO, DEL_OF_GO),
    };
    let Some(ours) = figures(Verb::Add, Who::Multicall) else { return };
    if let Some(go) = figures(Verb::Add, Who::Go) {
        let faster = |by: fn(&Summary) -> f64| by(&go) / by(&ours);
        let wall = faster(|figures| figures.wall_p50_us);
        let cpu = faster(|figures| figures.cpu_p50_us);
        verdicts.push(Verdict::at_least(format!("{title} ADD: faster than Go, wall"), wall, times_go));
        verdicts.push(Verdict::at_least(format!("{title} ADD: faster than Go, CPU"), cpu, times_go));
    }
    if let Some(floor) = figures(Verb::Add, Who::Floor) {
        let ratio = ours.wall_p50_us / floor.wall_p50_us;
        verdicts.push(Verdict::at_most(format!("{title} ADD: of the floor, wall"), ratio, TIMES_FLOOR, "×"));
    }
    let both = |who| Some(figures(Verb::Add, who)?.wall_p50_us + figures(Verb::Del, who)?.wall_p50_us);
    if let (Some(plugin), Some(tool)) = (both(Who::Multicall), both(Who::Cnictl)) {
        let what = format!("{title}: cnictl add + del, of the two calls, wall");
        verdicts.push(Verdict::at_most(what, tool / plugin, TOOL_OF_PLUGIN, "×"));
    }
    if let (Some(ours), Some(go)) = (figures(Verb::Del, Who::Multicall), figures(Verb::Del, Who::Go)) {
        let ratio = ours.wall_p50_us / go.wall_p50_us;
        verdicts.push(Verdict::at_most(format!("{title} DEL: of Go's, wall"), ratio, del_of_go, "×"));
    }
}

/// What masquerading costs.
fn judge_masquerade(measured: &[Measured], verdicts: &mut Vec<Verdict>) {
    for (verb, required) in [(Verb::Add, ADD_MASQUERADE), (Verb::Del, DEL_MASQUERADE)] {
        let wall = |workload| {
            let is_it =
                |one: &&Measured| (one.workload, one.verb, one.who) == (workload, verb, Who::Multicall);
            measured.iter().find(is_it).map(|one| one.figures.wall_p50_us)
        };
        if let (Some(with), Some(without)) =
            (wall(Workload::BridgeMasquerade), wall(Workload::BridgeHostLocal))
        {
            let what = format!("bridge {} with ipMasq: of that without, wall", verb.name());
            verdicts.push(Verdict::at_most(what, with / without, required, "×"));
        }
    }
}

fn judge_growth(who: Who, grown: &[Grown], verdicts: &mut Vec<Verdict>) {
    let sizes = || grown.iter().map(|one| one.reservations);
    let (Some(least), Some(most)) = (sizes().min(), sizes().max()) else { return };
    for verb in [Verb::Add, Verb::Del] {
        let wall = |size: usize| {
            let found = grown.iter().find(|one| (one.reservations, one.verb, one.who) == (size, verb, who));
            found.map(|one| one.figures.wall_p50_us)
        };
        if let (Some(before), Some(after)) = (wall(least), wall(most)) {
            let what = format!("host-local {}: {most} against {least} held, {}", verb.name(), who.title());
            verdicts.push(Verdict::at_most(what, after / before, GROWTH, "×"));
        }
    }
}

/// The Go multus is that of this run, or that of another machine, which the text of the verdict then mentions.
fn judge_pods(pods: &[Attached], verdicts: &mut Vec<Verdict>) {
    let here = pods::go_is_here(pods);
    let ours = |additional, verb| pods::find(pods, additional, verb, Who::Multicall);
    for (verb, required_wall) in [(Verb::Add, POD_ADD_WALL), (Verb::Del, POD_DEL_WALL)] {
        let Some(ours) = ours(POD_ADDITIONAL, verb) else { continue };
        let go = if here {
            pods::find(pods, POD_ADDITIONAL, verb, Who::Go)
                .map(|go| reference::Times { wall_us: go.wall_p50_us, cpu_us: Some(go.cpu_p50_us) })
        } else {
            reference::go(POD_ADDITIONAL, verb)
        };
        let Some(go) = go else { continue };
        let whose = if here { "Go" } else { "Go on another machine" };
        let what = format!("pod, default + {POD_ADDITIONAL}, {}: faster than {whose}", verb.name());
        let wall = go.wall_us / ours.wall_p50_us;
        verdicts.push(Verdict::at_least(format!("{what}, wall"), wall, required_wall));
        if let (Verb::Add, Some(cpu)) = (verb, go.cpu_us) {
            verdicts.push(Verdict::at_least(format!("{what}, CPU"), cpu / ours.cpu_p50_us, POD_ADD_CPU));
        }
    }
    let most = pods::ADDITIONAL.into_iter().max().unwrap_or(0);
    if let (Some(one), Some(many)) = (ours(1, Verb::Del), ours(most, Verb::Del)) {
        let what = format!("pod DEL: default + {most} against default + 1, wall");
        verdicts.push(Verdict::at_most(what, many.wall_p50_us / one.wall_p50_us, POD_DEL_GROWTH, "×"));
    }
    let peaks = pods.iter().filter(|one| OURS.contains(&one.who)).map(|one| one.figures.memory_peak_kib);
    if let Some(peak) = peaks.max() {
        let what = "peak memory of our multus".to_owned();
        verdicts.push(Verdict::at_most(what, peak as f64 / 1024.0, POD_MEMORY_MIB, "MiB"));
    }
}

/// Judges attachments with leases.
pub(crate) fn judge_dhcp(leases: &Leases, verdicts: &mut Vec<Verdict>) {
    let wall = |ipam: Ipam, who: Who| {
        let found =
            leases.measured.iter().find(|one| (one.ipam, one.verb, one.who) == (ipam, Verb::Add, who));
        found.map(|one| one.figures.wall_p50_us)
    };
    let Some(ours) = wall(Ipam::Dhcp, Who::Multicall) else { return };
    if let Some(fixed) = wall(Ipam::Static, Who::Multicall) {
        let what = "macvlan + dhcp ADD without the server's time: of one with static, wall".to_owned();
        verdicts.push(Verdict::at_most(what, (ours - leases.server_us) / fixed, LEASE_OF_STATIC, "×"));
    }
    if let Some(go) = wall(Ipam::Dhcp, Who::Go) {
        let what = "macvlan + dhcp ADD: faster than Go, wall".to_owned();
        verdicts.push(Verdict::at_least(what, go / ours, LEASE_TIMES_GO));
    }
    if let Some(idle) = &leases.idle {
        let what = format!("memory of the dhcp daemon with {} leases", idle.leases);
        verdicts.push(Verdict::at_most(what, idle.memory_kib as f64 / 1024.0, DAEMON_MIB, "MiB"));
        let what = "wake-ups of the dhcp daemon while no lease is due".to_owned();
        verdicts.push(Verdict::at_most(what, idle.wake_ups as f64, 0.0, ""));
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge};
    use crate::bench::contender::{Verb, Who};
    use crate::bench::growth::Grown;
    use crate::bench::pods::Attached;
    use crate::bench::sample::{Series, Summary};
    use crate::bench::workload::{Measured, Workload};

    fn figures(us: f64) -> Summary {
        Summary {
            runs: 1,
            wall_p50_us: us,
            wall_p99_us: us,
            cpu_p50_us: us,
            cpu_p99_us: us,
            memory_peak_kib: 2048,
            faults_p50: 60.0,
        }
    }

    fn add(who: Who, us: f64) -> Measured {
        Measured {
            workload: Workload::BridgeHostLocal,
            verb: Verb::Add,
            who,
            figures: figures(us),
            series: Series::default(),
        }
    }

    fn met<'a>(verdicts: &'a [Verdict], part: &str) -> &'a Verdict {
        verdicts.iter().find(|verdict| verdict.what.contains(part)).unwrap()
    }

    #[test]
    fn a_requirement_is_met_exactly_and_missed_by_the_least() {
        let exactly = [add(Who::Multicall, 100.0), add(Who::Go, 400.0), add(Who::Floor, 60.0)];
        let verdicts = judge(&exactly, &[], &[], Some(9_100_000), &[]);
        assert!(met(&verdicts, "Go, wall").met);
        assert!(!met(&verdicts, "floor").met);
        assert!(met(&verdicts, "memory").met);
        assert!(!met(&verdicts, "size").met);
        let slower = [add(Who::Multicall, 100.1), add(Who::Go, 400.0)];
        assert!(!met(&judge(&slower, &[], &[], None, &[]), "Go, CPU").met);
    }

    #[test]
    fn cnictl_is_held_to_both_calls_together() {
        let call = |verb, who, us| Measured { verb, ..add(who, us) };
        let judged = |tool| {
            let calls = [
                add(Who::Multicall, 20.0),
                call(Verb::Del, Who::Multicall, 80.0),
                add(Who::Cnictl, 30.0),
                call(Verb::Del, Who::Cnictl, tool),
            ];
            met(&judge(&calls, &[], &[], None, &[]), "cnictl").met
        };
        assert!(judged(90.0));
        assert!(!judged(91.0));
    }

    #[test]
    fn masquerading_is_held_to_the_same_call_without_it() {
        let call = |workload, verb, us| Measured { workload, verb, ..add(Who::Multicall, us) };
        let judged = |with_add, with_del| {
            let calls = [
                call(Workload::BridgeHostLocal, Verb::Add, 100.0),
                call(Workload::BridgeHostLocal, Verb::Del, 1000.0),
                call(Workload::BridgeMasquerade, Verb::Add, with_add),
                call(Workload::BridgeMasquerade, Verb::Del, with_del),
            ];
            let verdicts = judge(&calls, &[], &[], None, &[]);
            (met(&verdicts, "ADD with ipMasq").met, met(&verdicts, "DEL with ipMasq").met)
        };
        assert_eq!(judged(130.0, 1200.0), (true, true));
        assert_eq!(judged(131.0, 1201.0), (false, false));
    }

    #[test]
    fn growth_compares_the_most_reservations_with_the_least() {
        let grown = |reservations, us| Grown {
            reservations,
            verb: Verb::Del,
            who: Who::Separate,
            figures: figures(us),
            series: Series::default(),
        };
        let verdicts =
            judge(&[], &[grown(0, 100.0), grown(1000, 900.0), grown(50_000, 140.0)], &[], None, &[]);
        assert!(met(&verdicts, "50000 against 0").met);
    }

    fn pod(additional: usize, verb: Verb, who: Who, us: f64) -> Attached {
        Attached { additional, verb, who, figures: figures(us), series: Series::default() }
    }

    #[test]
    fn multus_is_compared_with_go_of_this_run_where_it_was_in_it() {
        let ours = pod(3, Verb::Add, Who::Multicall, 100.0);
        let verdicts = judge(&[], &[], &[ours, pod(3, Verb::Add, Who::Go, 450.0)], None, &[]);
        assert!(met(&verdicts, "faster than Go, wall").met);
        assert!(!met(&verdicts, "faster than Go, CPU").met);
        let without_go = judge(&[], &[], &[pod(3, Verb::Add, Who::Multicall, 16_000.0)], None, &[]);
        assert!(met(&without_go, "Go on another machine, wall").met);
        assert!(!met(&without_go, "Go on another machine, CPU").met);
    }

    #[test]
    fn del_of_a_pod_must_not_grow_with_its_networks() {
        let del = |additional, us| pod(additional, Verb::Del, Who::Multicall, us);
        assert!(met(&judge(&[], &[], &[del(1, 100.0), del(6, 150.0)], None, &[]), "against default + 1").met);
        assert!(
            !met(&judge(&[], &[], &[del(1, 100.0), del(6, 160.0)], None, &[]), "against default + 1").met
        );
    }
}
