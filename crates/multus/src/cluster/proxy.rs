//! The way to an API server: directly, or through a proxy.
//!
//! Which proxy is used follows Go's rules (net/http ProxyFromEnvironment, golang.org/x/net/http/httpproxy,
//! client-go's `proxy-url`), so that a node's environment means the same to this program.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni_core::spec::Cidr;
use http::{HeaderValue, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use super::causes::causes;
use super::resolver::Resolver;

type Tcp = HttpConnector<Resolver>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Makes the connections below the server's TLS.
#[derive(Clone)]
pub(super) struct Connector {
    way: Way,
    /// The proxy's address, for messages.
    proxy: Option<String>,
}

#[derive(Clone)]
enum Way {
    Direct(Tcp),
    /// By the method CONNECT of a proxy.
    Http(Tunnel<Tcp>),
    /// The same, where the connection to the proxy is TLS.
    Https(Tunnel<HttpsConnector<Tcp>>),
    /// RFC 1928; the proxy resolves the server's name.
    Socks5(SocksV5<Tcp>),
}

impl Connector {
    /// Through `proxy`, where there is one. As in Go, an HTTPS proxy is verified by `tls`, that of the server.
    ///
    /// # Errors
    /// Credentials that no header can have.
    pub(super) fn new(tcp: Tcp, proxy: Option<Proxy>, tls: &ClientConfig) -> Result<Connector, String> {
        let Some(Proxy { kind, uri, user }) = proxy else {
            return Ok(Connector { way: Way::Direct(tcp), proxy: None });
        };
        let header = user.as_ref().map(basic_authorization).transpose()?;
        let shown = uri.authority().map(|authority| format!("{} proxy {authority}", kind.name()));
        let way = match kind {
            Kind::Http => Way::Http(with_header(Tunnel::new(uri, tcp), header)),
            Kind::Https => {
                let mut tls = tls.clone();
                tls.alpn_protocols.clear();
                let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
                Way::Https(with_header(Tunnel::new(uri, https.enable_http1().wrap_connector(tcp)), header))
            }
            Kind::Socks5 => {
                let socks = SocksV5::new(uri, tcp);
                Way::Socks5(match user {
                    Some((name, password)) => socks.with_auth(name, password),
                    None => socks,
                })
            }
        };
        Ok(Connector { way, proxy: shown })
    }
}

fn with_header<C>(tunnel: Tunnel<C>, header: Option<HeaderValue>) -> Tunnel<C> {
    match header {
        Some(header) => tunnel.with_auth(header),
        None => tunnel,
    }
}

/// RFC 7617.
fn basic_authorization((name, password): &(String, String)) -> Result<HeaderValue, String> {
    HeaderValue::try_from(format!("Basic {}", BASE64.encode(format!("{name}:{password}"))))
        .map_err(|_| "the proxy's credentials are not valid".to_owned())
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.way {
            Way::Direct(tcp) => tcp.poll_ready(context).map_err(BoxError::from),
            Way::Http(tunnel) => tunnel.poll_ready(context).map_err(BoxError::from),
            Way::Https(tunnel) => tunnel.poll_ready(context).map_err(BoxError::from),
            Way::Socks5(socks) => socks.poll_ready(context).map_err(BoxError::from),
        }
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        match &mut self.way {
            Way::Direct(tcp) => boxed(tcp.call(server), None),
            Way::Http(tunnel) => boxed(tunnel.call(server), self.proxy.clone()),
            Way::Https(tunnel) => boxed(tunnel.call(server), self.proxy.clone()),
            Way::Socks5(socks) => boxed(socks.call(server), self.proxy.clone()),
        }
    }
}

/// Names the proxy in an error.
fn boxed<S: Into<Stream>, E: std::error::Error + Send + Sync + 'static>(
    connecting: impl Future<Output = Result<S, E>> + Send + 'static,
    proxy: Option<String>,
) -> <Connector as Service<Uri>>::Future {
    Box::pin(async move {
        match (connecting.await, proxy) {
            (Ok(stream), _) => Ok(stream.into()),
            (Err(err), None) => Err(err.into()),
            (Err(err), Some(proxy)) => Err(format!("{proxy}: {}", causes(&err)).into()),
        }
    })
}

