//! One call of a plugin: all its input, read and checked before it runs, and the trait that
//! takes it. The two know each other, because a request carries the plugins of this program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::diagnostics::note;
use crate::spec::{
    AddResult, Attachment, CniArgs, Code, ContainerId, Error, IfName, NetConf, Result, Spelling,
    from_json_spelled,
};

/// `CNI_COMMAND` (specification, section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are the specification's
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    const ALL: [Command; 6] =
        [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status, Command::Version];

    /// The value of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Command> {
        Command::ALL.into_iter().find(|command| command.as_str() == text)
    }

    /// Whether the command concerns one attachment, not the whole network.
    fn concerns_attachment(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }
}

/// The variables of the environment that the specification defines, checked.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID` and `CNI_IFNAME`; present for ADD, DEL and CHECK.
    pub attachment: Option<Attachment>,
    /// `CNI_NETNS`; present for ADD and CHECK, optional for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: `CNI_NETNS` may be the plugin's own namespace.
    pub netns_override: bool,
}

impl Environment {
    /// Reads the variables through `get`.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`], naming every variable that is missing or malformed.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Environment> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let name = get("CNI_COMMAND").unwrap_or_default();
        let Some(command) = Command::parse(&name) else {
            let known = Command::ALL.map(Command::as_str).join(", ");
            return Err(Error::new(
                Code::INVALID_ENVIRONMENT,
                format!("CNI_COMMAND: {name:?} is not a command"),
            )
            .details(format!("the commands are {known}")));
        };
        let of_attachment = command.concerns_attachment();
        let mut problems = Problems::default();
        let container_id = problems.required(of_attachment, "CNI_CONTAINERID", &get);
        let ifname = problems.required(of_attachment, "CNI_IFNAME", &get);
        let netns = get("CNI_NETNS").map(PathBuf::from);
        if of_attachment && netns.is_none() && command != Command::Del {
            problems.missing.push("CNI_NETNS");
        }
        let path: Vec<PathBuf> = get("CNI_PATH").iter().flat_map(std::env::split_paths).collect();
        if path.is_empty() && command != Command::Version {
            problems.missing.push("CNI_PATH");
        }
        let args = match CniArgs::parse(&get("CNI_ARGS").filter(|_| of_attachment).unwrap_or_default()) {
            Ok(args) => args,
            Err(err) => {
                problems.malformed.push(err.to_string());
                CniArgs::default()
            }
        };
        problems.into_result()?;
        let attachment = container_id
            .zip(ifname)
            .map(|(container_id, ifname): (ContainerId, IfName)| Attachment { container_id, ifname });
        let netns_override =
            get("CNI_NETNS_OVERRIDE").is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"));
        Ok(Environment { command, attachment, netns, args, path, netns_override })
    }

    /// The variables for the process of a plugin; one without a value must not be set there.
    pub fn variables(&self) -> [(&'static str, Option<OsString>); 7] {
        let attachment = self.attachment.as_ref();
        [
            ("CNI_COMMAND", Some(self.command.as_str().into())),
            ("CNI_CONTAINERID", attachment.map(|at| at.container_id.as_str().into())),
            ("CNI_IFNAME", attachment.map(|at| at.ifname.as_str().into())),
            ("CNI_NETNS", self.netns.clone().map(OsString::from)),
            ("CNI_ARGS", Some(self.args.to_string().into())),
            ("CNI_PATH", std::env::join_paths(&self.path).ok()),
            ("CNI_NETNS_OVERRIDE", self.netns_override.then(|| "1".into())),
        ]
    }
}

/// All that is wrong with the environment, so that a person corrects it at once.
#[derive(Default)]
struct Problems {
    missing: Vec<&'static str>,
    malformed: Vec<String>,
}

impl Problems {
    fn required<T: std::str::FromStr<Err = Error>>(
        &mut self,
        required: bool,
        name: &'static str,
        get: &impl Fn(&str) -> Option<String>,
    ) -> Option<T> {
        if !required {
            return None;
        }
        let Some(text) = get(name) else {
            self.missing.push(name);
            return None;
        };
        text.parse().map_err(|err: Error| self.malformed.push(format!("{name}: {err}"))).ok()
    }

