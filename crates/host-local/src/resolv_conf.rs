//! DNS settings from a file such as `/etc/resolv.conf` (resolv.conf(5)).

use std::io;
use std::path::Path;

use cni_core::fs;
use cni_core::spec::{Code, Dns, Error, Result};

/// The longest file that is read, in bytes.
const MAX_LEN: usize = 1 << 20;

/// How a file is read: the path, and how many bytes at most.
pub(crate) type ReadFile = fn(&Path, usize) -> io::Result<Vec<u8>>;

/// Reads a file by `read_file`.
///
/// # Errors
/// When it can't be read, is not a regular file, or is longer than 1 MiB; [`Code::TRY_AGAIN`] when the
/// file system does not answer in time. Settings that a result has no key for are ignored.
pub(crate) fn read(path: &Path, read_file: ReadFile) -> Result<Dns> {
    let text = read_file(path, MAX_LEN + 1).map_err(|err| failed(path, err))?;
    if text.len() > MAX_LEN {
        let msg = format!("resolvConf {} is longer than {} MiB", path.display(), MAX_LEN >> 20);
        return Err(Error::invalid_config(msg));
    }
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn failed(path: &Path, err: io::Error) -> Error {
    if err.kind() == io::ErrorKind::TimedOut {
        let msg = format!("reading resolvConf {}: the file system does not answer", path.display());
        return Error::new(Code::TRY_AGAIN, msg);
    }
    fs::failed("reading resolvConf", path, err)
}

pub(crate) fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let (Some(keyword), Some(first)) = (fields.next(), fields.next()) else {
            continue;
        };
        let values = std::iter::once(first).chain(fields).map(str::to_owned);
        match keyword {
            "nameserver" => dns.nameservers.push(first.to_owned()),
            "domain" => first.clone_into(&mut dns.domain),
            "search" => dns.search.extend(values),
            "options" => dns.options.extend(values),
            // Comments begin with # or ;
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(path: &Path) -> Result<Dns> {
        super::read(path, fs::read_regular)
    }

    #[test]
    fn four_keywords_are_read() {
        let dns = parse(
            "# nameserver 192.0.2.1\n; search x\nnameserver 192.0.2.2\n  nameserver\t192.0.2.3 # first\n\
             domain example.com\nsearch a b\nsearch c\noptions ndots:5 rotate\nsortlist 1.2.3.4\nnameserver\n",
        );
        assert_eq!(dns.nameservers, ["192.0.2.2", "192.0.2.3"]);
        assert_eq!(
            (dns.domain.as_str(), dns.search),
            ("example.com", vec!["a".into(), "b".into(), "c".into()])
        );
        assert_eq!(dns.options, ["ndots:5", "rotate"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let err = read(Path::new("/nonexistent/resolv.conf")).unwrap_err();
        assert!(err.msg().contains("/nonexistent/resolv.conf"), "{err}");
    }

    #[test]
    fn a_device_is_not_opened_and_a_long_file_is_refused() {
        let err = read(Path::new("/dev/zero")).unwrap_err();
        assert!(err.msg().contains("/dev/zero: it is not a regular file"), "{err}");
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_LEN as u64 + 1).unwrap();
        assert!(read(file.path()).unwrap_err().msg().contains("longer than 1 MiB"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".*") {
            parse(&text);
        }
    }
}
