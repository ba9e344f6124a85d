//! The figures as tables for a person and as JSON for a program.

use super::beside::{self, Beside};
use super::contender::{Verb, Who};
use super::dhcp::{Ipam, Leased, Leases};
use super::growth::Grown;
use super::pods::{self, Attached};
use super::verdict::Verdict;
use super::workload::{Measured, Workload};
use crate::error::{Context, Result};
use crate::table::{Style, Table};
use serde_json::json;
use std::fs;
use std::path::Path;

/// All that was measured and judged; parts that were not requested are empty.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Processes that wanted to run before the run.
    pub(crate) load: f64,
    pub(crate) attachments: Vec<Measured>,
    pub(crate) growth: Vec<Grown>,
    pub(crate) pods: Vec<Attached>,
    pub(crate) dhcp: Leases,
    pub(crate) beside: Vec<Beside>,
    pub(crate) verdicts: Vec<Verdict>,
}

impl Report {
    /// Prints all tables.
    pub(crate) fn print(&self) {
        let heading = |text: &str| println!("\n{}", Style::Bold.paint(text));
        if !self.attachments.is_empty() {
            heading("One attachment (times in ms, p50 and p99)");
            print!("{}", attachments(&self.attachments));
        }
        if !self.growth.is_empty() {
            heading("host-local alone, with a number of addresses reserved");
            print!("{}", growth(&self.growth));
        }
        if !self.pods.is_empty() {
            heading("A pod through multus, with an API server on loopback (times in ms, p50 and p99)");
            print!("{}", pods::report::table(&self.pods));
            if !pods::go_is_here(&self.pods) {
                println!("* Go's times are of another machine; --go-multus FILE measures it here");
            }
        }
        if !self.dhcp.measured.is_empty() {
            heading("One attachment with a lease (times in ms, p50 and p99)");
            print!("{}", leases(&self.dhcp.measured));
            println!("The server took {:.2} ms for its two answers", self.dhcp.server_us / 1000.0);
        }
        if !self.beside.is_empty() {
            heading(
                "Beside the earlier build (this build's median of its, and the spread of that in this run)",
            );
            print!("{}", beside::table(&self.beside));
        }
        heading("Requirements");
        print!("{}", requirements(&self.verdicts));
    }

    /// Writes all figures and verdicts.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let all = json!({
            "kernel": kernel.trim(),
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "load_before": self.load,
            "attachments": self.attachments,
            "growth": self.growth,
            "pods": self.pods,
            "dhcp": self.dhcp,
            "beside": self.beside,
            "requirements": self.verdicts,
        });
        fs::write(path, format!("{all:#}\n")).context(|| format!("can't write {}", path.display()))?;
        println!("\nAll figures are in {}", path.display());
        Ok(())
    }
}

fn attachments(measured: &[Measured]) -> Table {
    let mut table = Table::new([
        "what",
        "who",
        ">wall",
        ">p99",
        ">CPU",
        ">p99",
        ">memory",
        ">Go is slower by",
        ">of the floor",
    ]);
    for workload in Workload::ALL {
        for verb in [Verb::Add, Verb::Del] {
            let rows: Vec<&Measured> =
                measured.iter().filter(|one| one.workload == workload && one.verb == verb).collect();
            let wall = |who: Who| rows.iter().find(|one| one.who == who).map(|one| one.figures.wall_p50_us);
            let (go, floor) = (wall(Who::Go), wall(Who::Floor));
            for (index, one) in rows.iter().enumerate() {
                if index == 0 {
                    table.line();
                }
                let title = format!("{} {}", workload.title(), verb.name());
                let [p50, p99, cpu, cpu_p99, memory] = one.figures.cells();
                let ours = one.figures.wall_p50_us;
                table.row([
                    if index == 0 { title } else { String::new() },
                    one.who.title().into(),
                    p50,
                    p99,
                    cpu,
                    cpu_p99,
                    memory,
                    ratio(go.filter(|_| one.who.is_plugin()).map(|go| go / ours)),
                    ratio(floor.filter(|_| one.who.is_plugin()).map(|floor| ours / floor)),
                ]);
            }
        }
    }
    table
}

fn leases(measured: &[Leased]) -> Table {
    let mut table =
        Table::new(["what", "who", ">wall", ">p99", ">CPU", ">p99", ">memory", ">Go is slower by"]);
    for ipam in Ipam::ALL {
        for verb in [Verb::Add, Verb::Del] {
            let rows: Vec<&Leased> =
                measured.iter().filter(|one| (one.ipam, one.verb) == (ipam, verb)).collect();
            let go = rows.iter().find(|one| one.who == Who::Go).map(|one| one.figures.wall_p50_us);
            for (index, one) in rows.iter().enumerate() {
                if index == 0 {
                    table.line();
                }
                let title = format!("{} {}", ipam.title(), verb.name());
                let [p50, p99, cpu, cpu_p99, memory] = one.figures.cells();
                table.row([
                    if index == 0 { title } else { String::new() },
                    one.who.title().into(),
                    p50,
                    p99,
                    cpu,
                    cpu_p99,
                    memory,
                    ratio(go.map(|go| go / one.figures.wall_p50_us)),
                ]);
            }
        }
    }
    table
}

fn growth(grown: &[Grown]) -> Table {
    let mut table =
        Table::new(["what", "who", ">held", ">wall", ">p99", ">CPU", ">p99", ">memory", ">of none held"]);
    for verb in [Verb::Add, Verb::Del] {
        for who in Who::PLUGINS {
            let rows: Vec<&Grown> = grown.iter().filter(|one| one.verb == verb && one.who == who).collect();
            for (index, one) in rows.iter().enumerate() {
                if index == 0 {
                    table.line();
                }
                let [p50, p99, cpu, cpu_p99, memory] = one.figures.cells();
                let first = |text: String| if index == 0 { text } else { String::new() };
                table.row([
                    first(format!("host-local {}", verb.name())),
                    first(who.title().into()),
                    one.reservations.to_string(),
                    p50,
                    p99,
                    cpu,
                    cpu_p99,
                    memory,
                    ratio(Some(one.figures.wall_p50_us / rows[0].figures.wall_p50_us)),
                ]);
            }
        }
    }
    table
}

fn requirements(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new(["what", ">measured", "required", ""]);
    for verdict in verdicts {
        let verdict_text = if verdict.met { Style::Good.paint("met") } else { Style::Bad.paint("NOT met") };
        table.row([
            verdict.what.clone(),
            format!("{:.2} {}", verdict.measured, verdict.unit),
            verdict.required(),
            verdict_text,
        ]);
    }
    table
}

fn ratio(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.2} ×")).unwrap_or_default()
}