/// A proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    kind: Kind,
    /// Its address with the port, as a connector takes it, and without credentials.
    uri: Uri,
    /// Name and password.
    user: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Http,
    Https,
    Socks5,
}

impl Kind {
    fn of(scheme: &str) -> Option<Kind> {
        match scheme {
            "http" => Some(Kind::Http),
            "https" => Some(Kind::Https),
            "socks5" | "socks5h" => Some(Kind::Socks5),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Http => "HTTP",
            Kind::Https => "HTTPS",
            Kind::Socks5 => "SOCKS5",
        }
    }
}

impl Proxy {
    fn parse(url: &str) -> Option<Proxy> {
        let url: Uri = url.parse().ok()?;
        let kind = Kind::of(url.scheme_str()?)?;
        let (scheme, default_port) = match kind {
            Kind::Http => ("http", 80),
            Kind::Https => ("https", 443),
            Kind::Socks5 => ("http", 1080),
        };
        let host = url.host().filter(|host| !host.is_empty())?;
        let port = match url.authority()?.as_str().rsplit_once(host)?.1.strip_prefix(':') {
            None | Some("") => default_port,
            Some(port) => port.parse::<u16>().ok()?,
        };
        let uri = format!("{scheme}://{host}:{port}/").parse().ok()?;
        let user = url.authority()?.as_str().rsplit_once('@').map(|(user, _)| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decoded(name), decoded(password))
        });
        Some(Proxy { kind, uri, user })
    }
}

/// The text of a URL's part with `%xx` (RFC 3986, section 2.1).
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// The proxy for a server: that of the kubeconfig, or else of the environment.
///
/// # Errors
/// A proxy that is to be used and is malformed. One that is not used may be anything.
pub(super) fn proxy_for(
    server: &Uri,
    configured: Option<&str>,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    let variable = |name: &str| {
        [name.to_owned(), name.to_lowercase()].iter().find_map(|name| get(name).filter(|it| !it.is_empty()))
    };
    let wrong = |name: &str| format!("{name} is not the URL of a proxy (http, https or socks5)");
    if let Some(proxy) = configured.filter(|proxy| !proxy.is_empty()) {
        return Proxy::parse(proxy).map(Some).ok_or_else(|| wrong("proxy-url"));
    }
    let name = if server.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    match variable(name).filter(|_| !bypasses(server, &variable("NO_PROXY").unwrap_or_default())) {
        None => Ok(None),
        // Without a scheme it is an HTTP proxy.
        Some(proxy) if !proxy.contains("://") => {
            Proxy::parse(&format!("http://{proxy}")).map(Some).ok_or_else(|| wrong(name))
        }
        Some(proxy) => Proxy::parse(&proxy).map(Some).ok_or_else(|| wrong(name)),
    }
}

/// Whether a server is reached directly by `NO_PROXY`, or because it is on this host.
fn bypasses(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_lowercase();
    let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    let default_port = if server.scheme_str() == Some("http") { 80 } else { 443 };
    let port = server.port_u16().unwrap_or(default_port).to_string();
    no_proxy.split(',').map(|entry| entry.trim().to_lowercase()).any(|entry| fits(&entry, &host, ip, &port))
}

