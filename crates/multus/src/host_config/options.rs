//! The command line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_core::plugin::DOCUMENTATION;

use crate::cluster::token::Account;
use crate::entrypoint::options::Options as Generated;

/// A valid command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// The default network's configuration.
    pub(crate) default_network: PathBuf,
    /// Where multus' configuration and kubeconfig go.
    pub(crate) conf_dir: PathBuf,
    /// Whose token multus gets.
    pub(crate) account: Account,
    /// The lifetime that is asked for.
    pub(crate) token_lifetime: Duration,
    /// Remove what earlier runs made.
    pub(crate) remove: bool,
}

/// A flag, its value where it is absent, and what it means.
const FLAGS: [(&str, &str, &str); 5] = [
    (
        "kubeconfig",
        "/var/lib/microshift/resources/kubeadmin/kubeconfig",
        "the kubeconfig of a user who may create tokens",
    ),
    ("default-network", "/etc/cni/net.d/10-ovn-kubernetes.conf", "the default network's configuration"),
    ("cni-conf-dir", "/etc/cni/net.d", "the folder for multus' configuration and kubeconfig"),
    ("service-account", "oxcni-multus/multus", "the service account of multus, as NAMESPACE/NAME"),
    ("token-lifetime", "3600", "how long a token is to be valid, in seconds; half of it later it is renewed"),
];

impl Options {
    /// Multus' kubeconfig.
    pub(crate) fn multus_kubeconfig(&self) -> PathBuf {
        self.conf_dir.join("multus.d/multus.kubeconfig")
    }

    /// Multus' configuration, both forms: a run of another program may have made the older one.
    pub(crate) fn multus_configs(&self) -> [PathBuf; 2] {
        crate::entrypoint::generate::NAMES.map(|name| self.conf_dir.join(name))
    }

    /// What the configuration of multus is to have.
    pub(crate) fn generated(&self) -> Generated {
        Generated {
            cni_conf_dir: self.conf_dir.clone(),
            multus_kubeconfig_file_host: self.multus_kubeconfig().to_string_lossy().into_owned(),
            readiness_indicator_file: self.default_network.to_string_lossy().into_owned(),
            multus_log_to_stderr: true,
            ..Generated::default()
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let path = || match Path::new(value) {
            path if path.is_absolute() => Ok(path.to_owned()),
            _ => Err(format!("--{name}: {value:?} is not an absolute path")),
        };
        match name {
            "kubeconfig" => self.kubeconfig = path()?,
            "default-network" => self.default_network = path()?,
            "cni-conf-dir" => self.conf_dir = path()?,
            "service-account" => self.account = value.parse()?,
            "token-lifetime" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                let seconds =
                    seconds.ok_or_else(|| format!("--{name}: {value:?} is not a number of seconds"))?;
                self.token_lifetime = Duration::from_secs(seconds);
            }
            _ => return Err(format!("unknown flag: --{name}")),
        }
        Ok(())
    }
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// A text for the user: an unknown flag, a flag without its value, or an invalid value.
pub(crate) fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        kubeconfig: PathBuf::new(),
        default_network: PathBuf::new(),
        conf_dir: PathBuf::new(),
        account: FLAGS[3].1.parse()?,
        token_lifetime: Duration::ZERO,
        remove: false,
    };
    for (name, default, _) in FLAGS {
        options.set(name, default)?;
    }
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let flag = argument.strip_prefix("--").ok_or_else(|| format!("unknown argument: {argument}"))?;
        match flag.split_once('=') {
            Some((name, value)) => options.set(name, value)?,
            None if flag == "remove" => options.remove = true,
            None => {
                let value = arguments.next().ok_or_else(|| format!("--{flag} needs a value"))?;
                options.set(flag, value)?;
            }
        }
    }
    Ok(options)
}

/// A page on all flags and their defaults.
pub(crate) fn help() -> String {
    let mut page = String::from(
        "oxcni-multus-config keeps multus configured on a node, as a service in place of a pod.\n\n",
    );
    for (name, default, help) in FLAGS {
        // Writing to a String can't fail.
        let _ = writeln!(page, "  --{name} <value>\n        {help} (default {default})");
    }
    page.push_str(
        "  --remove\n        remove what earlier runs made: the node has its default network alone\n",
    );
    let _ = writeln!(page, "\nDocumentation: {DOCUMENTATION}/reference/oxcni-multus-config.md");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, String> {
        parse(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn defaults_are_those_of_microshift() {
        let options = parsed(&[]).unwrap();
        assert_eq!(options.multus_kubeconfig(), Path::new("/etc/cni/net.d/multus.d/multus.kubeconfig"));
        assert_eq!(options.token_lifetime, Duration::from_secs(3600));
        assert!(!options.remove);
        let given = parsed(&["--remove", "--cni-conf-dir", "/a", "--token-lifetime=600"]).unwrap();
        assert!(given.remove && given.conf_dir == Path::new("/a"));
        assert_eq!(given.token_lifetime, Duration::from_secs(600));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, named) in [
            (&["--nonsense=1"][..], "--nonsense"),
            (&["word"], "word"),
            (&["--kubeconfig"], "--kubeconfig"),
            (&["--kubeconfig=x"], "absolute"),
            (&["--token-lifetime=0"], "seconds"),
            (&["--service-account=multus"], "NAMESPACE/NAME"),
        ] {
            let err = parsed(arguments).unwrap_err();
            assert!(err.contains(named), "{err}");
        }
        for (name, _, _) in FLAGS {
            assert!(help().contains(&format!("--{name}")));
        }
    }
}
