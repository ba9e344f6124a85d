//! One call of a plugin: everything it may know, read and checked before it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::plugin::Plugin;
use crate::spec::{Attachment, CniArgs, Code, ContainerId, Error, IfName, NetConf, Result};

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

    /// Whether the command is about one attachment, and not about the network as a whole.
    fn is_of_attachment(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }
}

/// The variables of the environment that the specification defines, checked.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID` and `CNI_IFNAME`; there for ADD, DEL and CHECK.
    pub attachment: Option<Attachment>,
    /// `CNI_NETNS`; there for ADD and CHECK, perhaps for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the caller means it when `CNI_NETNS` is the plugin's own namespace.
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
                format!("CNI_COMMAND: {name:?} is no command"),
            )
            .details(format!("the commands are {known}")));
        };
        let of_attachment = command.is_of_attachment();
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
}

/// What is wrong with the environment, all of it: a person mends it in one go.
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

/// All that a plugin gets: it reads neither environment nor standard input nor its own path.
#[derive(Clone)]
pub struct Request {
    /// The environment of the call.
    pub env: Environment,
    /// The common keys of the configuration.
    pub conf: NetConf,
    /// The configuration as it came, with every key: what goes to delegates.
    pub text: Vec<u8>,
    /// The plugins that this program holds, which it can call without executing a file.
    pub plugins: &'static [&'static dyn Plugin],
    /// How plugins are executed on behalf of this call.
    pub exec: ExecOptions,
}

/// How a plugin that is not in this program is executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExecOptions {
    /// How long it may take before it and what it started are killed; `None` for no limit.
    pub time_limit: Option<Duration>,
    /// Whether each line of its standard error is preceded by its name. Otherwise it writes
    /// to the standard error of this program itself.
    pub name_stderr: bool,
}

impl Request {
    /// The container and interface that this call is about.
    ///
    /// # Errors
    /// For GC and STATUS, which are about none.
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

    /// The same call with another command, as a plugin makes it to clean up after a delegate.
    #[must_use]
    pub fn with_command(&self, command: Command) -> Request {
        let mut request = self.clone();
        request.env.command = command;
        request
    }

    /// The same call with another configuration.
    ///
    /// # Errors
    /// When the configuration is none, see [`NetConf::parse`].
    pub fn with_conf(&self, text: Vec<u8>) -> Result<Request> {
        Ok(Request {
            conf: NetConf::parse(&text)?,
            text,
            env: self.env.clone(),
            plugins: self.plugins,
            exec: self.exec,
        })
    }

    /// The plugin's own keys of the configuration.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`] with the place of what does not fit.
    pub fn parse_conf<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        crate::spec::from_json(&self.text, "network configuration")
    }
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
