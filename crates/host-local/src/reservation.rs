//! What stands in a reservation's file, and what its name says.
//!
//! The format is the Go plugin's, so that both can take turns on one folder: the file is
//! named by the address and holds `<container id>` CR LF `<ifname>`. Files that a very old
//! version wrote hold the container id alone.

use std::fmt;
use std::net::IpAddr;

use cni_core::spec::Attachment;

/// The longest file that is read as a reservation, in bytes. A container id has at most 255
/// of them and an interface name 15; what is longer is held by nobody that can be named.
pub(crate) const MAX_LEN: usize = 1024;

const LINE_BREAK: &[u8] = b"\r\n";

/// Who holds an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Owner {
    container_id: Vec<u8>,
    /// `None` in files of very old versions.
    ifname: Option<Vec<u8>>,
}

impl Owner {
    /// The owner that an attachment is.
    pub(crate) fn of(attachment: &Attachment) -> Owner {
        Owner {
            container_id: attachment.container_id.as_bytes().to_vec(),
            ifname: Some(attachment.ifname.as_bytes().to_vec()),
        }
    }

    /// The same container as a very old version would have noted it.
    pub(crate) fn without_ifname(&self) -> Owner {
        Owner { container_id: self.container_id.clone(), ifname: None }
    }

    /// The owner that a file names. White space around it does not count.
    pub(crate) fn parse(contents: &[u8]) -> Owner {
        let contents = contents.trim_ascii();
        match contents.windows(2).position(|window| window == LINE_BREAK) {
            Some(at) => Owner {
                container_id: contents[..at].to_vec(),
                ifname: Some(contents[at + LINE_BREAK.len()..].to_vec()),
            },
            None => Owner { container_id: contents.to_vec(), ifname: None },
        }
    }

    /// What the file of a reservation holds.
    pub(crate) fn contents(&self) -> Vec<u8> {
        match &self.ifname {
            Some(ifname) => [&self.container_id, LINE_BREAK, ifname].concat(),
            None => self.container_id.clone(),
        }
    }

    /// The container, as far as it can be named.
    pub(crate) fn container_id(&self) -> &[u8] {
        &self.container_id
    }

    /// Whether the file said nothing: whoever made it was killed before it wrote.
    pub(crate) fn is_nobody(&self) -> bool {
        self.container_id.is_empty() && self.ifname.is_none()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(255)]).escape_debug().to_string();
        match &self.ifname {
            _ if self.is_nobody() => f.write_str("nobody that can be named"),
            Some(ifname) => write!(f, "container {} ({})", text(&self.container_id), text(ifname)),
            None => write!(f, "container {}", text(&self.container_id)),
        }
    }
}

/// The address that a file reserves; `None` for the name of anything else.
pub(crate) fn address_of(name: &str) -> Option<IpAddr> {
    let ip: IpAddr = name.parse().ok()?;
    // Another spelling of an address is no reservation: nothing would look for it there.
    (file_name(ip) == name).then_some(ip)
}

/// The name of an address' file.
pub(crate) fn file_name(ip: IpAddr) -> String {
    ip.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(container_id: &str, ifname: &str) -> Owner {
        Owner::of(&Attachment {
            container_id: container_id.parse().unwrap(),
            ifname: ifname.parse().unwrap(),
        })
    }

    #[test]
    fn the_format_is_that_of_the_go_plugin() {
        assert_eq!(owner("c1", "eth0").contents(), b"c1\r\neth0");
        assert_eq!(Owner::parse(b"c1\r\neth0"), owner("c1", "eth0"));
        assert_eq!(Owner::parse(b" c1\r\neth0\n"), owner("c1", "eth0"));
        for old in [&b"c1"[..], b"c1\n", b"c1\r\n"] {
            assert_eq!(Owner::parse(old), owner("c1", "eth0").without_ifname());
        }
        assert!(Owner::parse(b" \r\n").is_nobody());
    }

    #[test]
    fn only_an_address_as_it_is_printed_names_a_reservation() {
        for name in ["10.1.2.3", "fd00::1", "::102:304", "::ffff:1.2.3.4"] {
            assert_eq!(address_of(name).map(file_name).as_deref(), Some(name));
        }
        for name in
            ["lock", "last_reserved_ip.0", "10.1.2", "10.1.2.03", "FD00::1", "fd00:0::1", "10.1.2.3/24", ".."]
        {
            assert_eq!(address_of(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_file_has_an_owner(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let owner = Owner::parse(&bytes);
            let _ = owner.to_string();
            prop_assert_eq!(Owner::parse(&owner.contents()), Owner::parse(bytes.trim_ascii()));
        }

        #[test]
        fn an_attachment_reads_back(id in "[a-z0-9][a-z0-9_.-]{0,30}", ifname in "[a-z0-9@.]{1,12}x") {
            let owner = owner(&id, &ifname);
            prop_assert_eq!(Owner::parse(&owner.contents()), owner);
        }

        #[test]
        fn no_name_that_is_an_address_leaves_the_folder(name in ".{0,40}") {
            prop_assert!(address_of(&name).is_none_or(|_| !name.contains('/')));
        }
    }
}
