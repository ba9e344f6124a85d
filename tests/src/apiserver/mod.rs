//! A Kubernetes API server for tests: HTTPS, roles, objects, and faults on request.
//!
//! It serves pods, NetworkAttachmentDefinitions, the earlier `Network` objects, namespaces, service
//! accounts with their tokens, and events over HTTP/1.1 and HTTP/2, as far as multus and `kubectl get` and `kubectl patch` need
//! it. It listens on the loopback of a [`Host`] and runs on a thread of the test.
//!
//! ```no_run
//! use oxcni_tests::apiserver::{ApiServer, Fault, Proof, Role, Trust};
//! use oxcni_tests::{Host, Plugins};
//! use serde_json::json;
//!
//! let host = Host::new(Plugins::Multicall);
//! let api = ApiServer::start(&host);
//! api.create(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "default" } }));
//! let user = api.user("multus", Role::Least);
//! std::fs::write(host.path("/run/kubeconfig"), api.kubeconfig(&user, &Proof::Token, Trust::Authority)).unwrap();
//! api.fault("GET", "/pods/p", 2, Fault::Busy(1));
//! // … call multus …
//! assert_eq!(api.count("GET", "/pods/p"), 3);
//! ```

mod answer;
mod certificates;
mod cluster;
mod fault;
mod journal;
mod kinds;
mod kubeconfig;
mod patch;
mod protobuf;
mod role;
mod serve;
mod status;

pub use fault::Fault;
pub use journal::Request;
pub use kubeconfig::{Proof, Trust, User};
pub use role::Role;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::Host;
use certificates::Authority;
use cluster::Cluster;
use fault::Planned;
use journal::Journal;
use kinds::{Kind, Target};

/// What the threads of a server share.
struct Server {
    cluster: Mutex<Cluster>,
    users: Mutex<Vec<Known>>,
    issued: Mutex<Vec<Issued>>,
    faults: Mutex<Vec<Planned>>,
    journal: Journal,
    connections: AtomicUsize,
    stop: Notify,
}

/// A user, as the server recognises it.
struct Known {
    name: String,
    role: Role,
    token: String,
    certificate: Vec<u8>,
}

/// A token that was requested for a user.
struct Issued {
    user: String,
    token: String,
    until: Instant,
}

impl Server {
    fn users(&self) -> MutexGuard<'_, Vec<Known>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user_of_certificate(&self, certificate: &[u8]) -> Option<String> {
        self.users().iter().find(|user| user.certificate == certificate).map(|user| user.name.clone())
    }

    fn user_of_token(&self, token: &str) -> Option<String> {
        if let Some(user) = self.users().iter().find(|user| user.token == token) {
            return Some(user.name.clone());
        }
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let valid = issued.iter().find(|issued| issued.token == token && Instant::now() < issued.until);
        valid.map(|issued| issued.user.clone())
    }

    /// Makes a token for a user, which is valid for this long.
    fn issue(&self, user: &str, lifetime: Duration) -> String {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let token = format!("issued-token-{}-of-{user}", issued.len() + 1);
        let until = Instant::now() + lifetime;
        issued.push(Issued { user: user.to_owned(), token: token.clone(), until });
        token
    }

    fn role_of(&self, name: &str) -> Option<Role> {
        self.users().iter().find(|user| user.name == name).map(|user| user.role)
    }
}

/// An API server that runs; it stops when this is dropped.
pub struct ApiServer {
    server: Arc<Server>,
    authority: Authority,
    address: SocketAddr,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Which certificate a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// One that the authority issued.
    Issued,
    /// That of the authority.
    Authority,
}

/// Which protocols a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 where the client can, as a real API server does.
    Http2,
    /// HTTP/1.1 only.
    Http1,
}

impl ApiServer {
    /// Starts a server on the host's loopback.
    pub fn start(host: &Host) -> Self {
        Self::start_with(host, Protocols::Http2)
    }

    /// Starts a server that offers these protocols.
    pub fn start_with(host: &Host, protocols: Protocols) -> Self {
        Self::serve(listener(host), protocols)
    }

    /// Starts a server with this certificate.
    pub fn start_as(host: &Host, identity: Identity) -> Self {
        Self::serve_as(listener(host), Protocols::Http2, identity)
    }

    /// Serves on a socket that listens already.
    pub fn serve(listener: TcpListener, protocols: Protocols) -> Self {
        Self::serve_as(listener, protocols, Identity::Issued)
    }

    fn serve_as(listener: TcpListener, protocols: Protocols, identity: Identity) -> Self {
        let authority = Authority::new("cluster-ca");
        let tls = tls(&authority, protocols, identity);
        let address = listener.local_addr().expect("a bound socket");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let server = Arc::new(Server {
            cluster: Mutex::default(),
            users: Mutex::default(),
            issued: Mutex::default(),
            faults: Mutex::default(),
            journal: Journal::default(),
            connections: AtomicUsize::new(0),
            stop: Notify::new(),
        });
        let serving = serve_on_own_thread(listener, tls, Arc::clone(&server));
        Self { server, authority, address, thread: Mutex::new(Some(serving)) }
    }

