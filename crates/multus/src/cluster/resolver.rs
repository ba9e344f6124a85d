//! Addresses of host names, without the C library.
//!
//! In a static program, getaddrinfo(3) loads the modules of the host's nsswitch.conf(5), which may be
//! missing or of another version than the program. Here it is as in Go's own resolver: hosts(5) first,
//! then the servers of resolv.conf(5).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cni_core::fs;
use domain::base::iana::{Rcode, Rtype};
use domain::base::message::Message;
use domain::base::name::Name;
use domain::rdata::{A, Aaaa};
use domain::resolv::StubResolver;
use domain::resolv::stub::conf::{ResolvConf, ServerConf, Transport};
use hyper_util::client::legacy::connect::dns;
use tokio::time::timeout;
use tower::{BoxError, Service};

use super::causes::causes;

/// How long the lookup of a name may take.
const LIMIT: Duration = Duration::from_secs(9);
/// How long one server may take for one name, at most.
const SERVER_LIMIT: Duration = Duration::from_secs(3);
/// How many servers are asked; glibc has the same limit.
const MAX_SERVERS: usize = 3;
/// The longest file that is read, in bytes.
const MAX_FILE: usize = 4 << 20;

/// Looks up the names of API servers and proxies.
#[derive(Clone)]
pub(super) struct Resolver;

impl Service<dns::Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(async move {
            let addresses = look_up(name.as_str()).await?;
            let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

async fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    let host = name.trim_end_matches('.');
    let listed = in_hosts(&text_of("/etc/hosts"), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    if host.eq_ignore_ascii_case("localhost") {
        // RFC 6761, section 6.3: no server is asked.
        return Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
    }
    let conf = Conf::parse(&text_of("/etc/resolv.conf"));
    match timeout(LIMIT, ask_all(&conf, name)).await {
        Ok(found) => found,
        Err(_) => Err(format!("{name}: no DNS server answered within {} s", LIMIT.as_secs())),
    }
}

/// The text of a file; of a missing one, nothing.
fn text_of(path: &str) -> String {
    let bytes = fs::read_bounded(Path::new(path), MAX_FILE).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The addresses of a name in the text of hosts(5).
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host)).then_some(address)
    };
    text.lines().filter_map(address).collect()
}

/// The keys of resolv.conf(5) that are used. All others are ignored, as is what can't be read.
#[derive(Debug, PartialEq)]
struct Conf {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
    limit: Duration,
    attempts: u32,
    only_tcp: bool,
}

impl Conf {
    fn parse(text: &str) -> Conf {
        let mut conf = Conf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            limit: SERVER_LIMIT,
            attempts: 2,
            only_tcp: false,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    conf.servers.extend(words.next().and_then(|ip| ip.parse::<IpAddr>().ok()))
                }
                Some("domain" | "search") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| conf.set(option)),
                _ => {}
            }
        }
        conf.servers.truncate(MAX_SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push(IpAddr::from([127, 0, 0, 1]));
        }
        conf
    }

    fn set(&mut self, option: &str) {
        let (key, number) = option.split_once(':').unwrap_or((option, ""));
        match (key, number.parse::<u32>()) {
            ("ndots", Ok(ndots)) => self.ndots = ndots.min(15) as usize,
            ("timeout", Ok(seconds)) => {
                self.limit = Duration::from_secs(seconds.max(1).into()).min(SERVER_LIMIT);
            }
            ("attempts", Ok(attempts)) => self.attempts = attempts.clamp(1, 5),
            ("use-vc" | "usevc" | "tcp", Err(_)) => self.only_tcp = true,
            _ => {}
        }
    }

    /// The names that are asked for, in order.
    fn names(&self, name: &str) -> Vec<String> {
        let absolute = name.trim_end_matches('.').to_owned();
        if name.ends_with('.') {
            return vec![absolute];
        }
        let suffixes = self.search.iter().map(|suffix| suffix.trim_end_matches('.'));
        let mut names: Vec<String> = suffixes
            .filter(|suffix| !suffix.is_empty())
            .map(|suffix| format!("{absolute}.{suffix}"))
            .collect();
        let at = if absolute.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(at, absolute);
        names
    }

    /// One resolver for each server, because a server that fails must not keep the next from being asked.
    fn resolvers(&self) -> Vec<(IpAddr, StubResolver)> {
        let resolver = |ip: &IpAddr| {
            let transport = if self.only_tcp { Transport::Tcp } else { Transport::UdpTcp };
            let mut conf = ResolvConf::new();
            conf.servers.push(ServerConf::new(SocketAddr::new(*ip, 53), transport));
            conf.options.timeout = self.limit;
            conf.finalize();
            (*ip, StubResolver::from_conf(conf))
        };
        self.servers.iter().map(resolver).collect()
    }
}

