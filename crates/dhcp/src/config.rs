//! The keys of `ipam`.

use std::path::PathBuf;

use cni_core::request::Request;
use cni_core::spec::{Error, Result};
use serde::Deserialize;

use crate::options;
use crate::protocol::{Family, Hex, Settings};

#[derive(Deserialize)]
pub(crate) struct NetworkConf {
    ipam: Option<IpamConf>,
    #[serde(default)]
    mtu: u32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct IpamConf {
    daemon_socket_path: String,
    request: Vec<RequestedOption>,
    provide: Vec<ProvidedOption>,
    priority: u32,
    family: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestedOption {
    #[serde(default)]
    skip_default: bool,
    #[serde(default)]
    option: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProvidedOption {
    option: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    from_arg: String,
}

/// A configuration that was checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// The daemon's socket, where it is configured.
    pub(crate) socket: Option<PathBuf>,
    /// What the daemon needs to know.
    pub(crate) settings: Settings,
}

impl Config {
    /// Reads and checks all of it.
    ///
    /// # Errors
    /// Code 7, with the key and its value.
    pub(crate) fn parse(request: &Request) -> Result<Config> {
        let conf: NetworkConf = request.parse_conf()?;
        let ipam = conf.ipam.ok_or_else(|| Error::invalid_config("the configuration has no \"ipam\""))?;
        let family = match ipam.family.as_str() {
            "" | "ipv4" => Family::Ipv4,
            "ipv6" => Family::Ipv6,
            "dual" => Family::Dual,
            other => {
                let msg = format!("ipam.family: {other:?} is not one of \"ipv4\", \"ipv6\" and \"dual\"");
                return Err(Error::invalid_config(msg));
            }
        };
        let mut requested = if ipam.request.iter().any(|entry| entry.skip_default) {
            Vec::new()
        } else {
            options::REQUESTED.to_vec()
        };
        for (i, entry) in ipam.request.iter().enumerate().filter(|(_, entry)| !entry.option.is_empty()) {
            let place = format!("ipam.request[{i}].option");
            let number = options::number(&place, &entry.option)?;
            if !requested.contains(&number) {
                requested.push(number);
            }
        }
        let mut provided: Vec<(u8, Hex)> = Vec::new();
        for (i, entry) in ipam.provide.iter().enumerate() {
            let place = format!("ipam.provide[{i}]");
            let number = options::number(&format!("{place}.option"), &entry.option)?;
            let argument = Some(entry.from_arg.as_str()).filter(|key| !key.is_empty());
            let argument = argument.and_then(|key| request.env.args.get(key));
            let value = argument.unwrap_or(&entry.value);
            options::can_be_provided(&place, number, value.as_bytes())?;
            if !value.is_empty() {
                provided.retain(|(other, _)| *other != number);
                provided.push((number, Hex(value.as_bytes().to_vec())));
            }
        }
        let path = Some(ipam.daemon_socket_path).filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
            let msg = format!("ipam.daemonSocketPath: {} is not an absolute path", path.display());
            return Err(Error::invalid_config(msg));
        }
        let settings = Settings {
            request: requested,
            provide: provided,
            set_mtu: conf.mtu == 0,
            priority: ipam.priority,
            family,
        };
        Ok(Config { socket: path, settings })
    }
}