    fn into_result(self) -> Result<()> {
        let mut parts = self.malformed;
        if !self.missing.is_empty() {
            parts.insert(0, format!("required variables are missing: {}", self.missing.join(", ")));
        }
        if parts.is_empty() { Ok(()) } else { Err(Error::new(Code::INVALID_ENVIRONMENT, parts.join("; "))) }
    }
}

/// The whole input of a plugin, which reads neither the environment nor standard input itself.
#[derive(Clone)]
pub struct Request {
    /// The environment of the call.
    pub env: Environment,
    /// The common keys of the configuration.
    pub conf: NetConf,
    /// The configuration as received, with every key. Delegates get this.
    pub text: Vec<u8>,
    /// The plugins in this program, which it can call without executing a file.
    pub plugins: &'static [&'static dyn Plugin],
    /// How plugins are executed on behalf of this call.
    pub exec: ExecOptions,
}

/// How a plugin that is not in this program is executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExecOptions {
    /// The time after which it and its child processes are killed; `None` for no limit.
    pub time_limit: Option<Duration>,
    /// Whether each line of its standard error is preceded by its name. Otherwise it writes
    /// to the standard error of this program itself.
    pub name_stderr: bool,
}

impl Request {
    /// The container and interface that this call concerns.
    ///
    /// # Errors
    /// For GC and STATUS, which concern the whole network.
    pub fn attachment(&self) -> Result<&Attachment> {
        self.env.attachment.as_ref().ok_or_else(|| {
            let command = self.env.command.as_str();
            Error::new(Code::INVALID_ENVIRONMENT, format!("{command} has no CNI_CONTAINERID and CNI_IFNAME"))
        })
    }

    /// The path of the container's network namespace.
    ///
    /// # Errors
    /// When `CNI_NETNS` is absent, as it may be for DEL.
    pub fn netns(&self) -> Result<&Path> {
        self.env
            .netns
            .as_deref()
            .ok_or_else(|| Error::new(Code::INVALID_ENVIRONMENT, "required variables are missing: CNI_NETNS"))
    }

    /// The same call with another command, for a delegate.
    #[must_use]
    pub fn with_command(&self, command: Command) -> Request {
        let mut request = self.clone();
        request.env.command = command;
        request
    }

    /// The same call with another configuration.
    ///
    /// # Errors
    /// See [`NetConf::parse`].
    pub fn with_conf(&self, text: Vec<u8>) -> Result<Request> {
        let conf = NetConf::parse(&text)?;
        report_spellings(&conf.spellings);
        Ok(Request { conf, text, env: self.env.clone(), plugins: self.plugins, exec: self.exec })
    }

    /// The plugin's own keys of the configuration.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`] with the line and column.
    pub fn parse_conf<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let (keys, spellings) = from_json_spelled(&self.text, "network configuration")?;
        report_spellings(&spellings);
        Ok(keys)
    }
}

/// Writes a line to standard error for each key of a configuration that differs in case from the
/// documented name. A process reports a key once, and 16 keys at most.
pub(crate) fn report_spellings(spellings: &[Spelling]) {
    static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    for Spelling { key, name } in spellings {
        if reported.len() < 16 && !reported.contains(key) {
            note(format_args!("the key {key:?} of the configuration is read as {name:?}"));
            reported.push(key.clone());
        }
    }
}

