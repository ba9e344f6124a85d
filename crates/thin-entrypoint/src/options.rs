//! The command line: the flags of the Go program of the same name, with its defaults.
//!
//! The flags behave as GNU-style flags do in Go's pflag, which is what manifests were written
//! for: a switch takes a value only behind `=`, the last of two equal flags wins, and words that
//! are no flags are ignored. That is one table and a short loop; a general parser would have to
//! be told each of these.

use std::path::PathBuf;

use cni_core::spec::Version;

use crate::flags::{FLAGS, Flag, Set};
use crate::{Context as _, Error, Result};

/// Where multus' configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Made from the node's first network configuration (`auto`).
    Auto,
    /// A file that is copied.
    File(PathBuf),
}

/// How much multus logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are multus' own")]
pub enum LogLevel {
    Debug,
    Verbose,
    Error,
    Panic,
}

impl LogLevel {
    /// As it is written in multus' configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Verbose => "verbose",
            Self::Error => "error",
            Self::Panic => "panic",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        let lower = text.to_lowercase();
        [Self::Debug, Self::Verbose, Self::Error, Self::Panic]
            .into_iter()
            .find(|level| level.as_str() == lower)
            .map(Some)
            .ok_or_else(|| Error::new("a log level is one of debug, verbose, error, panic"))
    }
}

/// What the command line says. A field is described by its flag's text in [`crate::flags::help`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is a flag, and the table below describes it")]
pub struct Options {
    pub cni_bin_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub cni_version: Option<Version>,
    pub multus_conf: Source,
    pub multus_bin_file: PathBuf,
    pub multus_cni_conf_dir: String,
    pub skip_multus_binary_copy: bool,
    pub multus_kubeconfig_file_host: String,
    pub multus_master_cni_file_name: String,
    pub namespace_isolation: bool,
    pub global_namespaces: String,
    pub multus_autoconfig_dir: PathBuf,
    pub multus_log_to_stderr: bool,
    pub multus_log_level: Option<LogLevel>,
    pub multus_log_file: String,
    pub override_network_name: bool,
    pub cleanup_config_on_exit: bool,
    pub skip_config_watch: bool,
    pub rename_conf_file: bool,
    pub readiness_indicator_file: String,
    pub additional_bin_dir: String,
    pub skip_tls_verify: bool,
    pub force_cni_version: bool,
    pub service_account_dir: PathBuf,
}

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// An unknown flag, a flag without its value, or a value that is none.
    pub fn parse<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut options = Self::defaults()?;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.as_ref();
            if argument == "--" {
                break;
            }
            let Some(flag) = argument.strip_prefix("--") else {
                if argument.starts_with('-') && argument != "-" {
                    return Err(Error::new(format!("unknown flag: {argument}")));
                }
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                return Err(Error::new(format!("unknown flag: --{name}")));
            };
            let value = match (value, &flag.set) {
                (Some(value), _) => value,
                (None, Set::Switch(_)) => "true".to_owned(),
                (None, Set::Text(_)) => arguments
                    .next()
                    .map(|value| value.as_ref().to_owned())
                    .ok_or_else(|| Error::new(format!("--{name} needs a value")))?,
            };
            options.set(flag, &value)?;
        }
        if options.force_cni_version && options.cni_version.is_none() {
            return Err(Error::new("--force-cni-version needs --cni-version"));
        }
        Ok(options)
    }

    /// Whether both sources are to be followed for as long as the program runs.
    pub fn follows_changes(&self) -> bool {
        self.cleanup_config_on_exit && self.multus_conf == Source::Auto && !self.skip_config_watch
    }

    fn defaults() -> Result<Self> {
        let mut options = Self {
            cni_bin_dir: PathBuf::new(),
            cni_conf_dir: PathBuf::new(),
            cni_version: None,
            multus_conf: Source::Auto,
            multus_bin_file: PathBuf::new(),
            multus_cni_conf_dir: String::new(),
            skip_multus_binary_copy: false,
            multus_kubeconfig_file_host: String::new(),
            multus_master_cni_file_name: String::new(),
            namespace_isolation: false,
            global_namespaces: String::new(),
            multus_autoconfig_dir: PathBuf::new(),
            multus_log_to_stderr: false,
            multus_log_level: None,
            multus_log_file: String::new(),
            override_network_name: false,
            cleanup_config_on_exit: false,
            skip_config_watch: false,
            rename_conf_file: false,
            readiness_indicator_file: String::new(),
            additional_bin_dir: String::new(),
            skip_tls_verify: false,
            force_cni_version: false,
            service_account_dir: PathBuf::new(),
        };
        for flag in FLAGS {
            options.set(flag, flag.default)?;
        }
        Ok(options)
    }

    fn set(&mut self, flag: &Flag, value: &str) -> Result<()> {
        let given = || format!("--{}={value}", flag.name);
        match flag.set {
            Set::Text(keep) => keep(self, value).context(given),
            Set::Switch(field) => {
                *field(self) = truth(value).context(given)?;
                Ok(())
            }
        }
    }
}

