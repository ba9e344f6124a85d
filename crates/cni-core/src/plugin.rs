//! The skeleton of a plugin: from environment and standard input to standard output.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use crate::diagnostics::note;
use crate::netns;
use crate::request::{Command, Environment, ExecOptions, report_spellings};
use crate::spec::{AddResult, Code, Error, NetConf, Result, Version, from_json};

pub use crate::request::{About, Kind, LinkAtDel, Plugin, Request};

/// The longest configuration that is read, in bytes.
const MAX_INPUT: u64 = 16 << 20;

/// Where packages put the pages of the documentation.
pub const DOCUMENTATION: &str = "/usr/share/doc/oxcni";

/// How long VERSION waits for its input: a runtime writes it as it starts the plugin.
const VERSION_INPUT: Duration = Duration::from_secs(1);

/// Finds a plugin by the name it is called by.
pub fn find(plugins: &'static [&'static dyn Plugin], name: &str) -> Option<&'static dyn Plugin> {
    plugins.iter().copied().find(|plugin| plugin.about().names.contains(&name))
}

/// The whole `main` of a program that holds one plugin, or of a multicall program: the first of
/// `plugins` is called.
pub fn main(plugins: &'static [&'static dyn Plugin]) -> ExitCode {
    let Some(plugin) = plugins.first().copied() else {
        return ExitCode::FAILURE;
    };
    run_named(plugin, plugins)
}

/// [`main`] for the plugin of `plugins` that is meant.
pub fn run_named(plugin: &'static dyn Plugin, plugins: &'static [&'static dyn Plugin]) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A runtime calls by the environment alone: arguments change nothing then.
    if std::env::var_os("CNI_COMMAND").is_none() && (!args.is_empty() || !called_by_a_runtime()) {
        return plugin.by_hand(&args).unwrap_or_else(|| introduce(plugin.about()));
    }
    let mut version = Version::NEWEST;
    let mut added = None;
    let answered = match catch_unwind(AssertUnwindSafe(|| answer(plugin, plugins, &mut version, &mut added)))
    {
        Ok(answered) => answered,
        Err(_) => Err(Error::new(Code::PANIC, format!("defect in {}: it panicked", plugin.about().names[0]))
            .details("what it had created was undone; standard error has the place")),
    };
    let (text, code) = match answered {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(err) => (err.to_json(version), ExitCode::FAILURE),
    };
    let mut stdout = std::io::stdout().lock();
    if text.is_empty() || writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok() {
        return code;
    }
    // An ADD whose result nobody gets has failed.
    if let Some(request) = added
        && let Err(err) = plugin.del(&request.with_command(Command::Del))
    {
        note(format_args!("oxcni: undoing an ADD whose result can't be written failed: {err}"));
    }
    ExitCode::FAILURE
}

/// Whether a variable of the protocol is set. A runtime that leaves out CNI_COMMAND gets the error for it.
fn called_by_a_runtime() -> bool {
    std::env::vars_os().any(|(name, _)| name.as_encoded_bytes().starts_with(b"CNI_"))
}

/// Prints what a person sees who starts a plugin by hand.
fn introduce(about: About) -> ExitCode {
    let [name, others @ ..] = about.names else {
        return ExitCode::FAILURE;
    };
    let version = env!("CARGO_PKG_VERSION");
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "--version" || arg == "-V") {
        println!("{name} (oxcni) {version}");
        return ExitCode::SUCCESS;
    }
    println!("{name} (oxcni) {version}: {}", about.summary);
    if !others.is_empty() {
        println!("also called {}", others.join(", "));
    }
    println!("CNI specification versions: {}", Version::list());
    println!(
        "A container runtime calls this with CNI_COMMAND and a network configuration on standard input."
    );
    println!("Documentation: {DOCUMENTATION}/reference/{name}.md");
    ExitCode::SUCCESS
}