/// A CNI plugin: what it does for each command of the specification.
///
/// ```
/// use cni_core::plugin::{About, Kind, Plugin};
/// use cni_core::request::Request;
/// use cni_core::spec::{AddResult, Result};
///
/// struct Nothing;
///
/// impl Plugin for Nothing {
///     fn about(&self) -> About {
///         About { names: &["nothing"], summary: "attaches nothing", kind: Kind::Interface }
///     }
///     fn add(&self, _: &Request) -> Result<AddResult> {
///         Ok(AddResult::default())
///     }
///     fn del(&self, _: &Request) -> Result<()> {
///         Ok(())
///     }
///     fn check(&self, _: &Request) -> Result<()> {
///         Ok(())
///     }
/// }
/// // main.rs is then: fn main() -> ExitCode { cni_core::plugin::main(&[&Nothing]) }
/// ```
pub trait Plugin: Sync {
    /// The names it is called by, and what it does.
    fn about(&self) -> About;

    /// Attaches the container to the network, or leaves the node as it was.
    ///
    /// # Errors
    /// The reason; whatever was created is undone by then.
    fn add(&self, request: &Request) -> Result<AddResult>;

    /// Detaches it. Succeeds when there is nothing left to detach.
    ///
    /// # Errors
    /// When something remains that could not be removed.
    fn del(&self, request: &Request) -> Result<()>;

    /// Whether the container's interface may be gone before DEL is called. A caller with many
    /// interfaces deletes them in one request where it may.
    fn link_at_del(&self) -> LinkAtDel {
        LinkAtDel::Needs
    }

    /// Compares the attachment with `prevResult`.
    ///
    /// # Errors
    /// The first difference.
    fn check(&self, request: &Request) -> Result<()>;

    /// Whether an ADD could be served.
    ///
    /// # Errors
    /// [`Code::UNAVAILABLE`] or [`Code::UNAVAILABLE_LIMITED`] when not.
    fn status(&self, _request: &Request) -> Result<()> {
        Ok(())
    }

    /// Removes what belongs to attachments that are not valid any more.
    ///
    /// # Errors
    /// When something remains that could not be removed.
    fn gc(&self, _request: &Request) -> Result<()> {
        Ok(())
    }

    /// Runs a command that a user gives this plugin by hand, such as `dhcp daemon`; `None` for
    /// arguments that the plugin does not know.
    fn by_hand(&self, _args: &[OsString]) -> Option<ExitCode> {
        None
    }
}

/// What the DEL of a plugin has to do with the container's interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkAtDel {
    /// It deletes the interface, and succeeds where the interface is gone.
    Deletes,
    /// It does not use the interface.
    Ignores,
    /// It may read the interface or send packets through it: the interface must exist.
    Needs,
}

/// The name, purpose and kind of a plugin.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The values of `type` that mean this plugin.
    pub names: &'static [&'static str],
    /// What it does, in a line.
    pub summary: &'static str,
    /// How it may be called.
    pub kind: Kind,
}

/// The place of a plugin among others (specification, sections 3 and 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It creates an interface.
    Interface,
    /// It changes what a plugin before it created.
    Chained,
    /// It manages addresses; interface plugins delegate to it.
    Ipam,
    /// It calls other plugins by configurations of its own.
    Meta,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Environment> {
        Environment::read(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_missing_and_malformed_variable_is_named() {
        let error =
            read(&[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "../x"), ("CNI_ARGS", "oops")]).unwrap_err();
        assert_eq!(error.code(), Code::INVALID_ENVIRONMENT);
        for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "CNI_ARGS"] {
            assert!(error.msg().contains(name), "{name} in {error}");
        }
    }

    #[test]
    fn del_needs_no_namespace_and_gc_no_container() {
        let del = [
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/bin:/x"),
        ];
        let environment = read(&del).unwrap();
        assert_eq!((environment.netns, environment.path.len()), (None, 2));
        assert!(read(&[("CNI_COMMAND", "GC"), ("CNI_PATH", "/bin")]).unwrap().attachment.is_none());
        assert!(read(&[("CNI_COMMAND", "VERSION")]).is_ok());
    }

    #[test]
    fn an_unknown_command_lists_the_known_ones() {
        let error = read(&[("CNI_COMMAND", "add")]).unwrap_err();
        assert!(error.to_string().contains("ADD, DEL, CHECK, GC, STATUS, VERSION"), "{error}");
    }
}
