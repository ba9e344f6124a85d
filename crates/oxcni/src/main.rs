//! All plugins in one program, which acts as the one whose name it is called by.
//!
//! ```text
//! oxcni install /opt/cni/bin     copies itself there under the names of all its plugins
//! oxcni list                     prints these names
//! ```

mod install;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use cni_core::plugin::{self, Plugin};

/// Every plugin. There is no other list of them.
static PLUGINS: &[&dyn Plugin] = &[
    &oxcni_bridge::Bridge,
    &oxcni_dhcp::Dhcp,
    &oxcni_dummy::Dummy,
    &oxcni_host_local::HostLocal,
    &oxcni_ipvlan::Ipvlan,
    &oxcni_loopback::Loopback,
    &oxcni_macvlan::Macvlan,
    #[cfg(feature = "multus")]
    &oxcni_multus::Multus,
    &oxcni_passthru::Passthru,
    &oxcni_static::Static,
    &oxcni_tuning::TUNING,
    &oxcni_vlan::Vlan,
];

/// A name, and the whole program behind it.
type Program = (&'static str, fn() -> ExitCode);

/// Programs that are no plugins, by the names that packages link them under.
#[cfg(feature = "multus")]
static PROGRAMS: &[Program] = &[
    ("oxcni-multus-config", oxcni_multus::multus_config),
    ("thin_entrypoint", oxcni_multus::thin_entrypoint),
];
#[cfg(not(feature = "multus"))]
static PROGRAMS: &[Program] = &[];

const USAGE: &str = "\
oxcni: CNI plugins in one program, which acts as the one whose name it is called by

  oxcni install DIR   copy it to DIR under the names of all plugins
  oxcni list          print these names
  oxcni --version     print the version
  NAME --help         print what the plugin NAME does

Documentation: /usr/share/doc/oxcni/introduction.md";

fn main() -> ExitCode {
    let called_as = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called_as).file_name().and_then(OsStr::to_str).unwrap_or_default();
    if let Some((_, program)) = PROGRAMS.iter().find(|(program, _)| *program == name) {
        return program();
    }
    match plugin::find(PLUGINS, name) {
        Some(plugin) => plugin::run_named(plugin, PLUGINS),
        None => by_hand(name),
    }
}

/// All names, in the order of the table.
fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().flat_map(|plugin| plugin.about().names.iter().copied())
}

fn by_hand(name: &str) -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["list"] => names().for_each(|name| println!("{name}")),
        ["--version" | "-V"] => println!("oxcni {}", env!("CARGO_PKG_VERSION")),
        ["--help" | "-h" | "help"] => println!("{USAGE}"),
        ["install", folder] => match install::install(Path::new(folder), &names().collect::<Vec<_>>()) {
            Ok(how) => println!("installed {} plugins in {folder} ({how})", names().count()),
            Err(err) => {
                eprintln!("oxcni: {err}; {folder} is as it was");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            if name != "oxcni" {
                eprintln!("oxcni: called as {name:?}, which is not one of its plugins");
            }
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
