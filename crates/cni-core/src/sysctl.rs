//! Kernel settings under `/proc/sys/net`.
//!
//! They belong to the network namespace of the thread that opens them: to set one of a
//! container, run inside [`crate::netns::Netns::enter`].

use std::fmt;
use std::fs;
use std::io;

use crate::spec::{Error, IfName, Result};

/// A setting.
#[derive(Clone, Copy, Debug)]
pub enum Sysctl<'a> {
    /// `net/ipv4/ip_forward`.
    Ipv4Forward,
    /// `net/ipv6/conf/all/forwarding`.
    Ipv6Forward,
    /// A setting of IPv4 for one interface.
    Ipv4(&'a str, &'a IfName),
    /// A setting of IPv6 for one interface.
    Ipv6(&'a str, &'a IfName),
}

impl fmt::Display for Sysctl<'_> {
    /// The path. An interface name has no `/` in it, and its dots stay dots in a path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sysctl::Ipv4Forward => f.write_str("/proc/sys/net/ipv4/ip_forward"),
            Sysctl::Ipv6Forward => f.write_str("/proc/sys/net/ipv6/conf/all/forwarding"),
            Sysctl::Ipv4(name, link) => write!(f, "/proc/sys/net/ipv4/conf/{link}/{name}"),
            Sysctl::Ipv6(name, link) => write!(f, "/proc/sys/net/ipv6/conf/{link}/{name}"),
        }
    }
}

impl Sysctl<'_> {
    /// What it is set to.
    ///
    /// # Errors
    /// When it can't be read; the kernel may lack it.
    pub fn get(self) -> io::Result<String> {
        fs::read_to_string(self.to_string()).map(|text| text.trim_end().to_owned())
    }

    /// Sets it, unless it is so already: the node-wide ones are contended.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn ensure(self, value: &str) -> Result<()> {
        let set = || if self.get()? == value { Ok(()) } else { fs::write(self.to_string(), value) };
        set().map_err(|err: io::Error| Error::io(format!("setting {self} to {value}"), err))
    }

    /// Sets it where that is possible. A container may have `/proc/sys` read-only, and a kernel
    /// may have no IPv6; the attachment works without.
    pub fn prefer(self, value: &str) {
        match fs::write(self.to_string(), value) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => eprintln!("oxcni: setting {self} to {value}: {err}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_an_interface_name_is_no_separator() {
        let link: IfName = "eth0.100".parse().unwrap();
        assert_eq!(
            Sysctl::Ipv6("accept_dad", &link).to_string(),
            "/proc/sys/net/ipv6/conf/eth0.100/accept_dad"
        );
    }
}
