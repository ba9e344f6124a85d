//! The configuration of host-local.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use cni_core::request::Request;
use cni_core::spec::{Code, Error, Result, Route, Version};
use serde::Deserialize;

use crate::range::{RangeConf, RangeSet, refuse_overlaps};
use crate::store::Reclaim;

/// The default of the Go plugin, too.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// How many ranges a configuration may have: an ADD makes a file for each range set.
const MAX_RANGES: usize = 1024;

/// What host-local reads of a network configuration.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkConf {
    ipam: Option<IpamConf>,
    #[serde(default)]
    runtime_config: RuntimeConf,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct IpamConf {
    // The older form: one range.
    subnet: Option<String>,
    range_start: Option<String>,
    range_end: Option<String>,
    gateway: Option<String>,

    ranges: Vec<Vec<RangeConf>>,
    routes: Vec<Route>,
    resolv_conf: String,
    data_dir: String,
    reclaim_after_reboot: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConf {
    ip_ranges: Vec<Vec<RangeConf>>,
    ips: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CniArgs {
    ips: Vec<String>,
}

/// A range set, and the requested address of it.
pub(crate) struct Wanted {
    pub(crate) set: RangeSet,
    pub(crate) requested: Option<IpAddr>,
}

/// The configuration of an ADD.
pub(crate) struct Config {
    /// The folder of the network's reservations.
    pub(crate) folder: PathBuf,
    /// An attachment gets one address of each.
    pub(crate) sets: Vec<RangeSet>,
    /// The requested addresses.
    requested: Vec<IpAddr>,
    /// Routes for the result.
    pub(crate) routes: Vec<Route>,
    /// The file from which `dns` of the result is read.
    pub(crate) resolv_conf: Option<PathBuf>,
    /// Whether reservations of earlier boots are reclaimed.
    pub(crate) reclaim: Reclaim,
}

impl Config {
    /// Reads the configuration and CNI_ARGS.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`] or [`Code::INVALID_ENVIRONMENT`], with the wrong value.
    pub(crate) fn parse(request: &Request) -> Result<Config> {
        let conf: NetworkConf = request.parse_conf()?;
        let ipam = conf.ipam.ok_or_else(|| Error::invalid_config("the configuration has no \"ipam\""))?;
        let requested = requested(request, &conf.args.cni.ips, &conf.runtime_config.ips)?;
        let flat = RangeConf {
            subnet: ipam.subnet,
            range_start: ipam.range_start,
            range_end: ipam.range_end,
            gateway: ipam.gateway,
        };
        let mut sets = conf.runtime_config.ip_ranges;
        sets.extend(flat.subnet.is_some().then(|| vec![flat]));
        sets.extend(ipam.ranges);
        let sets = range_sets(&sets, request.conf.cni_version)?;
        Ok(Config {
            folder: network_folder(request, &ipam.data_dir),
            sets,
            requested,
            routes: ipam.routes,
            resolv_conf: Some(PathBuf::from(ipam.resolv_conf)).filter(|path| !path.as_os_str().is_empty()),
            reclaim: match ipam.reclaim_after_reboot {
                Some(false) => Reclaim::Nothing,
                Some(true) | None => Reclaim::EarlierBoots,
            },
        })
    }

    /// Requires at least one range. STATUS does not: a runtime may give ranges at ADD only.
    pub(crate) fn require_ranges(self) -> Result<Config> {
        if self.sets.is_empty() {
            return Err(Error::invalid_config("no IP ranges are configured")
                .details("\"ipam\" needs \"ranges\": [[{\"subnet\": \"10.1.0.0/16\"}]], or \"subnet\""));
        }
        Ok(self)
    }

    /// The range sets with the requested addresses.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`] for a requested address that no range has.
    pub(crate) fn wanted(&self) -> Result<Vec<Wanted>> {
        assign(self.sets.clone(), &self.requested)
    }
}

/// What GC reads: the folder, and whether to reclaim reservations of earlier boots.
///
/// # Errors
/// Those of [`folder`].
pub(crate) fn folder_and_reclaim(request: &Request) -> Result<(PathBuf, Reclaim)> {
    #[derive(Deserialize)]
    struct NetworkConf {
        #[serde(default)]
        ipam: Ipam,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Ipam {
        reclaim_after_reboot: Option<bool>,
    }
    let folder = folder(request)?;
    // A value that is not valid reclaims nothing.
    let reclaim = match request.parse_conf::<NetworkConf>().map(|conf| conf.ipam.reclaim_after_reboot) {
        Ok(Some(true) | None) => Reclaim::EarlierBoots,
        Ok(Some(false)) | Err(_) => Reclaim::Nothing,
    };
    Ok((folder, reclaim))
}

/// The folder of the network's reservations. Other keys of `ipam` are not read: a DEL has to find
/// what an ADD reserved before the configuration became invalid.
///
/// # Errors
/// [`Code::INVALID_CONFIG`] when `dataDir` is not a string: the reservations can't be found.
pub(crate) fn folder(request: &Request) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct NetworkConf {
        #[serde(default)]
        ipam: Ipam,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Ipam {
        data_dir: String,
    }
    let conf: NetworkConf = request.parse_conf()?;
    Ok(network_folder(request, &conf.ipam.data_dir))
}

fn network_folder(request: &Request, data_dir: &str) -> PathBuf {
    let data_dir = if data_dir.is_empty() { DATA_DIR } else { data_dir };
    cleaned(Path::new(data_dir)).join(request.conf.name.as_str())
}

/// The path without `.` and `..`, by its text. As with the Go plugin, `a/..` is nothing, also
/// where `a` is a symbolic link.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match cleaned.components().next_back() {
                Some(Component::Normal(_)) => drop(cleaned.pop()),
                Some(Component::RootDir) => {}
                _ => cleaned.push(component),
            },
            _ => cleaned.push(component),
        }
    }
    cleaned
}

