//! Every task of a developer, as `cargo xtask TASK`. Each is explained by `--help`.

mod bench;
mod conformance;
mod deb;
mod debian;
mod demo;
mod deny;
mod differential;
mod dist;
mod elf;
mod error;
mod files;
mod fuzz;
mod platform;
mod private_host;
mod process;
mod progress;
mod release;
mod rpm;
mod table;
mod test;
mod vm;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tasks of the oxcni project: tests, binaries for nodes, a virtual machine, benchmarks, a demo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Demo(demo::Args),
    Test(test::Args),
    Dist(dist::Args),
    Rpm(rpm::Args),
    Release(release::Args),
    Bench(bench::Args),
    Differential(differential::Args),
    Conformance(conformance::Args),
    Vm(vm::Args),
    Deny(deny::Args),
    Fuzz(fuzz::Args),
    #[command(hide = true)]
    TestInMachine(test::GuestArgs),
    #[command(hide = true)]
    NoteCalls(bench::calls::Args),
}

fn main() -> ExitCode {
    if let Some(code) = dist::run_as_linker() {
        return code;
    }
    let outcome = match Cli::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Rpm(args) => rpm::run(&args),
        Task::Release(args) => release::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Differential(args) => differential::run(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Vm(args) => vm::run(&args),
        Task::Deny(args) => deny::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::TestInMachine(args) => test::run_inside(&args).map(|()| ExitCode::SUCCESS),
        Task::NoteCalls(args) => bench::calls::run(&args).map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("\nerror: {failure}");
            ExitCode::FAILURE
        }
    }
}
