//! The command line of `dhcp daemon`: the flags of the Go daemon, in the forms that Go takes.

use std::ffi::OsString;
use std::path::PathBuf;

use dhcp_client::SECOND;

/// What `dhcp daemon -help` prints.
pub(crate) const USAGE: &str = "\
dhcp daemon: obtains, renews and releases the leases of the dhcp plugin

  -hostprefix PATH        put before the paths of sockets and namespaces
  -pidfile PATH           a file that gets the process id
  -socketpath PATH        listen at this socket only (default: /run/oxcni/dhcp.sock, and
                          /run/cni/dhcp.sock where no other daemon listens)
  -timeout DURATION       wait for the first answer of a server (default 2s)
  -resendmax DURATION     longest wait between two messages (default 62s)
  -resendtimeout DURATION how long an ADD tries (default 40s)
  -broadcast              have servers broadcast their answers

Durations are written as 500ms, 10s or 1m30s.";

/// What the command line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Flags {
    pub(crate) host_prefix: OsString,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) socket_path: Option<PathBuf>,
    /// The first wait for an answer, in milliseconds.
    pub(crate) timeout: u64,
    /// The longest wait between messages, in milliseconds.
    pub(crate) resend_max: u64,
    /// How long an ADD tries, in milliseconds.
    pub(crate) resend_timeout: u64,
    pub(crate) broadcast: bool,
    pub(crate) help: bool,
}

impl Default for Flags {
    fn default() -> Flags {
        Flags {
            host_prefix: OsString::new(),
            pid_file: None,
            socket_path: None,
            timeout: 2 * SECOND,
            resend_max: 62 * SECOND,
            resend_timeout: 40 * SECOND,
            broadcast: false,
            help: false,
        }
    }
}

impl Flags {
    /// Reads the arguments after `daemon`.
    ///
    /// # Errors
    /// A text for the user.
    pub(crate) fn parse(args: &[OsString]) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_str().ok_or_else(|| format!("{arg:?} is not UTF-8"))?;
            let Some(flag) =
                text.strip_prefix("--").or_else(|| text.strip_prefix('-')).filter(|f| !f.is_empty())
            else {
                return Err(format!("{text:?} is not a flag"));
            };
            let (name, given) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let switch = |given: Option<String>| match given.as_deref() {
                None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
                Some(other) => Err(format!("-{name}: {other:?} is neither true nor false")),
            };
            match name {
                "broadcast" => flags.broadcast = switch(given)?,
                "help" | "h" => flags.help = true,
                "hostprefix" | "pidfile" | "socketpath" | "timeout" | "resendmax" | "resendtimeout" => {
                    let next = || args.next().and_then(|value| value.to_str()).map(str::to_owned);
                    let value = given.or_else(next).ok_or_else(|| format!("-{name} needs a value"))?;
                    flags.set(name, &value)?;
                }
                _ => return Err(format!("-{name} is not a flag of dhcp daemon")),
            }
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let path = || {
            let path = PathBuf::from(value);
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(format!("-{name}: {value:?} is not an absolute path"))
            }
        };
        let time = || {
            duration(value)
                .filter(|time| *time > 0)
                .ok_or_else(|| format!("-{name}: {value:?} is not a duration such as 10s"))
        };
        match name {
            "hostprefix" => self.host_prefix = value.into(),
            "pidfile" => self.pid_file = Some(path()?),
            "socketpath" => self.socket_path = Some(path()?),
            "timeout" => self.timeout = time()?,
            "resendmax" => self.resend_max = time()?,
            _ => self.resend_timeout = time()?,
        }
        Ok(())
    }

    /// A path of the host, as this process finds it.
    pub(crate) fn on_host(&self, path: &std::path::Path) -> PathBuf {
        let mut whole = self.host_prefix.clone();
        whole.push(path);
        whole.into()
    }
}

/// A duration as Go writes it, in milliseconds; at most a day.
fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [("ms", 1.0), ("us", 0.001), ("ns", 0.000_001), ("s", 1e3), ("m", 60e3), ("h", 3600e3)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * factor;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty() && total <= 86_400e3).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Flags, String> {
        Flags::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_taken_in_the_forms_of_go() {
        let flags = parse(&[
            "-hostprefix",
            "/host",
            "--pidfile=/run/dhcp.pid",
            "-timeout",
            "10s",
            "-resendmax=1m2s",
            "-broadcast",
            "-resendtimeout",
            "1.5s",
        ])
        .unwrap();
        assert_eq!(flags.on_host("/run/x".as_ref()), PathBuf::from("/host/run/x"));
        assert_eq!((flags.timeout, flags.resend_max, flags.resend_timeout), (10_000, 62_000, 1500));
        assert!(flags.broadcast && flags.pid_file.is_some());
        assert!(!parse(&["-broadcast=false"]).unwrap().broadcast);
        assert_eq!(parse(&[]).unwrap(), Flags::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, named) in [
            (&["-pidfile", "x"][..], "absolute"),
            (&["-timeout", "10"], "-timeout"),
            (&["-timeout", "0s"], "-timeout"),
            (&["-timeout"], "value"),
            (&["-nonsense"], "-nonsense"),
            (&["daemon"], "daemon"),
            (&["-broadcast=maybe"], "maybe"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
