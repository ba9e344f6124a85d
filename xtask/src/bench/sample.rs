//! Time and memory of one run of a program, and of many.

use crate::error::{Context, Failure, Result};
use serde::Serialize;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The cost of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// From before the fork until the process is reaped.
    pub(crate) wall_us: f64,
    /// User and system time, with that of the programs it ran.
    pub(crate) cpu_us: f64,
    /// Peak resident memory, of the largest process.
    pub(crate) memory_kib: u64,
    /// Page faults that needed no read from disk.
    pub(crate) faults: u64,
}

/// The costs of many runs of the same thing.
#[derive(Debug, Default)]
pub(crate) struct Series(Vec<Sample>);

/// A series in figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Summary {
    pub(crate) runs: usize,
    pub(crate) wall_p50_us: f64,
    pub(crate) wall_p99_us: f64,
    pub(crate) cpu_p50_us: f64,
    pub(crate) cpu_p99_us: f64,
    pub(crate) memory_peak_kib: u64,
    pub(crate) faults_p50: f64,
}

impl Summary {
    /// Wall p50 and p99, CPU p50 and p99, all in ms, and memory, for tables.
    pub(crate) fn cells(&self) -> [String; 5] {
        let ms = |us: f64| format!("{:.2}", us / 1000.0);
        [
            ms(self.wall_p50_us),
            ms(self.wall_p99_us),
            ms(self.cpu_p50_us),
            ms(self.cpu_p99_us),
            format!("{:.1} MiB", self.memory_peak_kib as f64 / 1024.0),
        ]
    }
}

impl Series {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// One figure of all runs, in their order.
    pub(crate) fn figures(&self, figure: fn(&Sample) -> f64) -> Vec<f64> {
        self.0.iter().map(figure).collect()
    }

    /// The figures; `None` of an empty series.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let sorted = |figure: fn(&Sample) -> f64| {
            let mut figures = self.figures(figure);
            figures.sort_by(f64::total_cmp);
            figures
        };
        let (wall, cpu) = (sorted(|sample| sample.wall_us), sorted(|sample| sample.cpu_us));
        let faults = sorted(|sample| sample.faults as f64);
        Some(Summary {
            runs: self.0.len(),
            wall_p50_us: percentile(&wall, 50)?,
            wall_p99_us: percentile(&wall, 99)?,
            cpu_p50_us: percentile(&cpu, 50)?,
            cpu_p99_us: percentile(&cpu, 99)?,
            memory_peak_kib: self.0.iter().map(|sample| sample.memory_kib).max()?,
            faults_p50: percentile(&faults, 50)?,
        })
    }
}

/// The nearest-rank percentile of sorted figures.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Runs programs through the small process that measures them.
#[derive(Debug)]
pub(crate) struct Meter {
    probe: PathBuf,
    stdin: PathBuf,
    stdout: PathBuf,
}

impl Meter {
    /// `folder` is for the programs' input and output; they don't wait for a pipe.
    pub(crate) fn new(probe: PathBuf, folder: &Path) -> Self {
        Self { probe, stdin: folder.join("stdin"), stdout: folder.join("stdout") }
    }

    /// Runs a program with this input and environment, which must succeed.
    pub(crate) fn run<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[A],
        environment: &[(&str, &OsStr)],
        input: &str,
    ) -> Result<Sample> {
        fs::write(&self.stdin, input).context(|| format!("can't write {}", self.stdin.display()))?;
        let out = Command::new(&self.probe)
            .args([&self.stdin, &self.stdout])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .context(|| format!("can't start {}", self.probe.display()))?;
        let figures = String::from_utf8_lossy(&out.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&out.stderr);
        let broken = || Failure::new(format!("measuring {} failed: {figures}{stderr}", program.display()));
        let numbers: Vec<i64> = figures.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [wall_ns, cpu_us, memory_kib, faults, code] = numbers[..] else { return Err(broken()) };
        if code != 0 {
            let output = fs::read_to_string(&self.stdout).unwrap_or_default();
            return Err(Failure::new(format!(
                "{} ended with exit code {code} on {input}:\n{output}{stderr}",
                program.display()
            )));
        }
        Ok(Sample {
            wall_us: wall_ns as f64 / 1000.0,
            cpu_us: cpu_us as f64,
            memory_kib: u64::try_from(memory_kib).map_err(|_| broken())?,
            faults: u64::try_from(faults).map_err(|_| broken())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Sample, Series, percentile};

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let figures: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&figures, 50), Some(50.0));
        assert_eq!(percentile(&figures, 99), Some(99.0));
        assert_eq!(percentile(&figures[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_summary_takes_the_peak_of_memory_and_the_middle_of_time() {
        let mut series = Series::default();
        for (wall_us, memory_kib) in [(3.0, 10), (1.0, 30), (2.0, 20)] {
            series.push(Sample { wall_us, cpu_us: 1.0, memory_kib, faults: 1 });
        }
        let summary = series.summary().unwrap();
        assert_eq!((summary.wall_p50_us, summary.wall_p99_us, summary.memory_peak_kib), (2.0, 3.0, 30));
    }
}
