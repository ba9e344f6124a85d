//! The attributes of a link that tuning sets.

use cni_core::netlink::{Link, Netlink};
use cni_core::spec::{Error, Mac, Result};
use serde::{Deserialize, Serialize};

/// Attributes of a link; `None` for one that is left alone. As JSON it is the Go plugin's backup.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attributes {
    /// The MAC address.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_mac")]
    pub mac: Option<Mac>,
    /// Whether it receives all packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promisc: Option<bool>,
    /// The MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether it receives all multicast packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// The length of the transmit queue in packets.
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    pub tx_q_len: Option<u32>,
}

impl Attributes {
    /// All attributes of a link.
    pub(crate) fn of(link: &Link) -> Attributes {
        Attributes {
            mac: link.mac,
            promisc: Some(link.promiscuous),
            mtu: Some(link.mtu),
            allmulti: Some(link.all_multicast),
            tx_q_len: Some(link.tx_queue_len),
        }
    }

    /// Those of these attributes that `chosen` has, too.
    pub(crate) fn only(&self, chosen: &Attributes) -> Attributes {
        Attributes {
            mac: chosen.mac.and(self.mac),
            promisc: chosen.promisc.and(self.promisc),
            mtu: chosen.mtu.and(self.mtu),
            allmulti: chosen.allmulti.and(self.allmulti),
            tx_q_len: chosen.tx_q_len.and(self.tx_q_len),
        }
    }

    /// These attributes, and those of `others` that these lack.
    pub(crate) fn or(&self, others: &Attributes) -> Attributes {
        Attributes {
            mac: self.mac.or(others.mac),
            promisc: self.promisc.or(others.promisc),
            mtu: self.mtu.or(others.mtu),
            allmulti: self.allmulti.or(others.allmulti),
            tx_q_len: self.tx_q_len.or(others.tx_q_len),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Attributes::default()
    }

    /// Sets the attributes of a link, as many as can be.
    pub(crate) fn set(&self, netlink: &Netlink, link: &Link) -> Result<()> {
        let set = [
            self.mac.map(|mac| netlink.set_mac(link, mac)),
            self.promisc.map(|on| netlink.set_promiscuous(link, on)),
            self.mtu.map(|mtu| netlink.set_mtu(link, mtu)),
            self.allmulti.map(|on| netlink.set_all_multicast(link, on)),
            self.tx_q_len.map(|len| netlink.set_tx_queue_len(link, len)),
        ];
        Error::all(set.into_iter().flatten().filter_map(|set| set.err().map(Error::from)).collect())
    }

    /// Requires a link to have the attributes.
    pub(crate) fn check(&self, link: &Link) -> Result<()> {
        let found = Attributes::of(link).only(self);
        let text = |attributes: &Attributes| serde_json::to_string(attributes).unwrap_or_default();
        if found == *self {
            return Ok(());
        }
        Err(Error::check(format!("interface {} has {}, not {}", link.name, text(&found), text(self))))
    }
}

/// A MAC address as text; the empty text stands for no address.
mod optional_mac {
    use cni_core::spec::Mac;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &Option<Mac>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&mac.map(|mac| mac.to_string()).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Mac>, D::Error> {
        match String::deserialize(from)? {
            text if text.is_empty() => Ok(None),
            text => text.parse().map(Some).map_err(|err: String| D::Error::custom(err)),
        }
    }
}
