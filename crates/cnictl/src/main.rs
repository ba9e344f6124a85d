//! cnictl: what a container runtime does with CNI networks, done by a person.
//!
//! ```text
//! cnictl networks                 what is configured on this node, and whether it is valid
//! cnictl add net0 blue            attaches the network namespace "blue" to the network "net0"
//! cnictl list                     what is attached, by whichever runtime
//! cnictl del net0 blue            detaches it
//! cnictl doctor                   holds what is attached against the kernel
//! cnictl validate nad.yaml        looks at a configuration before anything uses it
//! ```
//!
//! A file for each group of commands; [`cli`] has the definitions of all of them, and [`node`] the
//! configurations, plugins and caches of this node, on which they work.

mod attach;
mod attached;
mod cli;
mod collect;
mod doctor;
mod manual;
mod namespace;
mod networks;
mod node;
mod output;
mod plan;
mod validate;

use std::process::ExitCode;

use clap::Parser;
use cni_core::spec::Result;

use crate::cli::{Cli, Command};
use crate::node::Node;
use crate::output::Output;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It did what it should, or found nothing wrong.
    Good,
    /// It looked and found something that is wrong.
    Findings,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.options.output, cli.options.color);
    match run(&cli, &output) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(3),
        Err(err) => {
            output.error(&err);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli, output: &Output) -> Result<Outcome> {
    let node = Node::new(&cli.options);
    match &cli.command {
        Command::Add(args) => attach::add(&node, args, output),
        Command::Del(args) => attach::del(&node, args, output),
        Command::Check(args) => attach::check(&node, args, output),
        Command::Gc(args) => collect::gc(&node, args, output),
        Command::Status { network } => networks::status(&node, network, output),
        Command::Networks => networks::list(&node, output),
        Command::Validate { files } => validate::validate(&node, files, output),
        Command::Doctor(args) => doctor::doctor(&node, args, output),
        Command::Completion { shell } => manual::completion(*shell, output),
        Command::Man { folder } => manual::write(folder),
        Command::List => attached::list(&node, output),
    }
}
