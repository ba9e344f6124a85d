//! The command line: its commands, options and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cni_core::spec::{ContainerId, IfName, NetworkName};

use crate::output::Format;

const AFTER_HELP: &str = "Exit codes:
  0  done, or nothing wrong was found
  1  it failed: the error of a plugin or of the system is on standard error
  2  the command line or the environment is wrong
  3  it looked and found something wrong (check, status, networks, validate, doctor)

Documentation: /usr/share/doc/oxcni/reference/cnictl.md, and troubleshooting.md there for errors by their text";

/// Attaches containers to CNI networks by hand, and holds what is attached against the kernel.
#[derive(Debug, Parser)]
#[command(name = "cnictl", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The options of all commands.
    #[command(flatten)]
    pub(crate) options: Options,
}

/// The options of all commands.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Options {
    /// The folder of network configurations.
    #[arg(long, global = true, value_name = "DIR", env = "NETCONFPATH", default_value = "/etc/cni/net.d")]
    pub(crate) conf_dir: PathBuf,
    /// The folders of plugins, separated by colons. By default those that exist of /opt/cni/bin,
    /// /usr/libexec/oxcni, /usr/libexec/cni, /usr/lib/cni and /run/cni/bin.
    #[arg(long, global = true, value_name = "DIRS", env = "CNI_PATH", value_delimiter = ':')]
    pub(crate) path: Vec<PathBuf>,
    /// The folder of libcni, whose folder "results" has the results of ADD.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/cni")]
    pub(crate) cache_dir: PathBuf,
    /// The folder of multus, with the networks of each pod and their results ("cniDir" of multus).
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/cni/multus")]
    pub(crate) multus_dir: PathBuf,
    /// How long each plugin may take, in seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 110,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
    /// A table for people, or JSON for programs.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Whether tables have colours.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

/// When tables have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Attach a network namespace to a network.
    Add(Attach),
    /// Detach a network namespace from a network.
    Del(Attach),
    /// Compare an attachment with the result of its ADD.
    Check(Attach),
    /// Remove what attachments have left that are gone. An attachment whose namespace exists is never
    /// touched. Run it while no container is being attached: what is not finished is in no cache yet.
    Gc(Gc),
    /// Ask the plugins of networks whether they can attach containers.
    Status {
        /// The network; all that are configured by default.
        network: Option<NetworkName>,
    },
    /// Print the completion for a shell, made from the definitions of this program.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages, one for each command, into a folder.
    Man {
        /// The folder, which is created.
        folder: PathBuf,
    },
    /// Hold everything that is attached against the kernel: CHECK for all, and what attachments left that
    /// are gone: links, rules, reservations and leases.
    Doctor(Doctor),
    /// Show which networks are configured, and whether they are valid.
    Networks,
    /// Look at a configuration or a NetworkAttachmentDefinition before anything uses it: keys that no
    /// plugin reads, values that it refuses, interfaces that this node does not have.
    Validate {
        /// The file, JSON or YAML; - for standard input.
        #[arg(required = true, value_name = "FILE|-")]
        files: Vec<PathBuf>,
    },
    /// Show what is attached, by whichever runtime that uses libcni's cache, and by multus.
    List,
}

/// The shells that can complete commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash, with the package bash-completion.
    Bash,
    /// fish.
    Fish,
    /// zsh.
    Zsh,
}

/// One attachment.
#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// The network: the "name" in its configuration.
    pub(crate) network: NetworkName,
    /// The network namespace: a name (`ip netns add NAME`), a path, or the id of a process.
    pub(crate) namespace: String,
    /// The interface in the namespace.
    #[arg(long, short, env = "CNI_IFNAME", default_value = "eth0")]
    pub(crate) ifname: IfName,
    /// The container ID. By default that of the attachment of this namespace in the cache, or for a
    /// new one the ID that cnitool makes of the namespace's path.
    #[arg(long, value_name = "ID")]
    pub(crate) container_id: Option<ContainerId>,
    /// Arguments for the plugins, KEY=VALUE;KEY=VALUE. By default, del and check use those of add.
    #[arg(long, env = "CNI_ARGS")]
    pub(crate) args: Option<String>,
    /// Capability arguments, a JSON object such as {"mac": "02:00:00:00:00:01"}. By default, del and
    /// check use those of add.
    #[arg(long, env = "CAP_ARGS", value_name = "JSON")]
    pub(crate) cap_args: Option<String>,
    /// Show the calls of plugins and their input, and make none.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How the node is treated.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Repair what is found: attach again what is broken, with its addresses and its MAC address, and
    /// remove what belongs to nothing. By default, it is only reported.
    #[arg(long)]
    pub(crate) repair: bool,
    /// How long what belongs to no attachment must be so before it is removed, in seconds: it may
    /// belong to one that is being made.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
}

/// What to collect.
#[derive(Args, Debug)]
pub(crate) struct Gc {
    /// The network; all that are configured by default.
    pub(crate) network: Option<NetworkName>,
    /// Show what would be removed and the calls of plugins, and make none.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
