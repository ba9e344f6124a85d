//! `cargo xtask test`: all that a change must pass.

mod binaries;
mod guest;
mod kubectl;
mod tally;

use crate::error::Result;
use crate::process::run as run_program;
use crate::progress::{Progress, short};
use crate::workspace::{Workspace, cargo};
use crate::{deb, debian, deny, dist, rpm, vm};
use binaries::{Options, TestBinary};
use std::process::ExitCode;
use std::time::Duration;
use tally::Tally;

pub(crate) use guest::{Args as GuestArgs, run_inside};

/// The package whose tests play hosts and containers with namespaces.
const NAMESPACE_TESTS: &str = "oxcni-tests";

/// What the tests run, beside our own binaries.
const PACKAGES: [&str; 22] = [
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "createrepo-c",
    "dnf",
    "dnsmasq-base",
    "fish",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kea-dhcp4-server",
    "kea-dhcp6-server",
    "kmod",
    "kubernetes-client",
    "nftables",
    "podman",
    "procps",
    "rpm",
    "rpmlint",
    "runc",
    "systemd",
    "zsh",
];

/// Check formatting and lints, build the binaries for nodes, and run all tests.
///
/// Tests in namespaces run once on this machine's kernel, where a test that needs a missing feature
/// is skipped and says which, and once on a stock Debian kernel in a virtual machine, where a skip
/// is a failure. Missing Debian packages are installed, saying so first. Nothing touches this
/// machine's own network.
///
/// Where all tests run, the RPM packages are those that the source package makes, built without network.
///
/// Ends with one line: N passed, N failed, N skipped.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask test\n  \
    cargo xtask test -- bridge      (tests with `bridge` in their name, on both kernels)\n\n\
    The output of every test binary is kept in target/test-logs.")]
pub(crate) struct Args {
    /// Leave the virtual machine out.
    #[arg(long)]
    no_vm: bool,
    /// End the virtual machine after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    vm_timeout: u64,
    /// Filters and options for the test binaries.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    let mut total = Tally::default();
    let complete = steps(args, &progress, &mut total);
    if let Err(failure) = complete {
        println!("\nerror: {failure}");
        total.failed.push(failure.to_string().lines().next().unwrap_or_default().to_owned());
    }
    summarize(&total, &progress);
    Ok(if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The steps in order; a step that the others depend on ends them when it fails.
fn steps(args: &Args, progress: &Progress, total: &mut Tally) -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    if root {
        let machine = if args.no_vm { &[][..] } else { &vm::PACKAGES };
        debian::ensure(&[&PACKAGES, machine].concat(), progress)?;
    }
    let workspace = Workspace::load()?;
    let check = |name: &str, arguments: &[&str]| {
        progress.print(name);
        let outcome = run_program(cargo().args(arguments).current_dir(&workspace.root));
        Tally::check(name, outcome.is_ok())
    };
    total.add(check("Checking the formatting", &["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    total.add(check("Checking for warnings (clippy)", &clippy));
    progress.print("Checking the dependencies");
    let dependencies = deny::check(&workspace, None);
    if let Err(objections) = &dependencies {
        println!("{objections}");
    }
    total.add(Tally::check("Checking the dependencies", dependencies.is_ok()));
    dist::build(&workspace, &dist::Layout::OfCalls, progress)?;
    if root {
        total.add(Tally::check("Fetching kubectl", kubectl::fetch(&workspace, progress).is_ok()));
        total.add(packages(args, &workspace, progress)?);
        deb::build(&workspace, &workspace.target.join("deb"))?;
    }
    progress.print("Building the tests");
    let binaries = binaries::build(&workspace)?;
    let (namespace, unit): (Vec<TestBinary>, Vec<TestBinary>) =
        binaries.into_iter().partition(|binary| binary.package == NAMESPACE_TESTS);

    let options = Options {
        arguments: args.arguments.clone(),
        logs: workspace.target.join("test-logs"),
        ..Options::default()
    };
    total.add(binaries::run_all(&unit, &options, progress)?);
    total.add(binaries::run_doc_tests(&workspace, &options, progress)?);
    if !root {
        let text = "the tests in namespaces need root: run this as root";
        println!("\nNot all was tested: {text}");
        total.failed.push(text.to_owned());
        return Ok(());
    }
    // Here, tests mostly wait; the machine has its two processors to emulate.
    let (here, there) = std::thread::scope(|scope| {
        let machine = (!args.no_vm && !namespace.is_empty()).then(|| {
            let limit = Duration::from_secs(args.vm_timeout);
            let (workspace, namespace) = (&workspace, &namespace);
            scope.spawn(move || guest::run_in_machine(workspace, namespace, &args.arguments, limit, progress))
        });
        let here = binaries::run_all(&namespace, &options, progress);
        (here, machine.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    });
    let here = here?;
    if let Some(there) = there {
        let there = there?;
        let nowhere = tally::run_nowhere(&here, &there);
        total.failed.extend(nowhere.into_iter().map(|test| format!("{test}: ran on neither kernel")));
        total.add(there);
    }
    total.add(here);
    Ok(())
}

/// Builds the packages that the tests install: where all tests run, from the source package.
fn packages(args: &Args, workspace: &Workspace, progress: &Progress) -> Result<Tally> {
    let packages = rpm::build(workspace, &rpm::Programs::Folder(workspace.dist()), None, progress)?;
    if !args.arguments.is_empty() {
        return Ok(Tally::default());
    }
    let rebuilt = rpm::rebuild(workspace, &packages, None, progress);
    if let Err(failure) = &rebuilt {
        println!("{failure}");
    }
    Ok(Tally::check("Building the packages from the source package", rebuilt.is_ok()))
}

/// What failed, what was skipped and why, and the line that counts them.
fn summarize(total: &Tally, progress: &Progress) {
    if !total.skipped.is_empty() {
        println!("\nSkipped:");
        total.skipped.iter().for_each(|test| println!("  {test}"));
    }
    if !total.failed.is_empty() {
        println!("\nFailed:");
        total.failed.iter().for_each(|test| println!("  {test}"));
    }
    println!("\nDone in {}", short(progress.elapsed()));
    println!("{total}");
}