    /// The address as a kubeconfig says it.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of the authority that vouches for the server, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority.pem
    }

    /// What a proxy of the same authority accepts TLS with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        tls(&self.authority, Protocols::Http1, Identity::Issued)
    }

    /// The port on the host's loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lets someone log in, with a token and a certificate of its own.
    pub fn user(&self, name: &str, role: Role) -> User {
        let certificate = self.authority.client(name);
        let token = format!("secret-token-of-{name}");
        self.server.users().push(Known {
            name: name.to_owned(),
            role,
            token: token.clone(),
            certificate: certificate.der.clone(),
        });
        User { name: name.to_owned(), token, certificate }
    }

    /// The text of a kubeconfig for a user of this server.
    pub fn kubeconfig(&self, user: &User, proof: &Proof, trust: Trust) -> String {
        let pem = match trust {
            Trust::AnotherAuthority => Authority::new("another-ca").pem,
            _ => self.authority.pem.clone(),
        };
        kubeconfig::render(&self.url(), &pem, trust, user, proof)
    }

    /// Puts an object into the cluster, past all roles; panics where it can't be.
    pub fn create(&self, object: Value) -> Value {
        let kind = Kind::of(&object).unwrap_or_else(|| panic!("no kind that the server keeps: {object}"));
        let default = if object["metadata"]["namespace"].is_null() { "default" } else { "" };
        self.cluster()
            .create(kind, default, object)
            .unwrap_or_else(|refused| panic!("can't create it: {}", refused.message))
    }

    /// The object at a path such as `/api/v1/namespaces/default/pods/p`; `null` when it does not exist.
    pub fn object(&self, path: &str) -> Value {
        let (target, name) = named(path);
        self.cluster().get(&target, &name).unwrap_or(Value::Null)
    }

    /// Takes the object at a path out of the cluster, past all roles.
    pub fn delete(&self, path: &str) {
        let (target, name) = named(path);
        if let Err(refused) = self.cluster().delete(&target, &name) {
            panic!("can't delete it: {}", refused.message);
        }
    }

    /// All objects of the list at a path such as `/api/v1/events`.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let target = Target::parse(path).unwrap_or_else(|| panic!("no list has the path {path}"));
        self.cluster().list(&target)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Makes the next `times` requests of this method (any where it is empty) whose path contains
    /// `path` meet a fault. Of several that fit, the one planned first comes first.
    pub fn fault(&self, method: &str, path: &str, times: usize, fault: Fault) {
        self.faults().push(Planned { method: method.to_owned(), path: path.to_owned(), times, fault });
    }

    /// Forgets all faults that are still to come.
    pub fn heal(&self) {
        self.faults().clear();
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.server.journal.all()
    }

    /// How many requests of this method (any where it is empty) had `path` in their path.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.requests().iter().filter(|request| fits(request, method, path)).count()
    }

    /// Waits until so many such requests have come; panics where they do not.
    pub fn wait_for(&self, times: usize, method: &str, path: &str) {
        let came = self.server.journal.wait(times, |request| fits(request, method, path));
        assert!(came, "{times} {method} {path} never came: {:#?}", self.requests());
    }

    /// Forgets all requests so far; no request may be under way.
    pub fn forget_requests(&self) {
        self.server.journal.forget();
    }

    /// How many connections have been made so far.
    pub fn connections(&self) -> usize {
        self.server.connections.load(Ordering::Relaxed)
    }

    /// Stops the server: its port is closed, and all connections are.
    pub fn stop(&self) {
        self.server.stop.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there was printed there.
            drop(thread.join());
        }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.server.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.server.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A socket stays in the namespace that it was made in, whatever thread uses it.
fn listener(host: &Host) -> TcpListener {
    host.enter(|| TcpListener::bind("127.0.0.1:0")).expect("a port on the host's loopback")
}

fn fits(request: &Request, method: &str, path: &str) -> bool {
    (method.is_empty() || request.method == method) && request.path.contains(path)
}

fn named(path: &str) -> (Target, String) {
    match Target::parse(path) {
        Some(Target { name: Some(name), kind, namespace, .. }) => {
            (Target { kind, namespace, name: None, subresource: None }, name)
        }
        _ => panic!("no object has the path {path}"),
    }
}

fn serve_on_own_thread(listener: TcpListener, tls: TlsAcceptor, server: Arc<Server>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(serve::run(listener, tls, server));
    })
}

/// Certificates of clients are welcome and not demanded: a token will do.
fn tls(authority: &Authority, protocols: Protocols, identity: Identity) -> TlsAcceptor {
    let provider = Arc::new(crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der.clone())).expect("the authority's certificate");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .expect("a verifier of client certificates");
    let own = match identity {
        Identity::Issued => authority.server(),
        Identity::Authority => authority.itself(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider's protocol versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![CertificateDer::from(own.der)], PrivatePkcs8KeyDer::from(own.key_der).into())
        .expect("the server's certificate");
    config.alpn_protocols = match protocols {
        Protocols::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Protocols::Http1 => vec![b"http/1.1".to_vec()],
    };
    TlsAcceptor::from(Arc::new(config))
}