/// Reads the call, makes it, and returns what goes to standard output. The namespace of this thread is no
/// container's, unless `CNI_NETNS_OVERRIDE` is set. `added` gets the request of an ADD that succeeded.
fn answer(
    plugin: &'static dyn Plugin,
    plugins: &'static [&'static dyn Plugin],
    version: &mut Version,
    added: &mut Option<Request>,
) -> Result<String> {
    let env =
        Environment::read(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))?;
    if env.command == Command::Version {
        return Ok(version_object(asked_version(&std::io::stdin()).unwrap_or(Version::NEWEST)));
    }
    let text = read_input()?;
    let conf = NetConf::parse(&text)?;
    *version = conf.cni_version;
    report_spellings(&conf.spellings);
    let request = Request { env, conf, text, plugins, exec: ExecOptions::default() };
    if let (Some(path), false) = (&request.env.netns, request.env.netns_override) {
        netns::refuse_own(path)?;
    }
    match call(plugin, &request)? {
        Some(result) => {
            *added = Some(request);
            result.to_json(*version)
        }
        None => Ok(String::new()),
    }
}

/// Calls the function of the plugin that belongs to the request's command.
///
/// # Errors
/// Those of the plugin; [`Code::INCOMPATIBLE_VERSION`] for a command that the configuration's version
/// does not have.
pub fn call(plugin: &dyn Plugin, request: &Request) -> Result<Option<AddResult>> {
    let version = request.conf.cni_version;
    let since = |allowed: bool, since: Version| {
        let command = request.env.command.as_str();
        let msg = format!("cniVersion {version} has no {command}");
        if allowed {
            Ok(())
        } else {
            Err(Error::new(Code::INCOMPATIBLE_VERSION, msg)
                .details(format!("{command} exists since {since}")))
        }
    };
    match request.env.command {
        Command::Add => plugin.add(request).map(Some),
        Command::Del => plugin.del(request).map(|()| None),
        Command::Check => {
            since(version.has_check(), Version::V0_4_0)?;
            plugin.check(request).map(|()| None)
        }
        Command::Status => {
            since(version.has_gc(), Version::V1_1_0)?;
            plugin.status(request).map(|()| None)
        }
        Command::Gc => {
            since(version.has_gc(), Version::V1_1_0)?;
            plugin.gc(request).map(|()| None)
        }
        Command::Version => Ok(None),
    }
}

/// The version that the input of VERSION names, if it is one of ours (specification, section 5,
/// "VERSION Success"). The texts up to 0.4.0 have no input, and a script may leave a pipe open that nothing
/// comes from; so an input that does not come is none.
fn asked_version(stdin: &(impl AsFd + IsTerminal)) -> Option<Version> {
    #[derive(serde::Deserialize)]
    struct Asked {
        #[serde(rename = "cniVersion")]
        version: String,
    }
    if stdin.is_terminal() {
        return None;
    }
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    let end = Instant::now() + VERSION_INPUT;
    while (text.len() as u64) < MAX_INPUT {
        let left = PollTimeout::try_from(end.saturating_duration_since(Instant::now()));
        let ready =
            poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], left.unwrap_or(PollTimeout::ZERO));
        match ready.and_then(|ready| if ready == 0 { Ok(0) } else { read(stdin, &mut chunk) }) {
            Ok(0) => break,
            Ok(length) => text.extend(&chunk[..length]),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
    let asked: Asked = from_json(&text, "input of VERSION").ok()?;
    asked.version.parse().ok()
}

/// The answer to VERSION.
fn version_object(version: Version) -> String {
    serde_json::json!({
        "cniVersion": version.as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
    .to_string()
}

fn read_input() -> Result<Vec<u8>> {
    let mut text = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_INPUT + 1)
        .read_to_end(&mut text)
        .map_err(|err| Error::io("reading the network configuration from standard input", err))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(Error::new(
            Code::IO,
            format!("the network configuration is longer than {} MiB", MAX_INPUT >> 20),
        ));
    }
    Ok(text)
}
