//! Reading the command line.
//!
//! Flags behave as GNU-style flags do in Go's pflag, which manifests are written for: a switch takes a
//! value only behind `=`, the last of two equal flags wins, and other arguments are ignored. No general
//! parser has these rules.

use super::flags::{FLAGS, Flag, Set};
use super::options::Options;
use super::{Context as _, Error, Result};

/// Reads the arguments after the program's name.
///
/// # Errors
/// An unknown flag, a flag without its value, or an invalid value.
pub(crate) fn parse<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Result<Options> {
    let mut options = Options::default();
    for flag in FLAGS {
        set(&mut options, flag, flag.default)?;
    }
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
        set(&mut options, flag, &value)?;
    }
    if options.force_cni_version && options.cni_version.is_none() {
        return Err(Error::new("--force-cni-version needs --cni-version"));
    }
    Ok(options)
}

/// Whether an argument is this flag without a value.
pub(crate) fn has_flag(arguments: &[String], flag: &str) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == flag)
}

fn set(options: &mut Options, flag: &Flag, value: &str) -> Result<()> {
    let given = || format!("--{}={value}", flag.name);
    match flag.set {
        Set::Text(keep) => keep(options, value).context(given),
        Set::Switch(field) => {
            *field(options) = parse_bool(value).context(given)?;
            Ok(())
        }
    }
}

/// The spellings of Go's `strconv.ParseBool`.
fn parse_bool(value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::new("a switch is true or false")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::options::Source;
    use super::*;
    use crate::log::LogLevel;

    #[test]
    fn defaults_are_those_of_the_go_program() {
        let options = parse::<&str>([]).unwrap();
        assert_eq!(options.multus_conf, Source::Auto);
        assert_eq!(options.cni_bin_dir, PathBuf::from("/host/opt/cni/bin"));
        assert_eq!(options.multus_kubeconfig_file_host, "/etc/cni/net.d/multus.d/multus.kubeconfig");
        assert!(options.multus_log_to_stderr);
        assert!(!options.follows_changes());
        assert_eq!(FLAGS.len(), 24);
    }

    #[test]
    fn a_value_stands_behind_an_equals_sign_or_in_the_next_argument() {
        let options = parse(["--cni-conf-dir=/a", "--cni-bin-dir", "/b", "--cni-conf-dir", "/c"]).unwrap();
        assert_eq!(options.cni_conf_dir, PathBuf::from("/c"));
        assert_eq!(options.cni_bin_dir, PathBuf::from("/b"));
    }

    #[test]
    fn a_switch_takes_its_value_only_behind_an_equals_sign() {
        let options = parse(["--rename-conf-file", "false", "--multus-log-to-stderr=F", "rest"]).unwrap();
        assert!(options.rename_conf_file);
        assert!(!options.multus_log_to_stderr);
    }

    #[test]
    fn other_arguments_are_ignored_and_so_is_all_behind_two_dashes() {
        let options = parse(["word", "-", "--", "--nonsense"]).unwrap();
        assert_eq!(options, parse::<&str>([]).unwrap());
    }

    #[test]
    fn changes_are_followed_only_where_the_configuration_is_made_and_removed_here() {
        let follows = |arguments: &[&str]| parse(arguments).unwrap().follows_changes();
        assert!(follows(&["--cleanup-config-on-exit"]));
        assert!(!follows(&["--cleanup-config-on-exit", "--skip-config-watch"]));
        assert!(!follows(&["--cleanup-config-on-exit", "--multus-conf-file=/x"]));
    }

    #[test]
    fn the_error_names_the_wrong_argument() {
        for (arguments, named) in [
            (&["--nonsense=1"][..], "--nonsense"),
            (&["-x"], "-x"),
            (&["--cni-bin-dir"], "--cni-bin-dir"),
            (&["--rename-conf-file=yes"], "--rename-conf-file=yes"),
            (&["--multus-log-level=loud"], "panic, error, verbose, debug"),
            (&["--cni-version=9.9.9"], "1.1.0"),
            (&["--force-cni-version"], "--cni-version"),
        ] {
            let err = parse(arguments).unwrap_err().to_string();
            assert!(err.contains(named), "{err}");
        }
    }

    #[test]
    fn the_log_level_is_read_in_any_case() {
        let options = parse(["--multus-log-level=DEBUG"]).unwrap();
        assert_eq!(options.multus_log_level, Some(LogLevel::Debug));
    }
}
