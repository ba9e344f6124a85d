//! The configuration of static.

use std::net::IpAddr;

use cni_core::request::Request;
use cni_core::spec::{Cidr, Code, Dns, Error, IpConfig, Result, Route};
use serde::Deserialize;

/// What static reads of a network configuration.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkConf {
    ipam: Option<IpamConf>,
    #[serde(default)]
    runtime_config: Addresses,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IpamConf {
    addresses: Vec<Address>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Address {
    address: String,
    gateway: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    cni: Addresses,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Addresses {
    ips: Vec<String>,
}

/// The configuration of an attachment.
pub(crate) struct Config {
    /// Its addresses, from the source with the highest precedence.
    pub(crate) ips: Vec<IpConfig>,
    /// Its routes.
    pub(crate) routes: Vec<Route>,
    /// Its DNS settings.
    pub(crate) dns: Dns,
}

impl Config {
    /// Reads the configuration and CNI_ARGS. `runtimeConfig.ips` has precedence over
    /// `args.cni.ips`, and that over `ipam.addresses` and CNI_ARGS, which add up.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`] or [`Code::INVALID_ENVIRONMENT`], with the wrong value.
    pub(crate) fn parse(request: &Request) -> Result<Config> {
        let conf: NetworkConf = request.parse_conf()?;
        let ipam = conf.ipam.ok_or_else(|| Error::invalid_config("the configuration has no \"ipam\""))?;
        let is_replaced = !conf.args.cni.ips.is_empty() || !conf.runtime_config.ips.is_empty();
        // As with the Go plugin, addresses that are replaced are not validated.
        let addresses = if is_replaced { &[] } else { &ipam.addresses[..] };
        let mut ips = addresses.iter().enumerate().map(configured).collect::<Result<Vec<_>>>()?;
        from_args(request, &mut ips)?;
        for (place, texts) in
            [("args.cni.ips", &conf.args.cni.ips), ("runtimeConfig.ips", &conf.runtime_config.ips)]
        {
            if !texts.is_empty() {
                let parse =
                    |text: &String| parse_cidr(place, Code::INVALID_CONFIG, text).map(|ip| (ip, None));
                ips = texts.iter().map(|text| parse(text).map(ip_config)).collect::<Result<_>>()?;
            }
        }
        let v4 = ips.iter().filter(|ip| ip.address.is_ipv4()).count();
        request.conf.cni_version.has_room_for(v4, ips.len() - v4, "addresses")?;
        Ok(Config { ips, routes: ipam.routes, dns: ipam.dns })
    }
}

fn ip_config((address, gateway): (Cidr, Option<IpAddr>)) -> IpConfig {
    IpConfig { interface: None, address, gateway }
}

fn configured((i, entry): (usize, &Address)) -> Result<IpConfig> {
    let place = format!("ipam.addresses[{i}].address");
    let address = parse_cidr(&place, Code::INVALID_CONFIG, &entry.address)?;
    let place = format!("ipam.addresses[{i}].gateway");
    let gateway = Some(entry.gateway.as_str()).filter(|text| !text.is_empty());
    let gateway = gateway.map(|text| parse_ip(&place, Code::INVALID_CONFIG, text)).transpose()?;
    Ok(ip_config((address, gateway)))
}

/// Adds the addresses of CNI_ARGS. A gateway of CNI_ARGS becomes that of each of these addresses
/// whose subnet contains it. Both are lists with commas. Gateways of the configuration are not
/// changed, as with the Go plugin.
fn from_args(request: &Request, ips: &mut Vec<IpConfig>) -> Result<()> {
    let args = &request.env.args;
    args.only(&["IP", "GATEWAY"])?;
    let list =
        |key| args.get(key).into_iter().filter(|text| !text.is_empty()).flat_map(|text| text.split(','));
    let configured = ips.len();
    for text in list("IP") {
        let address = parse_cidr("CNI_ARGS IP", Code::INVALID_ENVIRONMENT, text.trim())?;
        ips.push(ip_config((address, None)));
    }
    for text in list("GATEWAY") {
        let gateway = parse_ip("CNI_ARGS GATEWAY", Code::INVALID_ENVIRONMENT, text.trim())?;
        for ip in ips[configured..].iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(())
}

fn parse_cidr(place: &str, code: Code, text: &str) -> Result<Cidr> {
    text.parse().map_err(|err| Error::new(code, format!("{place}: {err}")))
}

fn parse_ip(place: &str, code: Code, text: &str) -> Result<IpAddr> {
    let ip: IpAddr =
        text.parse().map_err(|_| Error::new(code, format!("{place}: {text:?} is not an IP address")))?;
    Ok(ip.to_canonical())
}
