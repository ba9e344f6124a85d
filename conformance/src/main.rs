//! The program: see `cni-conformance --help`.

use clap::{Args, Parser, Subcommand};
use cni_conformance::plan::{Selection, applies, plan};
use cni_conformance::profile::Profile;
use cni_conformance::report::{Format, Report, exit_code};
use cni_conformance::run::{Options, Target};
use cni_conformance::version::Version;
use cni_conformance::{Result, catalogue, double, explain, profile, run, shell, worker};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Holds CNI plugins and runtimes to the specification and to their documentation.
#[derive(Parser)]
#[command(name = "cni-conformance", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Run(RunArgs),
    /// List the cases.
    List(Which),
    /// Show a case: the text, what is given, called and demanded.
    Explain {
        /// The ids, or beginnings of them (`1.1/del`).
        #[arg(required = true)]
        ids: Vec<String>,
    },
    #[command(name = run::WORKER, hide = true)]
    Worker,
}

/// Run the cases that apply to the plugins and runtimes of a folder.
///
/// Each case runs in namespaces of its own: nothing touches this machine's network, and nothing stays.
/// Needs root, iproute2, and nft for the cases that say so. Exits with 0 if nothing failed, 1 if
/// something did, 2 if it could not run.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cni-conformance run --plugins /opt/cni/bin\n  \
    cni-conformance run --plugins bin --profile my-plugin.yaml --strict --report-dir out\n  \
    cni-conformance run --plugins /opt/cni/bin --profile bridge --case 1.1/del --dry-run")]
struct RunArgs {
    /// The folder of the plugins, or of the runtimes, under test.
    #[arg(long, value_name = "DIR")]
    plugins: PathBuf,
    #[command(flatten)]
    which: Which,
    /// Run only what another run skipped, on another kernel for example: its report.json.
    #[arg(long, value_name = "REPORT")]
    skipped_in: Option<PathBuf>,
    /// Let requirements of the level SHOULD count as failures too.
    #[arg(long)]
    strict: bool,
    /// Cases at the same time [default: twice the processors].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Seconds after which a plugin counts as hanging.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    limit: f64,
    /// Print the lines that a person would type, and run nothing.
    #[arg(long)]
    dry_run: bool,
    /// The form of the report on standard output.
    #[arg(long, value_enum, default_value = "terminal")]
    format: Format,
    /// Write the report in every form into this folder too.
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
}

/// Which cases.
#[derive(Args)]
struct Which {
    /// A file that describes a plugin, or the name of a built-in description [default: the built-in
    /// ones whose plugin is in the folder].
    #[arg(long, value_name = "FILE|NAME")]
    profile: Vec<String>,
    /// The id of a case, or the beginning of one (`1.1/del`).
    #[arg(long = "case", value_name = "ID|SECTION")]
    cases: Vec<String>,
    /// A version of the specification.
    #[arg(long = "spec", value_name = "VERSION")]
    versions: Vec<Version>,
}

fn main() -> ExitCode {
    if let Some((folder, name)) = double::invoked_as() {
        return double::play(&folder, &name);
    }
    let outcome = match Cli::parse().task {
        Task::Run(args) => run_cases(&args),
        Task::List(which) => list(&which),
        Task::Explain { ids } => explain_cases(ids),
        Task::Worker => worker::main().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn run_cases(args: &RunArgs) -> Result<ExitCode> {
    let target = Target::new(&args.plugins)?;
    let cases = catalogue::embedded()?;
    let mut profiles = args.which.profiles(Some(&target))?;
    let mut selection = args.which.selection();
    if let Some(report) = &args.skipped_in {
        let runs = Report::read(report)?.skipped();
        profiles.retain(|profile| runs.iter().any(|run| run.profile == profile.name));
        selection.runs = Some(runs);
    }
    let mut options = Options { limit: Duration::from_secs_f64(args.limit), ..Options::default() };
    if let Some(jobs) = args.jobs {
        options.jobs = jobs;
    }
    if args.dry_run {
        let probed = run::probe(&target, &profiles, &cases, &options)?;
        for profile in &profiles {
            for item in plan(profile, &cases, &selection, &probed, &target.plugins) {
                print(&format!("{}\n\n", shell::lines(&item, &target.plugins).join("\n")));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    if std::io::stderr().is_terminal() {
        options.progress =
            Some(|done, all| eprint!("\r{done}/{all}{}", if done == all { "\r       \r" } else { "" }));
    }
    let report = run::run(&target, &profiles, &cases, &selection, &options)?;
    print(&report.render(args.format, args.strict, std::io::stdout().is_terminal())?);
    if let Some(folder) = &args.report_dir {
        report.write(folder, args.strict)?;
    }
    if report.all().next().is_none() {
        return Err("no case was run: nothing that is selected applies".to_owned());
    }
    Ok(ExitCode::from(exit_code(&report, args.strict)))
}

fn list(which: &Which) -> Result<ExitCode> {
    let profiles = which.profiles(None)?;
    let selection = which.selection();
    for case in catalogue::embedded()? {
        let wanted = which.profile.is_empty() || profiles.iter().any(|profile| applies(&case, profile));
        if wanted && selection.wants(&case.id) {
            let level = case.level.as_str();
            print(&format!("{:<28} {level:<10} {}\n", case.id, case.title));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explain_cases(ids: Vec<String>) -> Result<ExitCode> {
    let selection = Selection { cases: ids, ..Selection::default() };
    let cases = catalogue::embedded()?;
    let wanted: Vec<_> = cases.iter().filter(|case| selection.wants(&case.id)).collect();
    if wanted.is_empty() {
        return Err(format!("there is no case {}", selection.cases.join(", ")));
    }
    wanted.iter().for_each(|case| print(&format!("{}\n", explain::case(case))));
    Ok(ExitCode::SUCCESS)
}

impl Which {
    fn selection(&self) -> Selection {
        Selection { cases: self.cases.clone(), versions: self.versions.clone(), runs: None }
    }

    /// The descriptions that are named, or all built-in ones of plugins that are there.
    fn profiles(&self, target: Option<&Target>) -> Result<Vec<Profile>> {
        let built_in = profile::embedded()?;
        if self.profile.is_empty() {
            let there = |profile: &Profile| target.is_none_or(|target| target.has(&profile.plugin));
            let found: Vec<Profile> = built_in.into_iter().filter(there).collect();
            if found.is_empty() {
                return Err("the folder has no plugin that is known: describe it by --profile".to_owned());
            }
            return Ok(found);
        }
        let mut profiles = Vec::new();
        for name in &self.profile {
            let path = PathBuf::from(name);
            profiles.push(match built_in.iter().find(|profile| profile.name == *name) {
                Some(profile) => profile.clone(),
                None if path.exists() => profile::read(&path)?,
                None => return Err(format!("{name} is neither a file nor a built-in description")),
            });
        }
        if let Some(target) = target
            && let Some(missing) = profiles.iter().find(|profile| !target.has(&profile.plugin))
        {
            return Err(format!("there is no {} in {}", missing.plugin, target.plugins.display()));
        }
        Ok(profiles)
    }
}

/// Prints. A closed pipe is no error: the reader has what it wants.
fn print(text: &str) {
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}
