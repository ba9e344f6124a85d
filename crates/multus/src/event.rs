//! Events, which `kubectl describe pod` shows.

use std::fmt::Write;

use cni_core::spec::AddResult;

use crate::failure::Failure;

/// Something that happened to a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// Whether it is a warning.
    pub(crate) warning: bool,
    /// Its reason, one word in CamelCase.
    pub(crate) reason: &'static str,
    /// Its message.
    pub(crate) message: String,
}

/// The longest message that is posted, in bytes: the API server accepts 1024.
const MAX_MESSAGE: usize = 1000;

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
        Some(Event { warning: false, reason: "AddedInterface", message: shortened(message) })
    }

    /// The pod could not be attached.
    pub(crate) fn failed(failure: &Failure) -> Event {
        Event { warning: true, reason: failure.reason(), message: shortened(failure.error().to_string()) }
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
    use cni_core::spec::Version;

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
    fn a_long_message_is_cut_at_a_character() {
        assert!(shortened("ä".repeat(2000)).len() < 1024);
    }
}
