//! Events: what `kubectl describe pod` shows a person.

use std::fmt::Write;

use cni_core::spec::AddResult;

/// Something that happened to a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Whether it is a warning.
    pub warning: bool,
    /// A word for it.
    pub reason: &'static str,
    /// A sentence for it.
    pub message: String,
}

/// The longest message that is posted, in bytes: the API server takes 1024.
const MAX_MESSAGE: usize = 1000;

impl Event {
    /// An interface was added; `None` where the plugin says of no interface.
    pub fn added(ifname: &str, network: &str, result: &AddResult) -> Option<Event> {
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
    pub fn failed(reason: &'static str, err: &cni_core::spec::Error) -> Event {
        Event { warning: true, reason, message: shortened(err.to_string()) }
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
    fn an_added_interface_tells_its_addresses() {
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