/// Asks each server for each name until one has addresses.
async fn ask_all(conf: &Conf, name: &str) -> Result<Vec<IpAddr>, String> {
    let resolvers = conf.resolvers();
    let mut failed = None;
    for candidate in conf.names(name) {
        match ask_servers(conf, &resolvers, &candidate).await {
            Ok(addresses) if addresses.is_empty() => {}
            Ok(addresses) => return Ok(addresses),
            Err(why) => failed = Some(why),
        }
    }
    Err(format!("{name}: {}", failed.unwrap_or_else(|| "no such host".to_owned())))
}

/// The addresses of one name; none where a server says that it does not exist.
async fn ask_servers(
    conf: &Conf,
    resolvers: &[(IpAddr, StubResolver)],
    name: &str,
) -> Result<Vec<IpAddr>, String> {
    let name: Name<Vec<u8>> = name.parse().map_err(|_| format!("{name} is not a host name"))?;
    let mut failed = String::new();
    for _ in 0..conf.attempts {
        for (ip, resolver) in resolvers {
            match ask(resolver, &name).await {
                Ok(addresses) => return Ok(addresses),
                Err(why) => failed = format!("DNS server {ip}: {why}"),
            }
        }
    }
    Err(failed)
}

/// The addresses of both families that one server knows.
async fn ask(resolver: &StubResolver, name: &Name<Vec<u8>>) -> Result<Vec<IpAddr>, String> {
    let (v4, v6) = tokio::join!(resolver.query((name, Rtype::A)), resolver.query((name, Rtype::AAAA)));
    let mut addresses = Vec::new();
    let mut failed = None;
    for answer in [v4, v6] {
        match answer {
            Err(err) => failed = Some(causes(&err)),
            Ok(answer) => match answer.header().rcode() {
                Rcode::NOERROR | Rcode::NXDOMAIN => addresses.extend(addresses_in(&answer)),
                other => failed = Some(format!("it answered {other}")),
            },
        }
    }
    match failed {
        Some(why) if addresses.is_empty() => Err(why),
        _ => Ok(addresses),
    }
}

/// The addresses of the name that an answer is about, behind its aliases.
fn addresses_in(answer: &Message<Bytes>) -> Vec<IpAddr> {
    let (Some(name), Ok(records)) = (answer.canonical_name(), answer.answer()) else {
        return Vec::new();
    };
    let v4 = records.limit_to::<A>().flatten().filter(|record| *record.owner() == name);
    let v6 = records.limit_to::<Aaaa>().flatten().filter(|record| *record.owner() == name);
    let v4 = v4.map(|record| IpAddr::from(record.data().addr()));
    v4.chain(v6.map(|record| IpAddr::from(record.data().addr()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_by_each_of_their_names() {
        let text = "# comment\n127.0.0.1 localhost # api\n10.0.0.1\tnode API.example. alias\nbad api\nfd00::1 api.example\n";
        let ips = |host| in_hosts(text, host).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(ips("api.example"), ["10.0.0.1", "fd00::1"]);
        assert_eq!(ips("alias"), ["10.0.0.1"]);
        assert!(ips("api").is_empty() && ips("10.0.0.1").is_empty());
    }

    #[test]
    fn what_resolv_conf_has_beyond_the_usual_is_ignored() {
        let text = "# c\n; c\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\nnameserver fd00::53 # x\nsearch a.example b.example.\n\
                    sortlist 1.2.3.4\noptions edns0 trust-ad ndots:2 timeout:1 attempts:9 use-vc\nlookup file bind\n";
        let conf = Conf::parse(text);
        assert_eq!(conf.servers, ["10.0.0.53".parse::<IpAddr>().unwrap(), "fd00::53".parse().unwrap()]);
        assert_eq!(
            (conf.ndots, conf.limit, conf.attempts, conf.only_tcp),
            (2, Duration::from_secs(1), 5, true)
        );
        assert_eq!(conf.names("api"), ["api.a.example", "api.b.example", "api"]);
        assert_eq!(conf.names("api.c.d"), ["api.c.d", "api.c.d.a.example", "api.c.d.b.example"]);
        assert_eq!(conf.names("api."), ["api"]);
        assert_eq!(Conf::parse("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }
}
