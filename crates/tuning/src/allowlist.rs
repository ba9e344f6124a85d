//! The sysctls that the node's administrator allows.

use std::io::ErrorKind;
use std::path::Path;

use cni_core::fs;
use cni_core::spec::{Error, Result};
use regex_lite::Regex;

/// A line is a regular expression that matches any part of a key as it is configured. Without the
/// file every sysctl is allowed; with an empty one, none.
const FILE: &str = "/etc/cni/tuning/allowlist.conf";

/// The longest file that is read, in bytes.
const MAX_LEN: usize = 1 << 20;

/// Requires keys to be allowed.
///
/// # Errors
/// [`cni_core::spec::Code::INVALID_CONFIG`] for the first key that is not, and for a line that is not a
/// regular expression.
pub(crate) fn check<'k>(keys: impl Iterator<Item = &'k String>) -> Result<()> {
    check_with(Path::new(FILE), keys)
}

fn check_with<'k>(file: &Path, keys: impl Iterator<Item = &'k String>) -> Result<()> {
    let mut keys = keys.peekable();
    if keys.peek().is_none() {
        return Ok(());
    }
    let text = match fs::read_bounded(file, MAX_LEN) {
        Ok(text) => text,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(fs::failed("reading the allowlist", file, err)),
    };
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let pattern = |line: &str| {
        Regex::new(line).map_err(|err| Error::invalid_config(format!("{}: {line:?}: {err}", file.display())))
    };
    let allowed = lines.clone().map(pattern).collect::<Result<Vec<Regex>>>()?;
    match keys.find(|key| !allowed.iter().any(|pattern| pattern.is_match(key))) {
        None => Ok(()),
        Some(key) => Err(Error::invalid_config(format!("sysctl {key} is not allowed on this node"))
            .details(format!("{} allows: {}", file.display(), lines.collect::<Vec<_>>().join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: Option<&str>, key: &str) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allowlist.conf");
        if let Some(list) = list {
            std::fs::write(&file, list).unwrap();
        }
        check_with(&file, [&key.to_owned()].into_iter())
    }

    #[test]
    fn a_line_allows_what_it_matches_anywhere() {
        let list = "^net.ipv4.conf.[^.]*.arp_notify$\n\n  net.core  \n";
        for (key, allowed) in [
            ("net.ipv4.conf.IFNAME.arp_notify", true),
            ("net/ipv4/conf/eth0/arp_notify", true),
            ("net.ipv4.conf.eth0.arp_notify_x", false),
            ("net.core.somaxconn", true),
            ("net.ipv4.ip_forward", false),
        ] {
            assert_eq!(check(Some(list), key).is_ok(), allowed, "{key}");
        }
    }

    #[test]
    fn no_file_allows_all_and_an_empty_one_nothing() {
        assert!(check(None, "net.x").is_ok());
        let error = check(Some("\n"), "net.x").unwrap_err();
        assert!(error.msg().contains("net.x"), "{error}");
        assert!(check(Some("["), "net.x").unwrap_err().msg().contains('['));
    }
}
