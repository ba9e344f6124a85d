//! The figures as tables for a person and as JSON for a program.

use super::contender::{Verb, Who};
use super::growth::Grown;
use super::sample::Summary;
use super::verdict::Verdict;
use super::workload::{Measured, Workload};
use crate::error::{Context, Result};
use crate::table::{Style, Table};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Prints all tables.
pub(crate) fn print(measured: &[Measured], grown: &[Grown], verdicts: &[Verdict]) {
    println!("\n{}", Style::Bold.paint("One attachment (times in ms, p50 and p99)"));
    print!("{}", attachments(measured));
    println!("\n{}", Style::Bold.paint("host-local alone, with so many addresses held"));
    print!("{}", growth(grown));
    println!("\n{}", Style::Bold.paint("The bars"));
    print!("{}", bars(verdicts));
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
                let title = format!("{} {}", workload.title(), verb.word());
                let [p50, p99, cpu, cpu_p99, memory] = cells(&one.figures);
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

fn growth(grown: &[Grown]) -> Table {
    let mut table =
        Table::new(["what", "who", ">held", ">wall", ">p99", ">CPU", ">p99", ">memory", ">of none held"]);
    for verb in [Verb::Add, Verb::Del] {
        for who in [Who::Multicall, Who::Separate, Who::Go] {
            let rows: Vec<&Grown> = grown.iter().filter(|one| one.verb == verb && one.who == who).collect();
            for (index, one) in rows.iter().enumerate() {
                if index == 0 {
                    table.line();
                }
                let [p50, p99, cpu, cpu_p99, memory] = cells(&one.figures);
                let first = |text: String| if index == 0 { text } else { String::new() };
                table.row([
                    first(format!("host-local {}", verb.word())),
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

fn bars(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new(["what", ">measured", "bar", ""]);
    for verdict in verdicts {
        let word = if verdict.met { Style::Good.paint("met") } else { Style::Bad.paint("NOT met") };
        table.row([
            verdict.what.clone(),
            format!("{:.2} {}", verdict.measured, verdict.unit),
            verdict.bar_text(),
            word,
        ]);
    }
    table
}

/// Wall p50, p99, CPU p50, p99, memory.
fn cells(figures: &Summary) -> [String; 5] {
    let ms = |us: f64| format!("{:.2}", us / 1000.0);
    [
        ms(figures.wall_p50_us),
        ms(figures.wall_p99_us),
        ms(figures.cpu_p50_us),
        ms(figures.cpu_p99_us),
        format!("{:.1} MiB", figures.memory_peak_kib as f64 / 1024.0),
    ]
}

fn ratio(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.2} ×")).unwrap_or_default()
}

/// Writes all figures and verdicts.
pub(crate) fn write_json(
    path: &Path,
    load: f64,
    measured: &[Measured],
    grown: &[Grown],
    verdicts: &[Verdict],
) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let all = json!({
        "kernel": kernel.trim(),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "load_before": load,
        "attachments": measured,
        "growth": grown,
        "bars": verdicts,
    });
    fs::write(path, format!("{all:#}\n")).context(|| format!("can't write {}", path.display()))?;
    println!("\nAll figures are in {}", path.display());
    Ok(())
}
