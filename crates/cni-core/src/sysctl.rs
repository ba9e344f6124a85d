//! Kernel settings below `/proc/sys/net`.
//!
//! They belong to the network namespace of the thread that opens them: to set one of a
//! container, run inside [`crate::netns::Netns::enter`].

use std::fmt;
use std::fs;
use std::io;

use crate::spec::{Error, IfName, Result};

const ROOT: &str = "/proc/sys/";

/// The settings of network namespaces. The kernel has others below `/proc/sys`, of the whole node.
const NET: &str = "net/";

/// A setting, as a checked path below `/proc/sys/net`.
///
/// ```
/// use cni_core::sysctl::Sysctl;
///
/// let setting: Sysctl = "net.ipv4.conf.eth0/100.arp_notify".parse().unwrap();
/// assert_eq!(setting.to_string(), "/proc/sys/net/ipv4/conf/eth0.100/arp_notify");
/// assert!("kernel.core_pattern".parse::<Sysctl>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sysctl(String);

impl Sysctl {
    /// `net/ipv4/ip_forward`.
    pub fn ipv4_forward() -> Sysctl {
        Sysctl("net/ipv4/ip_forward".to_owned())
    }

    /// `net/ipv6/conf/all/forwarding`.
    pub fn ipv6_forward() -> Sysctl {
        Sysctl("net/ipv6/conf/all/forwarding".to_owned())
    }

    /// An IPv4 setting of an interface. The dots of an interface name stay dots in a path.
    pub fn ipv4(setting: &'static str, ifname: &IfName) -> Sysctl {
        Sysctl(format!("net/ipv4/conf/{ifname}/{setting}"))
    }

    /// An IPv6 setting of an interface.
    pub fn ipv6(setting: &'static str, ifname: &IfName) -> Sysctl {
        Sysctl(format!("net/ipv6/conf/{ifname}/{setting}"))
    }

    /// Reads a key in which the first `IFNAME` stands for an interface name.
    ///
    /// # Errors
    /// As [`Sysctl::from_str`](std::str::FromStr::from_str).
    pub fn parse_for(key: &str, ifname: &IfName) -> Result<Sysctl> {
        // Replaced in the path: the dots of an interface name separate nothing.
        let Sysctl(path) = key.parse()?;
        Ok(Sysctl(path.replacen("IFNAME", ifname, 1)))
    }

    /// The value.
    ///
    /// # Errors
    /// When it can't be read; the kernel may lack it.
    pub fn get(&self) -> io::Result<String> {
        fs::read_to_string(self.path()).map(|text| text.trim_end_matches('\n').to_owned())
    }

    /// Sets the value.
    ///
    /// # Errors
    /// When it can't be written, with the setting and the value.
    pub fn set(&self, value: &str) -> Result<()> {
        fs::write(self.path(), value).map_err(|err| self.not_set(value, err))
    }

    /// Sets the value unless the setting has it. Many processes want the node-wide ones at once.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn ensure(&self, value: &str) -> Result<()> {
        if self.get().map_err(|err| self.not_set(value, err))? == value { Ok(()) } else { self.set(value) }
    }

    /// Sets the value where that is possible. A container may have `/proc/sys` read-only, and a
    /// kernel may have no IPv6; the attachment works without.
    pub fn prefer(&self, value: &str) {
        match fs::write(self.path(), value) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => crate::diagnostics::note(format_args!("oxcni: {}", self.not_set(value, err))),
        }
    }

    fn path(&self) -> String {
        format!("{ROOT}{}", self.0)
    }

    fn not_set(&self, value: &str, err: io::Error) -> Error {
        Error::io(format!("setting {self} to {value}"), err)
    }
}

impl fmt::Display for Sysctl {
    /// The whole path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}{}", self.0)
    }
}

impl std::str::FromStr for Sysctl {
    type Err = Error;

    /// Reads a key with dots or slashes, as sysctl(8) does: where the first separator is a dot,
    /// a slash stands for a dot in an interface name.
    ///
    /// # Errors
    /// [`crate::spec::Code::INVALID_CONFIG`] when the path would leave `/proc/sys/net`.
    fn from_str(key: &str) -> Result<Sysctl> {
        let dots_separate = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'.');
        let swapped = |c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path: String = if dots_separate { key.chars().map(swapped).collect() } else { key.to_owned() };
        let refuse = |why: &str| {
            Error::invalid_config(format!("sysctl {key:?} {why}"))
                .details("a key is net.ipv4.conf.eth0.arp_notify, or net/ipv4/conf/eth0.100/arp_notify")
        };
        if path.contains('\0') || path.len() > 255 {
            return Err(refuse("is not the name of a setting"));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(refuse("has a \"..\" in it"));
        }
        let path = parts.join("/");
        if !path.starts_with(NET) {
            return Err(refuse("is not a setting of a network namespace, below /proc/sys/net"));
        }
        Ok(Sysctl(path))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dot_in_an_interface_name_is_no_separator() {
        let ifname: IfName = "eth0.100".parse().unwrap();
        let expected = "/proc/sys/net/ipv6/conf/eth0.100/accept_dad";
        assert_eq!(Sysctl::ipv6("accept_dad", &ifname).to_string(), expected);
        assert_eq!(
            Sysctl::parse_for("net.ipv6.conf.IFNAME.accept_dad", &ifname).unwrap().to_string(),
            expected
        );
        for key in ["net/ipv6/conf/eth0.100/accept_dad", "net.ipv6.conf.eth0/100.accept_dad"] {
            assert_eq!(key.parse::<Sysctl>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_key_outside_of_net_is_refused() {
        for key in [
            "",
            "net",
            "kernel.hostname",
            "net/../kernel/hostname",
            "net.//.kernel",
            "../../etc/passwd",
            "network/x",
            "net/x\0",
        ] {
            assert!(key.parse::<Sysctl>().is_err(), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn no_key_leaves_its_folder(key in "[a-z./]{0,40}") {
            if let Ok(sysctl) = format!("net{key}").parse::<Sysctl>() {
                let text = sysctl.to_string();
                prop_assert!(text.starts_with("/proc/sys/net/") && !text.split('/').any(|part| part == ".."), "{}", text);
            }
        }
    }
}
