//! Network namespaces by name, path or process, and container IDs made of their paths.

use std::path::{Component, Path, PathBuf};

use cni_core::firewall::hash;
use cni_core::netns::{Netns, refuse_own};
use cni_core::spec::{Code, ContainerId, Error, Result};

/// Where `ip netns add` keeps namespaces by name.
const NAMED: &str = "/run/netns";

/// The path of a namespace that is given by name, path or the ID of a process.
///
/// # Errors
/// A relative path where the working folder is gone.
pub(crate) fn path_of(text: &str) -> Result<PathBuf> {
    if text.contains('/') {
        let absolute = std::path::absolute(text)
            .map_err(|err| Error::io(format!("the path of the namespace {text:?}"), err))?;
        return Ok(cleaned(&absolute));
    }
    let named = Path::new(NAMED).join(text);
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Ok(if is_number && !named.exists() { Path::new("/proc").join(text).join("ns/net") } else { named })
}

/// Requires that a namespace exists.
///
/// # Errors
/// [`Code::INVALID_ENVIRONMENT`], with the ways to name one.
pub(crate) fn require(text: &str, path: &Path) -> Result<()> {
    match Netns::open(path)? {
        Some(_) => Ok(()),
        None => {
            let msg = format!("there is no network namespace {text:?}: {} does not exist", path.display());
            Err(Error::new(Code::INVALID_ENVIRONMENT, msg)
                .details("it is a name (`ip netns add NAME`), a path with a slash, or the ID of a process"))
        }
    }
}

/// Whether a namespace still exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It does.
    Living,
    /// It does not: what was attached is gone.
    Gone,
    /// Nothing says which it was, or it can't be opened.
    Unknown,
}

impl Life {
    /// Whether the namespace at a path exists. No container has the namespace of this program.
    pub(crate) fn of(path: Option<&Path>) -> Life {
        let Some(path) = path else { return Life::Unknown };
        match Netns::open(path) {
            Ok(Some(_)) if refuse_own(path).is_ok() => Life::Living,
            Ok(_) => Life::Gone,
            Err(err) if err.code() == Code::INVALID_ENVIRONMENT => Life::Gone,
            Err(_) => Life::Unknown,
        }
    }

    /// The word for tables and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Life::Living => "living",
            Life::Gone => "gone",
            Life::Unknown => "unknown",
        }
    }
}

/// The container ID that cnitool makes of a namespace's path, so that either tool finds what the other
/// attached.
///
/// # Errors
/// None in practice.
pub(crate) fn container_id(netns: &Path) -> Result<ContainerId> {
    format!("cnitool-{}", hash(&netns.display().to_string(), 20)).parse()
}

/// An absolute path without `.` and `..`, as Go's filepath.Clean makes it: links are not followed.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_processes_are_told_apart() {
        for (text, path) in [
            ("blue", "/run/netns/blue"),
            ("/var/run/netns/../netns/./blue", "/var/run/netns/blue"),
            ("1", "/proc/1/ns/net"),
            ("4294967297", "/proc/4294967297/ns/net"),
            ("1a", "/run/netns/1a"),
        ] {
            assert_eq!(path_of(text).unwrap(), Path::new(path), "{text}");
        }
        assert!(path_of("./blue").unwrap().is_absolute());
    }

    #[test]
    fn the_container_id_is_that_of_cnitool() {
        // printf /run/netns/blue | sha512sum | head -c 20
        let id = container_id(Path::new("/run/netns/blue")).unwrap();
        assert_eq!(id.as_str(), "cnitool-df26705e2e4ffd095eb1");
    }

    #[test]
    fn a_namespace_lives_until_its_file_is_gone() {
        assert_eq!(Life::of(None), Life::Unknown);
        assert_eq!(Life::of(Some(Path::new("/nonexistent"))), Life::Gone);
        assert_eq!(Life::of(Some(Path::new("/proc/self/exe"))), Life::Gone);
        assert_eq!(Life::of(Some(Path::new("/proc/thread-self/ns/net"))), Life::Gone);
    }
}