/// The spellings of Go's `strconv.ParseBool`.
fn truth(value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::new("a switch is true or false")),
    }
}

/// True where one of the arguments is this flag, alone.
pub fn asks_for(arguments: &[String], flag: &str) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_go_program() {
        let options = Options::parse::<&str>([]).unwrap();
        assert_eq!(options.multus_conf, Source::Auto);
        assert_eq!(options.cni_bin_dir, PathBuf::from("/host/opt/cni/bin"));
        assert_eq!(options.multus_kubeconfig_file_host, "/etc/cni/net.d/multus.d/multus.kubeconfig");
        assert!(options.multus_log_to_stderr);
        assert!(!options.follows_changes());
        assert_eq!(FLAGS.len(), 24);
    }

    #[test]
    fn a_value_stands_behind_an_equals_sign_or_in_the_next_argument() {
        let options =
            Options::parse(["--cni-conf-dir=/a", "--cni-bin-dir", "/b", "--cni-conf-dir", "/c"]).unwrap();
        assert_eq!(options.cni_conf_dir, PathBuf::from("/c"));
        assert_eq!(options.cni_bin_dir, PathBuf::from("/b"));
    }

    #[test]
    fn a_switch_takes_its_value_only_behind_an_equals_sign() {
        let options =
            Options::parse(["--rename-conf-file", "false", "--multus-log-to-stderr=F", "rest"]).unwrap();
        assert!(options.rename_conf_file);
        assert!(!options.multus_log_to_stderr);
    }

    #[test]
    fn what_is_no_flag_is_ignored_and_so_is_all_behind_two_dashes() {
        let options = Options::parse(["word", "-", "--", "--nonsense"]).unwrap();
        assert_eq!(options, Options::parse::<&str>([]).unwrap());
    }

    #[test]
    fn changes_are_followed_only_where_the_configuration_is_made_and_removed() {
        let follows = |arguments: &[&str]| Options::parse(arguments).unwrap().follows_changes();
        assert!(follows(&["--cleanup-config-on-exit"]));
        assert!(!follows(&["--cleanup-config-on-exit", "--skip-config-watch"]));
        assert!(!follows(&["--cleanup-config-on-exit", "--multus-conf-file=/x"]));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (arguments, named) in [
            (&["--nonsense=1"][..], "--nonsense"),
            (&["-x"], "-x"),
            (&["--cni-bin-dir"], "--cni-bin-dir"),
            (&["--rename-conf-file=yes"], "--rename-conf-file=yes"),
            (&["--multus-log-level=loud"], "debug, verbose, error, panic"),
            (&["--cni-version=9.9.9"], "1.1.0"),
            (&["--force-cni-version"], "--cni-version"),
        ] {
            let err = Options::parse(arguments).unwrap_err().to_string();
            assert!(err.contains(named), "{err}");
        }
    }

    #[test]
    fn the_log_level_is_read_in_any_case() {
        let options = Options::parse(["--multus-log-level=DEBUG"]).unwrap();
        assert_eq!(options.multus_log_level, Some(LogLevel::Debug));
    }
}
