//! The kubelet's report of devices: the service `v1.PodResourcesLister` on a socket
//! (gRPC, k8s.io/kubelet/pkg/apis/podresources/v1).
//!
//! It takes one call without arguments, and its answer has three levels of messages: a gRPC library
//! would be larger than this.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_core::spec::{Code, Error, Result};
use http::Request;
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::Body;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::object::Pod;

/// How long the kubelet may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes; kubelet's own clients have the same limit.
const MAX_ANSWER: usize = 16 << 20;
/// A message in gRPC: not compressed (one byte), and its length (four).
const PREFIX: usize = 5;

/// The devices of a pod by resource.
///
/// # Errors
/// When the kubelet does not answer, or not with this message.
pub(super) fn look_up(pod: &Pod, socket: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let wrong = |why: String| {
        Error::new(Code::TRY_AGAIN, format!("the kubelet's socket {}: {why}", socket.display()))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|err| wrong(err.to_string()))?;
    let answer = runtime.block_on(async { timeout(LIMIT, list(socket.to_owned())).await });
    let answer =
        answer.map_err(|_| wrong(format!("no answer within {} s", LIMIT.as_secs())))?.map_err(wrong)?;
    parse(&answer, pod).ok_or_else(|| wrong("its answer is not a ListPodResourcesResponse".to_owned()))
}

/// Makes the call `List` and returns its answer.
async fn list(socket: PathBuf) -> Result<Vec<u8>, String> {
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        Box::pin(async move { UnixStream::connect(socket).await.map(TokioIo::new) })
    });
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build::<_, Body>(connector);
    let request = Request::post("http://localhost/v1.PodResourcesLister/List")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(vec![0; PREFIX]))
        .map_err(|err| err.to_string())?;
    let response = client.request(request).await.map_err(|err| err.to_string())?;
    let answer =
        Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|err| err.to_string())?;
    let status = answer.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    let answer = answer.to_bytes();
    match (status.as_ref().map(http::HeaderValue::as_bytes), answer.get(PREFIX..)) {
        (Some(b"0"), Some(message)) => Ok(message.to_vec()),
        (status, _) => Err(format!("gRPC status {:?}", status.map(String::from_utf8_lossy))),
    }
}

/// `ListPodResourcesResponse`: pods (1); of a pod its name (1), namespace (2) and containers
/// (3); of a container its devices (2); of those the resource (1) and the ids (2).
pub(super) fn parse(message: &[u8], pod: &Pod) -> Option<BTreeMap<String, Vec<String>>> {
    let text = |field: Option<&Vec<u8>>| String::from_utf8(field.cloned().unwrap_or_default()).ok();
    let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fields(message)?.remove(&1).unwrap_or_default() {
        let entry = fields(&entry)?;
        let first = |number: u64| entry.get(&number).and_then(|values| values.first());
        if text(first(1))? != pod.metadata.name || text(first(2))? != pod.metadata.namespace {
            continue;
        }
        for container in entry.get(&3).into_iter().flatten() {
            for of_resource in fields(container)?.remove(&2).unwrap_or_default() {
                let of_resource = fields(&of_resource)?;
                let resource = text(of_resource.get(&1).and_then(|values| values.first()))?;
                let ids = of_resource.get(&2).into_iter().flatten();
                let ids = ids.map(|id| text(Some(id))).collect::<Option<Vec<_>>>()?;
                devices.entry(resource).or_default().extend(ids);
            }
        }
    }
    devices.values_mut().for_each(|ids| ids.sort());
    Some(devices)
}

/// The fields of a message that have a length, by number (Protocol Buffers, "Encoding");
/// fields of other kinds are skipped. `None` when the bytes are not a message.
fn fields(mut message: &[u8]) -> Option<BTreeMap<u64, Vec<Vec<u8>>>> {
    let mut fields: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let len = match tag & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(len)?;
        message = rest;
        if tag & 7 == 2 {
            fields.entry(tag >> 3).or_default().push(value.to_vec());
        }
    }
    Some(fields)
}

/// Seven bits of a number in each byte, the lowest first; the eighth bit is set in all but the last.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use proptest::prelude::*;

    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
    }

    fn answer() -> Vec<u8> {
        let devices = |resource: &str, ids: &[&str]| {
            let ids = ids.iter().flat_map(|id| field(2, id.as_bytes()));
            // A NUMA topology and a number, which are skipped.
            let rest = [field(3, &[]), vec![0x48, 0x96, 0x01]].concat();
            [field(1, resource.as_bytes()), ids.collect(), rest].concat()
        };
        let container =
            [field(1, b"c"), field(2, &devices("r/a", &["02", "01"])), field(2, &devices("r/b", &["9"]))];
        let pod = |name: &[u8]| [field(1, name), field(2, b"ns"), field(3, &container.concat())].concat();
        [field(1, &pod(b"p")), field(1, &pod(b"other"))].concat()
    }

    fn pod() -> Pod {
        let mut pod = Pod::default();
        (pod.metadata.name, pod.metadata.namespace) = ("p".into(), "ns".into());
        pod
    }

    #[test]
    fn the_devices_of_one_pod_are_found() {
        let devices = parse(&answer(), &pod()).unwrap();
        assert_eq!(devices["r/a"], ["01", "02"]);
        assert_eq!(devices["r/b"], ["9"]);
        assert!(parse(&answer(), &Pod::default()).unwrap().is_empty());
    }

    /// A kubelet that answers one call, on a thread of its own.
    fn kubelet(socket: &Path, status: &'static str) -> std::thread::JoinHandle<()> {
        use hyper::service::service_fn;
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let (stream, _) =
                    tokio::net::UnixListener::from_std(listener).unwrap().accept().await.unwrap();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/v1.PodResourcesLister/List");
                    let message = answer();
                    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                    let body = [&[0], length.as_slice(), &message].concat();
                    let trailers = http::HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        http::HeaderValue::from_static(status),
                    )]);
                    let body = Full::new(hyper::body::Bytes::from(body));
                    let body = body.with_trailers(async move { Some(Ok(trailers)) });
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        })
    }

    #[test]
    fn the_kubelet_is_asked_over_its_socket() {
        for (status, found) in [("0", true), ("12", false)] {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("kubelet.sock");
            let kubelet = kubelet(&socket, status);
            let devices = look_up(&pod(), &socket);
            assert_eq!(devices.is_ok_and(|devices| devices["r/a"] == ["01", "02"]), found);
            kubelet.join().unwrap();
        }
    }

    #[test]
    fn a_socket_without_a_server_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("kubelet.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let error = look_up(&pod(), &socket).unwrap_err();
        assert!(error.msg().contains("kubelet.sock"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..60, byte in any::<u8>()) {
            let _ = parse(&bytes, &pod());
            let mut twisted = answer();
            twisted[at] = byte;
            let _ = parse(&twisted, &pod());
        }
    }
}