fn range_sets(confs: &[Vec<RangeConf>], version: Version) -> Result<Vec<RangeSet>> {
    let count: usize = confs.iter().map(|set| set.len().max(1)).sum();
    if count > MAX_RANGES {
        return Err(Error::invalid_config(format!(
            "{count} ranges are configured, at most {MAX_RANGES} can be"
        )));
    }
    let parse = |(i, set): (usize, &Vec<RangeConf>)| {
        RangeSet::parse(set).map_err(|err| err.context(format_args!("range set {i}")))
    };
    let sets = confs.iter().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
    refuse_overlaps(sets.iter().flat_map(RangeSet::ranges), "range sets")?;
    let v4 = sets.iter().filter(|set| set.is_ipv4()).count();
    version.has_room_for(v4, sets.len() - v4, "range sets")?;
    Ok(sets)
}

/// The requested addresses from all three places, in this order.
fn requested(request: &Request, args: &[String], runtime: &[String]) -> Result<Vec<IpAddr>> {
    request.env.args.only(&["IP"])?;
    let from_env = request.env.args.get("IP").filter(|ip| !ip.is_empty());
    let sources = [
        ("CNI_ARGS IP", Code::INVALID_ENVIRONMENT, from_env.map(str::to_owned).into_iter().collect()),
        ("args.cni.ips", Code::INVALID_CONFIG, args.to_vec()),
        ("runtimeConfig.ips", Code::INVALID_CONFIG, runtime.to_vec()),
    ];
    let mut requested = Vec::new();
    for (place, code, texts) in sources {
        for text in texts {
            let ip = parse_requested(&text)
                .ok_or_else(|| Error::new(code, format!("{place}: {text:?} is not an IP address")))?;
            requested.push(ip);
        }
    }
    Ok(requested)
}

/// An address. A prefix length is ignored: that of the subnet counts.
fn parse_requested(text: &str) -> Option<IpAddr> {
    match text.split_once('/') {
        Some(_) => text.parse::<cni_core::spec::Cidr>().ok().map(|cidr| cidr.ip()),
        None => text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()),
    }
}

/// Assigns each requested address to its range set, which takes one at most.
fn assign(sets: Vec<RangeSet>, requested: &[IpAddr]) -> Result<Vec<Wanted>> {
    let mut wanted: Vec<_> = sets.into_iter().map(|set| Wanted { set, requested: None }).collect();
    for ip in requested {
        let found = wanted.iter_mut().find_map(|wanted| {
            let gateway = wanted.set.range_of(*ip)?.gateway;
            Some((gateway, wanted))
        });
        let Some((gateway, wanted)) = found else {
            return Err(outside(&wanted, *ip));
        };
        if gateway == *ip {
            return Err(Error::invalid_config(format!(
                "requested address {ip} is the gateway of its subnet"
            )));
        }
        match wanted.requested {
            Some(other) if other != *ip => {
                return Err(Error::invalid_config(format!(
                    "requested addresses {other} and {ip} are both of range set {}",
                    wanted.set
                ))
                .details("an attachment gets one address of each range set"));
            }
            _ => wanted.requested = Some(*ip),
        }
    }
    Ok(wanted)
}

fn outside(wanted: &[Wanted], ip: IpAddr) -> Error {
    let sets: Vec<String> = wanted.iter().take(8).map(|wanted| wanted.set.to_string()).collect();
    let family = if wanted.iter().any(|wanted| wanted.set.is_ipv4() == ip.is_ipv4()) {
        String::new()
    } else {
        format!("; there is no {} range at all", if ip.is_ipv4() { "IPv4" } else { "IPv6" })
    };
    Error::invalid_config(format!("requested address {ip} is outside every range"))
        .details(format!("the ranges are {}{family}", sets.join("; ")))
}
