//! Events, which `kubectl describe pod` shows.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cni_core::fnv::fnv1a;
use cni_core::fs;
use cni_core::spec::AddResult;

use crate::failure::Failure;
use crate::time::Timestamp;

/// Something that happened to a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// Whether it is a warning.
    pub(crate) warning: bool,
    /// Its reason, one word in CamelCase.
    pub(crate) reason: &'static str,
    /// Its message.
    pub(crate) message: String,
    /// The earlier reports of the same; `None` where they are not counted.
    pub(crate) repetition: Option<Repetition>,
}

/// How often a pod had the same event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Repetition {
    /// A hash of pod, reason and message.
    pub(crate) key: u64,
    /// This one included.
    pub(crate) count: u32,
    /// The time of the first, as Kubernetes writes it.
    pub(crate) first: String,
}

/// The longest message that is posted, in bytes: the API server accepts 1024.
const MAX_MESSAGE: usize = 1000;

/// How long the count of an event is kept. API servers keep an event for an hour by default.
const KEPT: Duration = Duration::from_secs(3600);

impl Event {
    /// An interface was added; `None` for a result without interfaces and addresses.
    pub(crate) fn added(ifname: &str, network: &str, result: &AddResult) -> Option<Event> {
        if result.interfaces.is_empty() && result.ips.is_empty() {
            return None;
        }
        let ips: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        let mut message = format!("Add {ifname} [{}]", ips.join(" "));
        if !network.is_empty() {
            let _ = write!(message, " from {network}");
        }
        let message = shortened(message);
        Some(Event { warning: false, reason: "AddedInterface", message, repetition: None })
    }

    /// The pod with this UID could not be attached. A kubelet tries again and again: the same failure is
    /// counted in a file of `folder`, best effort.
    pub(crate) fn failed(failure: &Failure, uid: &str, folder: &Path) -> Event {
        let (reason, message) = (failure.reason(), shortened(failure.error().to_string()));
        let key = fnv1a(format!("{uid}\n{reason}\n{message}").as_bytes());
        let repetition = Some(Repetition::count(key, folder));
        Event { warning: true, reason, message, repetition }
    }
}

impl Repetition {
    fn count(key: u64, folder: &Path) -> Repetition {
        remove_old(folder);
        let file = folder.join(format!("{key:016x}"));
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        let known = known
            .split_once(' ')
            .and_then(|(count, first)| Some((count.parse::<u32>().ok()?, first.to_owned())));
        let (before, first) = known.unwrap_or_else(|| (0, Timestamp::now().to_string()));
        let repetition = Repetition { key, count: before.saturating_add(1), first };
        let text = format!("{} {}", repetition.count, repetition.first);
        let written = fs::Folder::open_or_create_with(folder, 0o700)
            .and_then(|folder| folder.replace(&format!("{key:016x}"), text.as_bytes(), 0o600));
        if let Err(err) = written {
            crate::log::debug(format_args!("counting an event in {}: {err}", folder.display()));
        }
        repetition
    }
}

fn remove_old(folder: &Path) {
    let is_old = |path: &PathBuf| {
        let modified = path.symlink_metadata().and_then(|meta| meta.modified());
        modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > KEPT))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(is_old) {
        let _ = std::fs::remove_file(path);
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("...");
    }
    message
}

#[cfg(test)]
mod tests {
    use cni_core::spec::{Error, Version};

    use super::*;

    #[test]
    fn the_event_of_an_interface_has_its_addresses() {
        let text = br#"{"ips":[{"address":"10.0.0.1/24"},{"address":"fd00::1/64"}]}"#;
        let result = AddResult::from_json(text, Version::V1_0_0).unwrap();
        let event = Event::added("net1", "ns/a", &result).unwrap();
        assert_eq!(event.message, "Add net1 [10.0.0.1/24 fd00::1/64] from ns/a");
        assert_eq!(Event::added("net1", "", &AddResult::default()), None);
    }

    #[test]
    fn the_same_failure_of_a_pod_is_counted_for_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let failed = |text: &str, uid: &str| {
            let failure = Failure::FailedAttach(Error::invalid_config(text));
            Event::failed(&failure, uid, folder.path()).repetition.unwrap()
        };
        let first = failed("a", "u");
        let second = failed("a", "u");
        assert_eq!((first.count, second.count, &first.first), (1, 2, &second.first));
        assert_eq!((failed("b", "u").count, failed("a", "v").count), (1, 1));
        let file = folder.path().join(format!("{:016x}", first.key));
        let old = SystemTime::now() - KEPT - Duration::from_secs(1);
        std::fs::File::open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(failed("a", "u").count, 1);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert!(shortened("ä".repeat(2000)).len() < 1024);
    }
}
