//! Requests to an API server: the connection, time limits and retries.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cni_core::spec::{Code, Error, Result};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{Config, KubeConfigOptions};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tower::BoxError;
use tower::util::MapErr;

use super::causes::causes;
use super::kubeconfig::{self, Current};
use super::proxy::{self, Connector};
use super::resolver::Resolver;
use super::tls;

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long one try of a request may take, its answer included.
const TRY_LIMIT: Duration = Duration::from_secs(10);
/// How long all tries of a request may take: a kubelet waits two minutes for the whole ADD.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How many times a request is tried at most.
const TRIES: u32 = 5;
/// The pause after the first try; it doubles after each try.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, also where the server demands a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes: etcd takes 1.5 MiB for an object.
const MAX_ANSWER: usize = 4 << 20;
/// The longest that all answers to one call of multus may be together, in bytes.
const MAX_ANSWERS: usize = 16 << 20;
/// The longest headers of one answer, in bytes.
const MAX_HEADERS: usize = 64 << 10;
/// The longest part of the server's message in an error, in bytes.
const MAX_MESSAGE: usize = 500;

/// A connection to an API server. Requests at the same time share it where the server
/// speaks HTTP/2.
#[derive(Clone)]
pub(super) struct Connection {
    client: kube::Client,
    /// The address of the server, for messages.
    server: String,
    /// How many bytes of answers may still come, on this connection and its clones.
    remaining: Arc<AtomicUsize>,
    /// When the last call has to be over.
    deadline: Option<Instant>,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    /// The content type and text of the body.
    pub(super) body: Option<(&'static str, Vec<u8>)>,
}

/// Why a call has no successful answer.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The status of the answer; `None` without an answer.
    pub(super) status: Option<StatusCode>,
    /// The `reason` of the API server's Status object; empty when the answer is not one.
    pub(super) reason: String,
    /// The error to report.
    error: Error,
    /// The server's Retry-After.
    retry_after: Option<Duration>,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        refusal.error
    }
}

/// The object with which an API server answers a failed request.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    reason: String,
}

impl Call {
    pub(super) fn get(path: String) -> Call {
        Call { method: Method::GET, path, body: None }
    }

    fn request(&self) -> Result<Request<Body>> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::USER_AGENT, concat!("oxcni-multus/", env!("CARGO_PKG_VERSION")));
        let body = match &self.body {
            None => Body::empty(),
            Some((kind, text)) => {
                request = request.header(http::header::CONTENT_TYPE, *kind);
                Body::from(text.clone())
            }
        };
        request.body(body).map_err(|err| Error::invalid_config(format!("request {}: {err}", self.path)))
    }
}

/// How many times and for how long a request is tried again.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    deadline: Instant,
    pause: Duration,
    tries: u32,
}