/// Whether an entry of `NO_PROXY` means a server.
fn fits(entry: &str, host: &str, ip: Option<IpAddr>, port: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Ok(range), true) = (entry.parse::<Cidr>(), entry.contains('/')) {
        return ip.is_some_and(|ip| range.contains(ip));
    }
    let (name, entry_port) = match entry.rsplit_once(':') {
        // The colons of an IPv6 address begin a port only behind its brackets.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (name.trim_matches(['[', ']']), Some(port))
        }
        _ => (entry, None),
    };
    if name.is_empty() || entry_port.is_some_and(|entry_port| !entry_port.is_empty() && entry_port != port) {
        return false;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return ip == Some(address.to_canonical());
    }
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    // With a dot in front, its subdomains only.
    let is_below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match name.strip_prefix('.') {
        Some(domain) => is_below(domain),
        None => host == name || is_below(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(server: &str, configured: Option<&str>, env: &[(&str, &str)]) -> Result<Option<String>, String> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let found = proxy_for(&server.parse().unwrap(), configured, get)?;
        Ok(found.map(|proxy| format!("{:?} {}", proxy.kind, proxy.uri)))
    }

    #[test]
    fn the_kubeconfig_comes_first_and_ignores_no_proxy() {
        let env = [("HTTPS_PROXY", "http://e:1"), ("NO_PROXY", "*")];
        assert_eq!(proxy("https://h", Some("http://k:2"), &env), Ok(Some("Http http://k:2/".into())));
        let found = proxy("https://127.0.0.1", Some("socks5://k"), &env);
        assert_eq!(found, Ok(Some("Socks5 http://k:1080/".into())));
        assert!(proxy("https://h", Some("k:2"), &[]).is_err(), "only the environment needs no scheme");
    }

    #[test]
    fn the_environment_follows_the_rules_of_go() {
        let with = |server: &str, no_proxy: &str| {
            let env = [("https_proxy", "p:3128"), ("HTTP_PROXY", "http://other"), ("no_proxy", no_proxy)];
            proxy(server, None, &env).unwrap().is_none()
        };
        for (server, no_proxy, is_direct) in [
            ("https://api.example.com:6443", "", false),
            ("https://api.example.com:6443", "*", true),
            ("https://api.example.com:6443", "example.com", true),
            ("https://api.example.com:6443", " .Example.com , x", true),
            ("https://api.example.com:6443", "*.example.com", true),
            ("https://example.com", ".example.com", false),
            ("https://notexample.com", "example.com", false),
            ("https://api.example.com:6443", "example.com:6443", true),
            ("https://api.example.com:6443", "example.com:443", false),
            ("https://api.example.com:6443", "example.com:https", false),
            ("https://api.example.com:6443", "example.com:", true),
            ("https://api.example.com:6443", ":6443,,/", false),
            ("https://api.example.com.", "example.com", false),
            ("https://10.96.0.1", "10.96.0.0/12", true),
            ("https://10.96.0.1", "10.0.0.0/16", false),
            ("https://10.96.0.1", "10.96.0.1", true),
            ("https://10.96.0.1:443", "10.96.0.1:444", false),
            ("https://[fd00::1]:6443", "fd00::/64", true),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://[fd00::1]:6443", "[fd00::1]", false),
            ("https://[::ffff:10.0.0.1]:6443", "10.0.0.1", true),
            ("https://localhost:6443", "", true),
            ("https://127.9.9.9", "", true),
            ("https://[::1]", "", true),
        ] {
            assert_eq!(with(server, no_proxy), is_direct, "{server} {no_proxy}");
        }
        assert_eq!(proxy("http://h", None, &[("HTTPS_PROXY", "p")]), Ok(None));
    }

    #[test]
    fn a_malformed_proxy_hurts_only_those_who_use_it() {
        for bad in ["http://", "ftp://p", "ht tp://p", "http://a b", "http://p:x"] {
            let env = [("HTTPS_PROXY", bad), ("NO_PROXY", "in.cluster")];
            assert!(proxy("https://out", None, &env).is_err(), "{bad}");
            assert_eq!(proxy("https://in.cluster", None, &env), Ok(None), "{bad}");
        }
    }

    #[test]
    fn schemes_have_their_ports_and_credentials_are_decoded() {
        for (text, expected) in [
            ("p", "Http http://p:80/"),
            ("https://p", "Https https://p:443/"),
            ("socks5h://[fd00::1]", "Socks5 http://[fd00::1]:1080/"),
        ] {
            assert_eq!(proxy("https://h", None, &[("HTTPS_PROXY", text)]), Ok(Some(expected.into())));
        }
        let user = |url: &str| Proxy::parse(url).unwrap().user;
        assert_eq!(user("http://u%40x:p%3a%@h"), Some(("u@x".into(), "p:%".into())));
        assert_eq!(user("http://u@h"), Some(("u".into(), String::new())));
        assert_eq!(user("http://h/a@b"), None);
    }
}
