//! The way to an API server: directly, or through a tunnel of an HTTP proxy.
//!
//! Which proxy is used follows Go's rules (net/http ProxyFromEnvironment, golang.org/x/net/http/httpproxy),
//! so that a node's environment means the same to this program.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni_core::spec::Cidr;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

/// Makes the connections below TLS.
#[derive(Clone)]
pub(super) enum Connector {
    /// To the server itself.
    Direct(HttpConnector),
    /// By the method CONNECT of a proxy.
    Proxied(Tunnel<HttpConnector>),
}

impl Connector {
    /// Through `proxy`, where there is one. Its user and password are sent to it (RFC 7617).
    ///
    /// # Errors
    /// Credentials that no header can have.
    pub(super) fn new(tcp: HttpConnector, proxy: Option<Uri>) -> Result<Connector, String> {
        let Some(proxy) = proxy else { return Ok(Connector::Direct(tcp)) };
        let authority = proxy.authority().map_or("", |authority| authority.as_str());
        let credentials = authority.rsplit_once('@').map(|(credentials, _)| decoded(credentials));
        let tunnel = Tunnel::new(proxy.clone(), tcp);
        let Some(credentials) = credentials else { return Ok(Connector::Proxied(tunnel)) };
        let header = HeaderValue::try_from(format!("Basic {}", BASE64.encode(credentials)))
            .map_err(|_| "the proxy's credentials are not valid".to_owned())?;
        Ok(Connector::Proxied(tunnel.with_auth(header)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Connector::Direct(tcp) => tcp.poll_ready(context).map_err(BoxError::from),
            Connector::Proxied(tunnel) => tunnel.poll_ready(context).map_err(BoxError::from),
        }
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        match self {
            Connector::Direct(tcp) => {
                let connecting = tcp.call(server);
                Box::pin(async move { connecting.await.map_err(BoxError::from) })
            }
            Connector::Proxied(tunnel) => {
                let connecting = tunnel.call(server);
                Box::pin(async move { connecting.await.map_err(BoxError::from) })
            }
        }
    }
}

/// The proxy for a server: that of the kubeconfig, or else of the environment.
///
/// # Errors
/// A proxy that is to be used and is malformed or not of HTTP. One that is not used may be anything.
pub(super) fn proxy_for(
    server: &Uri,
    configured: Option<&str>,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, String> {
    let variable = |name: &str| {
        [name.to_owned(), name.to_lowercase()].iter().find_map(|name| get(name).filter(|it| !it.is_empty()))
    };
    if let Some(proxy) = configured.filter(|proxy| !proxy.is_empty()) {
        return parse(proxy).map(Some).ok_or_else(|| "proxy-url is not the URL of an HTTP proxy".to_owned());
    }
    let name = if server.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    match variable(name).filter(|_| !bypasses(server, &variable("NO_PROXY").unwrap_or_default())) {
        None => Ok(None),
        Some(proxy) => {
            parse(&proxy).map(Some).ok_or_else(|| format!("{name} is not the URL of an HTTP proxy"))
        }
    }
}

/// A URL, or `host:port` of an HTTP proxy.
fn parse(proxy: &str) -> Option<Uri> {
    let with_scheme = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let uri: Uri = with_scheme.parse().ok()?;
    (uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// Whether a server is reached directly by `NO_PROXY`, or because it is on this host.
fn bypasses(server: &Uri, no_proxy: &str) -> bool {
    let host =
        server.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_lowercase();
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    let default_port = if server.scheme_str() == Some("http") { 80 } else { 443 };
    let port = server.port_u16().unwrap_or(default_port);
    no_proxy.split(',').map(|entry| entry.trim().to_lowercase()).filter(|entry| !entry.is_empty()).any(
        |entry| {
            if entry == "*" {
                return true;
            }
            if let (Ok(range), true) = (entry.parse::<Cidr>(), entry.contains('/')) {
                return ip.is_some_and(|ip| range.contains(ip));
            }
            let (name, entry_port) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                    (name, port.parse::<u16>().ok())
                }
                _ => (entry.as_str(), None),
            };
            if entry_port.is_some_and(|entry_port| entry_port != port) {
                return false;
            }
            let name = name.trim_matches(['[', ']']);
            if let Ok(address) = name.parse::<IpAddr>() {
                return ip == Some(address);
            }
            let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
            match name.strip_prefix('.') {
                // Its subdomains only.
                Some(_) => host.ends_with(name),
                None => host == name || host.ends_with(&format!(".{name}")),
            }
        },
    )
}

/// The text of a URL's part with `%xx` (RFC 3986, section 2.1).
fn decoded(part: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(server: &str, configured: Option<&str>, env: &[(&str, &str)]) -> Result<Option<String>, String> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let found = proxy_for(&server.parse().unwrap(), configured, get)?;
        Ok(found.map(|uri| uri.to_string()))
    }

    #[test]
    fn the_kubeconfig_comes_first_and_ignores_no_proxy() {
        let env = [("HTTPS_PROXY", "http://e:1"), ("NO_PROXY", "*")];
        assert_eq!(proxy("https://h", Some("http://k:2"), &env), Ok(Some("http://k:2/".into())));
        assert_eq!(proxy("https://127.0.0.1", Some("http://k:2"), &env), Ok(Some("http://k:2/".into())));
        assert!(proxy("https://h", Some("socks5://k"), &[]).is_err());
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
            ("https://10.96.0.1", "10.96.0.0/12", true),
            ("https://10.96.0.1", "10.0.0.0/16", false),
            ("https://10.96.0.1", "10.96.0.1", true),
            ("https://10.96.0.1:443", "10.96.0.1:444", false),
            ("https://[fd00::1]:6443", "fd00::/64", true),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
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
        for bad in ["http://", "socks5://p", "ht tp://p", "http://a b"] {
            let env = [("HTTPS_PROXY", bad), ("NO_PROXY", "in.cluster")];
            assert!(proxy("https://out", None, &env).is_err(), "{bad}");
            assert_eq!(proxy("https://in.cluster", None, &env), Ok(None), "{bad}");
        }
    }

    #[test]
    fn credentials_are_decoded() {
        assert_eq!(decoded("u%40x:p%3a%"), b"u@x:p:%");
    }
}