impl Patience {
    /// A limit for all tries together, including the pauses.
    pub(super) fn new(limit: Duration) -> Patience {
        Patience { deadline: Instant::now() + limit, pause: FIRST_PAUSE, tries: 1 }
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Pauses before another try, as long as the server demands or twice as long as the last time.
    ///
    /// # Errors
    /// The refusal, where another try would not help or be too late, or this was the last.
    pub(super) async fn wait(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        let wait = refusal.retry_after.unwrap_or(self.pause).min(LONGEST_PAUSE);
        if self.tries >= TRIES || wait >= self.remaining() || !refusal.is_transient() {
            return Err(refusal.after(self.tries));
        }
        crate::log::debug(format_args!("try {}: {}", self.tries, refusal.error));
        sleep(wait).await;
        self.pause *= 2;
        self.tries += 1;
        Ok(())
    }
}

impl Connection {
    /// Prepares a connection, which the first request opens. Must be called inside the tokio runtime.
    pub(super) async fn open(kubeconfig: &Path, deadline: Option<Instant>) -> Result<Connection> {
        let wrong =
            |why: String| Error::invalid_config(format!("kubeconfig {}: {why}", kubeconfig.display()));
        let Current { kubeconfig: read, proxy } = kubeconfig::read(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
            .await
            .map_err(|err| wrong(kubeconfig::without_secrets(&err)))?;
        let proxy = proxy::proxy_for(&config.cluster_url, proxy.as_deref(), |name| std::env::var(name).ok())
            .map_err(wrong)?;
        let tls = tls::config(&mut config).map_err(wrong)?;
        // The causes of these errors are left out: they may quote credentials.
        let auth = config.auth_layer().map_err(|_| wrong("credentials are not valid".to_owned()))?;
        let on_behalf = config
            .extra_headers_layer()
            .map_err(|_| wrong("\"as\" or a key that belongs to it is not valid".to_owned()))?;
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        tcp.enforce_http(false);
        // Requests are small and follow each other: Nagle's algorithm would delay each by 40 ms.
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        let connector = Connector::new(tcp, proxy, &tls).map_err(wrong)?;
        let mut https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        if let Some(name) = config.tls_server_name.clone() {
            let name = name.try_into().map_err(|_| wrong("tls-server-name is not a name".to_owned()))?;
            https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let https = https.enable_all_versions().wrap_connector(connector);
        let http = HttpClient::builder(TokioExecutor::new())
            .http1_max_buf_size(MAX_HEADERS)
            .http2_max_header_list_size(u32::try_from(MAX_HEADERS).unwrap_or(u32::MAX))
            .build::<_, Body>(https);
        // The layer with the credentials requires one type of error.
        let http = MapErr::new(http, BoxError::from);
        let namespace = config.default_namespace.clone();
        let client = ClientBuilder::new(http, namespace).with_layer(&on_behalf);
        let client = match auth {
            Some(auth) => client.with_layer(&auth).with_layer(&config.base_uri_layer()).build(),
            None => client.with_layer(&config.base_uri_layer()).build(),
        };
        // The part before an @ is a credential.
        let authority = config.cluster_url.authority().map_or("", |authority| authority.as_str());
        let server = authority.rsplit('@').next().unwrap_or_default().to_owned();
        Ok(Connection { client, server, remaining: Arc::new(AtomicUsize::new(MAX_ANSWERS)), deadline })
    }

    /// Makes a call, again where another try may help.
    pub(super) async fn call(&self, call: &Call) -> Result<Vec<u8>, Refusal> {
        let mut patience = Patience::new(CALL_LIMIT);
        patience.deadline = self.deadline.into_iter().fold(patience.deadline, Instant::min);
        self.call_with(call, patience).await
    }

    /// As [`Connection::call`], within the given limit.
    pub(super) async fn call_with(&self, call: &Call, mut patience: Patience) -> Result<Vec<u8>, Refusal> {
        let mut earlier = String::new();
        loop {
            match self.try_once(call, &patience).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => {
                    let msg = refusal.error.msg().to_owned();
                    patience.wait(refusal).await.map_err(|last| last.preceded_by(&earlier))?;
                    earlier = msg;
                }
            }
        }
    }

    /// Makes a call once.
    pub(super) async fn try_once(&self, call: &Call, patience: &Patience) -> Result<Vec<u8>, Refusal> {
        let limit = TRY_LIMIT.min(patience.remaining());
        match timeout(limit, self.exchange(call)).await {
            Ok(answered) => answered,
            Err(_) => Err(self.unanswered(call, &format!("no answer within {:.1} s", limit.as_secs_f32()))),
        }
    }

    async fn exchange(&self, call: &Call) -> Result<Vec<u8>, Refusal> {
        let request = call.request().map_err(|error| Refusal {
            status: None,
            reason: String::new(),
            error: error.with_code(Code::INVALID_CONFIG),
            retry_after: None,
        })?;
        let response = self.client.send(request).await.map_err(|err| {
            // The message of an authentication helper may contain a secret.
            let is_auth = matches!(err, kube::Error::Auth(_));
            let why = if is_auth { "the credentials could not be obtained".to_owned() } else { causes(&err) };
            let mut refusal = self.unanswered(call, &why);
            refusal.error = refusal.error.details(tls::hint(&err).unwrap_or_default());
            refusal
        })?;
        let status = response.status();
        let retry_after = response.headers().get(http::header::RETRY_AFTER).cloned();
        let answer = self.read(response.into_body()).await;
        let answer = answer.map_err(|err| self.unanswered(call, &format!("reading the answer: {err}")))?;
        if status.is_success() {
            return Ok(answer);
        }
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        Err(Refusal::answered(&self.describe(call), status, &answer, retry_after))
    }

    /// Reads an answer. The sum of all answers is bounded, too: many are read at the same time.
    async fn read(&self, body: Body) -> Result<Vec<u8>, BoxError> {
        let mut body = Limited::new(body, MAX_ANSWER);
        let mut answer = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let take = |remaining: usize| remaining.checked_sub(data.len());
            if self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return Err(format!("all answers are longer than {} MiB together", MAX_ANSWERS >> 20).into());
            }
            answer.extend_from_slice(&data);
        }
        Ok(answer)
    }

