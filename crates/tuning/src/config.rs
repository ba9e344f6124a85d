//! The configuration, and what overrules it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use cni_core::interface::MacSource::{Args, Config};
use cni_core::interface::requested_mac;
use cni_core::request::Request;
use cni_core::spec::{Error, Result};
use cni_core::sysctl::Sysctl;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::attributes::Attributes;

const DEFAULT_DATA_DIR: &str = "/run/cni/tuning";

/// The most sysctls that one configuration may set.
const MAX_SYSCTLS: usize = 1000;

/// The plugin's own keys as they are written; README.md of this crate explains each.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Keys {
    data_dir: String,
    sysctl: Sysctls,
    mac: String,
    promisc: bool,
    mtu: u32,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_q_len: Option<i64>,
    runtime_config: MacKey,
    args: ConfArgs,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct MacKey {
    mac: String,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct ConfArgs {
    cni: CniKeys,
}

/// `args.cni`: each key that is there overrules the configuration's.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CniKeys {
    sysctl: Sysctls,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_q_len: Option<i64>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataDirKey {
    #[serde(default)]
    data_dir: String,
}

/// Sysctls by key. A key that stands twice is refused: which one counts would be a guess.
#[derive(Debug, Default)]
struct Sysctls(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Sysctls {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Sysctls, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Sysctls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of sysctls and their values")
            }

            fn visit_unit<E>(self) -> std::result::Result<Sysctls, E> {
                Ok(Sysctls::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> std::result::Result<Sysctls, A::Error> {
                let mut sysctls = BTreeMap::new();
                while let Some((key, value)) = pairs.next_entry::<String, String>()? {
                    if sysctls.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("sysctl {key:?} is given twice")));
                    }
                }
                Ok(Sysctls(sysctls))
            }
        }

        from.deserialize_any(Pairs)
    }
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct TuningConf {
    /// The folder of the backups.
    pub data_dir: PathBuf,
    /// Sysctls by key as it is written, with the value to set.
    pub sysctls: BTreeMap<String, String>,
    /// The attributes to set.
    pub attributes: Attributes,
}

impl TuningConf {
    pub(crate) fn parse(request: &Request) -> Result<TuningConf> {
        let args = &request.env.args;
        args.only(&["MAC"])?;
        let keys: Keys = request.parse_conf()?;
        let CniKeys { sysctl, mac, promisc, mtu, allmulti, tx_q_len } = keys.args.cni;
        let mut sysctls = keys.sysctl.0;
        sysctls.extend(sysctl.0);
        if sysctls.len() > MAX_SYSCTLS {
            return Err(Error::invalid_config(format!("{} sysctls are too many", sysctls.len()))
                .details(format!("at most {MAX_SYSCTLS} can be set")));
        }
        for key in sysctls.keys() {
            key.parse::<Sysctl>()?;
        }
        let runtime_mac = &keys.runtime_config.mac;
        // An empty text in args.cni takes back what the others request.
        let mac = match mac {
            Some(mac) => requested_mac(&[Config(&mac)])?,
            None => requested_mac(&[Config(&keys.mac), Args(args), Config(runtime_mac)])?,
        };
        let mtu = mtu.unwrap_or(keys.mtu);
        let attributes = Attributes {
            mac,
            promisc: Some(true).filter(|_| promisc.unwrap_or(keys.promisc)),
            mtu: (mtu != 0).then_some(mtu),
            allmulti: allmulti.or(keys.allmulti),
            tx_q_len: tx_q_len.or(keys.tx_q_len).map(queue_len),
        };
        Ok(TuningConf { data_dir: folder(keys.data_dir), sysctls, attributes })
    }
}

/// A queue length as the kernel has it, in 32 bits. The Go plugin passes these of any integer, so that -1
/// means the longest queue.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // that is what the Go plugin does
fn queue_len(len: i64) -> u32 {
    len as u32
}

/// The folder of the backups, for DEL and GC: also when another key has become invalid.
pub(crate) fn data_dir(request: &Request) -> PathBuf {
    folder(request.parse_conf().map(|key: DataDirKey| key.data_dir).unwrap_or_default())
}

fn folder(text: String) -> PathBuf {
    if text.is_empty() { DEFAULT_DATA_DIR.into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_length_has_32_bits_of_any_integer() {
        for (len, expected) in [(0, 0), (500, 500), (-1, u32::MAX), (1 << 32, 0)] {
            assert_eq!(queue_len(len), expected);
        }
    }

    #[test]
    fn a_sysctl_that_stands_twice_is_refused() {
        let keys = |text: &str| serde_json::from_str::<Keys>(text);
        assert_eq!(keys(r#"{"sysctl":{"a":"1","b":"2"}}"#).unwrap().sysctl.0.len(), 2);
        assert_eq!(keys(r#"{"sysctl":null}"#).unwrap().sysctl.0.len(), 0);
        let error = keys(r#"{"sysctl":{"a":"1","a":"1"}}"#).unwrap_err().to_string();
        assert!(error.contains("\"a\""), "{error}");
    }
}
