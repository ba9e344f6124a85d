//! The figures of pods as a table.

use super::{Attached, go_is_here, reference};
use crate::bench::contender::{Verb, Who};
use crate::table::Table;

/// One group of rows for each command and number of networks.
pub(crate) fn table(pods: &[Attached]) -> Table {
    let mut table =
        Table::new(["a pod's", "who", ">wall", ">p99", ">CPU", ">p99", ">memory", ">Go is slower by"]);
    for verb in [Verb::Add, Verb::Del] {
        for additional in super::ADDITIONAL {
            let rows: Vec<&Attached> =
                pods.iter().filter(|one| (one.additional, one.verb) == (additional, verb)).collect();
            for (index, one) in rows.iter().enumerate() {
                if index == 0 {
                    table.line();
                }
                let title = format!("{}, default + {additional}", verb.name());
                let [wall, wall_p99, cpu, cpu_p99, memory] = one.figures.cells();
                table.row([
                    if index == 0 { title } else { String::new() },
                    one.who.title().into(),
                    wall,
                    wall_p99,
                    cpu,
                    cpu_p99,
                    memory,
                    slower_by(pods, one),
                ]);
            }
        }
    }
    table
}

/// How much longer Go takes: in this run or, with a `*`, on another machine.
fn slower_by(pods: &[Attached], one: &Attached) -> String {
    if one.who == Who::Go {
        return String::new();
    }
    let ours = one.figures.wall_p50_us;
    if go_is_here(pods) {
        let go = super::find(pods, one.additional, one.verb, Who::Go);
        return go.map(|go| format!("{:.2} ×", go.wall_p50_us / ours)).unwrap_or_default();
    }
    let go = reference::go(one.additional, one.verb);
    go.map(|go| format!("{:.2} × *", go.wall_us / ours)).unwrap_or_default()
}
