use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::Server;
use super::answer::{self, ApiRequest};
use super::fault::{self, Fault};
use super::journal;
use super::status::Status;

/// Serves connections until the server is stopped.
pub(super) async fn run(listener: std::net::TcpListener, tls: TlsAcceptor, server: Arc<Server>) {
    let listener = TcpListener::from_std(listener).expect("a listening socket");
    loop {
        tokio::select! {
            () = server.stop.notified() => return,
            accepted = listener.accept() => {
                // The client closed the connection at once.
                let Ok((stream, _)) = accepted else { continue };
                tokio::spawn(connection(stream, tls.clone(), Arc::clone(&server)));
            }
        }
    }
}

/// One client, as the server knows it.
struct Peer {
    server: Arc<Server>,
    /// The user of its certificate.
    user: Option<String>,
    number: usize,
    /// Notified when the connection is to be cut.
    broken: Notify,
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, server: Arc<Server>) {
    // Answers are small, and a test measures.
    drop(stream.set_nodelay(true));
    // A client that does not trust the certificate ends the handshake.
    let Ok(stream) = tls.accept(stream).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let user = certificate.and_then(|certificate| server.user_of_certificate(certificate));
    let number = server.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let peer = Arc::new(Peer { server, user, number, broken: Notify::new() });
    let service = {
        let peer = Arc::clone(&peer);
        service_fn(move |request| respond(Arc::clone(&peer), request))
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    tokio::select! {
        // How a client leaves is its own affair.
        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
        () = peer.broken.notified() => {}
    }
}

async fn respond(peer: Arc<Peer>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let request = ApiRequest {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: header(CONTENT_TYPE).to_owned(),
        token: header(AUTHORIZATION).strip_prefix("Bearer ").map(str::to_owned),
        certificate: peer.user.clone(),
        body: read(body).await,
    };
    let server = &peer.server;
    let entry = server.journal.came(journal::Request {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        protocol: format!("{:?}", head.version),
        on_behalf_of: on_behalf_of(&head.headers),
        connection: peer.number,
        body: serde_json::from_slice(&request.body).unwrap_or(Value::Null),
        answered: None,
    });
    let fault = {
        let mut planned = server.faults.lock().unwrap_or_else(PoisonError::into_inner);
        fault::take(&mut planned, &request.method, &request.path)
    };
    let response = match fault {
        None => answer(server, &request),
        Some(fault) => faulty(&peer, fault, &request).await,
    };
    server.journal.answered(entry, response.status().as_u16());
    Ok(response)
}

fn on_behalf_of(headers: &HeaderMap) -> Vec<String> {
    let all = ["impersonate-user", "impersonate-group"].map(|name| headers.get_all(name));
    all.iter().flatten().map(|value| value.to_str().unwrap_or_default().to_owned()).collect()
}

async fn faulty(peer: &Peer, fault: Fault, request: &ApiRequest) -> Response<Answer> {
    let server = &peer.server;
    match fault {
        Fault::Slow(by) => {
            tokio::time::sleep(by).await;
            answer(server, request)
        }
        Fault::Silent => std::future::pending().await,
        Fault::Broken => {
            peer.broken.notify_one();
            std::future::pending().await
        }
        Fault::CutOff => {
            let whole = answer(server, request);
            let (head, body) = whole.into_parts();
            let bytes = body.bytes.unwrap_or_default();
            let half = bytes.slice(..bytes.len() / 2);
            Response::from_parts(head, Answer { bytes: Some(half), is_cut: true })
        }
        Fault::Garbage => json_response(200, &b"\x00<html>{\"not\": json"[..]),
        Fault::Busy(after) => {
            let mut response = refusal(&Status::new(429, "the server has received too many requests"));
            response.headers_mut().insert(RETRY_AFTER, after.into());
            response
        }
        Fault::Unauthorized => refusal(&Status::new(401, "Unauthorized")),
        Fault::Forbidden => refusal(&Status::new(403, "forbidden: the test says so")),
        Fault::Conflict => {
            refusal(&Status::new(409, "Operation cannot be fulfilled: the object has been modified"))
        }
        Fault::Status(code) => refusal(&Status::new(code, "the test says so")),
    }
}

fn answer(server: &Server, request: &ApiRequest) -> Response<Answer> {
    match answer::answer(server, request) {
        Ok((code, object)) => json_response(code, object.to_string()),
        Err(status) => refusal(&status),
    }
}

fn refusal(status: &Status) -> Response<Answer> {
    json_response(status.code, status.object().to_string())
}

fn json_response(code: u16, body: impl Into<Bytes>) -> Response<Answer> {
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json")
        .body(Answer { bytes: Some(body.into()), is_cut: false })
        .expect("a status and a header")
}

/// What a body holds until its end, or until the client goes.
async fn read(mut body: Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        bytes.extend(frame.into_data().unwrap_or_default());
    }
    bytes
}

/// A body that is there at once, and may break off.
struct Answer {
    bytes: Option<Bytes>,
    is_cut: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if std::mem::take(&mut self.is_cut) {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.bytes {
            Some(bytes) if !self.is_cut => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::new(),
        }
    }
}