    fn describe(&self, call: &Call) -> String {
        format!("API server {}: {} {}", self.server, call.method, call.path)
    }

    fn unanswered(&self, call: &Call, why: &str) -> Refusal {
        Refusal::without_answer(&self.describe(call), why)
    }
}

impl Refusal {
    fn without_answer(operation: &str, why: &str) -> Refusal {
        Refusal {
            status: None,
            reason: String::new(),
            error: Error::new(Code::TRY_AGAIN, format!("{operation}: {why}")),
            retry_after: None,
        }
    }

    fn answered(
        operation: &str,
        status: StatusCode,
        answer: &[u8],
        retry_after: Option<Duration>,
    ) -> Refusal {
        let Status { mut message, reason } = serde_json::from_slice(answer).unwrap_or_default();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        let what = status.canonical_reason().unwrap_or_default();
        let msg = format!("{operation}: {} {what}", status.as_u16());
        let hint = match status {
            StatusCode::UNAUTHORIZED => "it does not accept the credentials of the kubeconfig",
            StatusCode::FORBIDDEN => "the role of the kubeconfig's user does not allow this",
            _ => "",
        };
        let code = if is_transient(status) { Code::TRY_AGAIN } else { Code::IO };
        let error = Error::new(code, msg).details(message).details(hint);
        Refusal { status: Some(status), reason, error, retry_after }
    }

    /// Whether another try may succeed.
    fn is_transient(&self) -> bool {
        match self.status {
            Some(status) => is_transient(status),
            None => self.error.code() == Code::TRY_AGAIN,
        }
    }

    /// The last try may have had too little time to find out what is wrong.
    fn preceded_by(mut self, earlier: &str) -> Refusal {
        if !earlier.is_empty() && self.status.is_none() && earlier != self.error.msg() {
            self.error = self.error.details(format!("the try before: {earlier}"));
        }
        self
    }

    fn after(mut self, tries: u32) -> Refusal {
        if tries > 1 {
            self.error = self.error.details(format!("tried {tries} times"));
        }
        self
    }
}

/// Whether the server is busy, fails for a moment, or another client changed the same object.
fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::CONFLICT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<Connection> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Connection::open(file.path(), None))
    }

    #[test]
    fn the_error_of_a_broken_kubeconfig_has_no_secrets() {
        for broken in [
            "users:\n- name: u\n  user:\n    token: s3cret\n   bad: indentation",
            "token: s3cret\n\"unclosed",
            "clusters: [s3cret]",
            "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'http://h'}}]\nusers: [{name: u, user: {client-certificate-data: s3cret, client-key-data: s3cret}}]",
        ] {
            let Err(error) = open(broken) else { panic!("{broken}") };
            assert!(!error.to_string().contains("s3cret"), "{error}");
            assert!(error.msg().starts_with("kubeconfig /"), "{error}");
        }
    }

    #[test]
    fn only_transient_failures_are_tried_again() {
        let refusal = |status: u16| {
            Refusal::answered("asking", StatusCode::from_u16(status).unwrap(), b"garbage", None)
        };
        for status in [409, 429, 500, 503] {
            assert!(refusal(status).is_transient(), "{status}");
        }
        for status in [400, 401, 403, 404, 422] {
            assert!(!refusal(status).is_transient(), "{status}");
        }
        assert!(Refusal::without_answer("asking", "gone").is_transient());
    }
}
