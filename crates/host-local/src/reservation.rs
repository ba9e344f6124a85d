//! The name and the content of a reservation file.
//!
//! The format is that of the Go plugin, so that both can work on one folder: the name is the
//! address, the content `<container id>` CR LF `<ifname>`. Files of very old versions have the
//! container ID alone.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use cni_core::fs::Folder;
use cni_core::spec::Attachment;

/// How much of a file is read, in bytes. A container ID has at most 255 and an interface name 15.
pub(crate) const MAX_LEN: usize = 1024;

const LINE_BREAK: &[u8] = b"\r\n";

/// The attachment that holds an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Owner {
    container_id: Vec<u8>,
    /// `None` in files of very old versions.
    ifname: Option<Vec<u8>>,
}

impl Owner {
    /// The owner for an attachment.
    pub(crate) fn of(attachment: &Attachment) -> Owner {
        Owner {
            container_id: attachment.container_id.as_bytes().to_vec(),
            ifname: Some(attachment.ifname.as_bytes().to_vec()),
        }
    }

    /// The same container in the form of very old versions.
    pub(crate) fn without_ifname(&self) -> Owner {
        Owner { container_id: self.container_id.clone(), ifname: None }
    }

    /// Reads the content of a file. White space around it is ignored.
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

    /// The content of the file of a reservation.
    pub(crate) fn contents(&self) -> Vec<u8> {
        match &self.ifname {
            Some(ifname) => [&self.container_id, LINE_BREAK, ifname].concat(),
            None => self.container_id.clone(),
        }
    }

    /// The container ID. The Go plugin writes any bytes.
    pub(crate) fn container_id(&self) -> &[u8] {
        &self.container_id
    }

    /// Whether the file was empty: the process that made it was killed before it wrote.
    pub(crate) fn is_empty(&self) -> bool {
        self.container_id.is_empty() && self.ifname.is_none()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(255)]).escape_debug().to_string();
        match &self.ifname {
            _ if self.is_empty() => f.write_str("a file without a container ID"),
            Some(ifname) => write!(f, "container {} ({})", text(&self.container_id), text(ifname)),
            None => write!(f, "container {}", text(&self.container_id)),
        }
    }
}

/// A reservation, for who looks at them from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// The address.
    pub address: IpAddr,
    /// The container that has it.
    pub container_id: String,
    /// Its interface; `None` in files of very old versions.
    pub ifname: Option<String>,
}

/// The reservations in a folder, sorted by address.
pub(crate) fn all(path: &Path) -> io::Result<Vec<Reservation>> {
    let folder = match Folder::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder?,
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let mut all = Vec::new();
    for name in folder.names()? {
        let name = name?;
        let Some((name, address)) = name.to_str().and_then(|name| Some((name, address_of(name)?))) else {
            continue;
        };
        if let Some(contents) = folder.read(name, MAX_LEN)? {
            let Owner { container_id, ifname } = Owner::parse(&contents);
            all.push(Reservation { address, container_id: text(container_id), ifname: ifname.map(text) });
        }
    }
    all.sort_by_key(|reservation| reservation.address);
    Ok(all)
}

/// The address that a file reserves; `None` where the file is not a reservation.
pub(crate) fn address_of(name: &str) -> Option<IpAddr> {
    let ip: IpAddr = name.parse().ok()?;
    // Another spelling of an address is not a reservation: no lookup would find it.
    (file_name(ip) == name).then_some(ip)
}

/// The name of the file that reserves an address.
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
        assert!(Owner::parse(b" \r\n").is_empty());
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
