//! An API server as the source of pods and definitions.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cni_core::spec::{Error, Result, from_json};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::cluster::ReadError;
use crate::cluster::connection::{CALL_LIMIT, Call, Connection, Patience, Refusal};
use crate::event::Event;
use crate::log;
use crate::object::{Definition, Kind, Metadata, Pod, Reference};
use crate::pod_args::PodArgs;
use crate::status::NETWORK_STATUS;
use crate::time::Timestamp;

/// How long all tries of posting an event may take.
const EVENT_LIMIT: Duration = Duration::from_secs(2);
/// How many names an error lists.
const MAX_NAMES: usize = 50;

/// An API server; the first request connects to it.
pub(crate) struct Api {
    kubeconfig: PathBuf,
    deadline: Option<Instant>,
    open: OnceCell<Open>,
}

/// The tokio runtime drives the connection only while a request is running.
struct Open {
    runtime: Runtime,
    connection: Connection,
}

impl Api {
    /// All requests together end with the limit, where there is one.
    pub(super) fn new(kubeconfig: &Path, limit: Option<Duration>) -> Api {
        let deadline = limit.map(|limit| Instant::now() + limit);
        Api { kubeconfig: kubeconfig.to_owned(), deadline, open: OnceCell::new() }
    }

    fn open(&self) -> Result<&Open> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|err| Error::io("starting the runtime of the Kubernetes client", err))?;
        let connection = runtime.block_on(Connection::open(&self.kubeconfig, self.deadline))?;
        Ok(self.open.get_or_init(|| Open { runtime, connection }))
    }

    pub(super) fn pod(&self, pod: &PodArgs) -> Result<Pod, ReadError> {
        let Open { runtime, connection } = self.open()?;
        let call = Call::get(format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name));
        let answer = runtime.block_on(connection.call(&call)).map_err(|refusal| {
            // A 404 that is not an API server's own must not make a pod look gone.
            if refusal.status == Some(StatusCode::NOT_FOUND) && refusal.reason == "NotFound" {
                ReadError::NotFound
            } else {
                ReadError::Failed(refusal.into())
            }
        })?;
        let mut read: Pod = from_json(&answer, "the pod from the API server")?;
        if read.metadata.name != pod.name {
            let msg = format!("the API server's answer is not the pod {}", pod.name);
            return Err(ReadError::Failed(Error::invalid_config(msg)));
        }
        read.metadata.namespace.clone_from(&pod.namespace);
        Ok(read)
    }

    /// Reads all definitions at the same time, each once.
    pub(super) fn definitions(&self, references: &[Reference]) -> Vec<Result<Arc<Definition>, ReadError>> {
        if references.is_empty() {
            return Vec::new();
        }
        let open = match self.open() {
            Ok(open) => open,
            Err(err) => return references.iter().map(|_| Err(ReadError::Failed(err.clone()))).collect(),
        };
        let mut unique: Vec<&Reference> = Vec::new();
        for reference in references {
            if !unique.contains(&reference) {
                unique.push(reference);
            }
        }
        let calls = unique.iter().map(|reference| Call::get(object_path(reference)));
        let answers = open.runtime.block_on(all(&open.connection, calls));
        let read: Vec<_> = unique
            .iter()
            .zip(answers)
            .map(|(reference, answer)| definition(reference, answer).map(Arc::new))
            .collect();
        let of = |reference: &Reference| {
            let position = unique.iter().position(|known| *known == reference);
            position.map_or(Err(ReadError::NotFound), |position| read[position].clone())
        };
        references.iter().map(of).collect()
    }

    /// The names of all definitions of a namespace; `None` when the role does not allow to list them.
    pub(super) fn names(&self, reference: &Reference) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<Item>,
        }
        #[derive(Deserialize)]
        struct Item {
            metadata: Metadata,
        }
        let Open { runtime, connection } = self.open().ok()?;
        let call = Call::get(format!("{}?limit={MAX_NAMES}", collection_path(reference)));
        let answer = runtime.block_on(connection.call_with(&call, Patience::new(EVENT_LIMIT))).ok()?;
        let list: List = serde_json::from_slice(&answer).ok()?;
        Some(list.items.into_iter().map(|item| item.metadata.name).collect())
    }

    /// Writes the status and posts events at the same time. An event is posted again only once the
    /// status is written, so that its retries don't delay the status.
    pub(super) fn report(&self, pod: &Pod, status: Option<&str>, events: &[Event]) -> Result<()> {
        let Open { runtime, connection } = self.open()?;
        runtime.block_on(async {
            let patience = Patience::new(EVENT_LIMIT);
            let mut posts = JoinSet::new();
            for (i, event) in events.iter().enumerate() {
                let (connection, calls) = (connection.clone(), event_calls(pod, event, i));
                posts.spawn(async move { post(&connection, calls, &patience).await });
            }
            if let Some(status) = status {
                write_status(connection, pod, status).await?;
            }
            while let Some(posted) = posts.join_next().await {
                if let Ok((Err(refusal), call)) = posted {
                    post_again(connection, &call, refusal, patience).await;
                }
            }
            Ok(())
        })
    }
}

/// Makes the first of the calls that is not refused for good; the call that may be made again is returned
/// with its refusal.
async fn post(
    connection: &Connection,
    calls: Vec<Call>,
    patience: &Patience,
) -> (Result<Vec<u8>, Refusal>, Call) {
    let mut calls = calls.into_iter();
    let mut call = calls.next().unwrap_or_else(|| Call::get(String::new()));
    loop {
        let answer = connection.try_once(&call, patience).await;
        let is_final = |refusal: &Refusal| {
            matches!(
                refusal.status,
                Some(
                    StatusCode::NOT_FOUND
                        | StatusCode::FORBIDDEN
                        | StatusCode::METHOD_NOT_ALLOWED
                        | StatusCode::UNSUPPORTED_MEDIA_TYPE
                )
            ) || (refusal.status == Some(StatusCode::CONFLICT) && refusal.reason == "AlreadyExists")
        };
        match (&answer, calls.next()) {
            (Err(refusal), Some(next)) if is_final(refusal) => call = next,
            _ => return (answer, call),
        }
    }
}

/// Posts an event that was refused once, where another try may help. A failure is only logged.
async fn post_again(connection: &Connection, call: &Call, refusal: Refusal, mut patience: Patience) {
    let posted = match patience.wait(refusal).await {
        Ok(()) => connection.call_with(call, patience).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = posted {
        log::debug(format_args!("event: {}", Error::from(refusal)));
    }
}

/// Makes calls at the same time; the answers are in the order of the calls.
async fn all(
    connection: &Connection,
    calls: impl Iterator<Item = Call>,
) -> Vec<Option<Result<Vec<u8>, Refusal>>> {
    let mut tasks = JoinSet::new();
    for (i, call) in calls.enumerate() {
        let connection = connection.clone();
        tasks.spawn(async move { (i, connection.call(&call).await) });
    }
    let mut answers = Vec::new();
    answers.resize_with(tasks.len(), || None);
    while let Some(done) = tasks.join_next().await {
        if let Ok((i, answer)) = done {
            answers[i] = Some(answer);
        }
    }
    answers
}

fn definition(
    reference: &Reference,
    answer: Option<Result<Vec<u8>, Refusal>>,
) -> Result<Definition, ReadError> {
    let answer = match answer {
        None => return Err(ReadError::Failed(Error::invalid_config("the request was not made"))),
        Some(Err(refusal)) if refusal.status == Some(StatusCode::NOT_FOUND) => {
            return Err(ReadError::NotFound);
        }
        Some(Err(refusal)) if refusal.status == Some(StatusCode::FORBIDDEN) => {
            return Err(ReadError::Forbidden(refusal.into()));
        }
        Some(Err(refusal)) => return Err(ReadError::Failed(refusal.into())),
        Some(Ok(answer)) => answer,
    };
    let mut definition: Definition = from_json(&answer, "the answer of the API server")?;
    if definition.metadata.name != reference.name {
        return Err(ReadError::Failed(Error::invalid_config(
            "the answer of the API server is another object",
        )));
    }
    definition.metadata.namespace.clone_from(&reference.namespace);
    Ok(definition)
}

/// The annotation's parser has checked the names: none has a character that is special in a path.
fn collection_path(reference: &Reference) -> String {
    let (group, plural) = match reference.kind {
        Kind::Definition => ("k8s.cni.cncf.io", "network-attachment-definitions"),
        Kind::LegacyNetwork => ("kubernetes-network.cni.cncf.io", "networks"),
    };
    format!("/apis/{group}/v1/namespaces/{}/{plural}", reference.namespace)
}

fn object_path(reference: &Reference) -> String {
    format!("{}/{}", collection_path(reference), reference.name)
}

/// Writes the status by one PATCH, or where the role allows only updates, by reading and writing the pod.
async fn write_status(connection: &Connection, pod: &Pod, status: &str) -> Result<()> {
    let Metadata { name, namespace, uid, .. } = &pod.metadata;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
    // The UID makes sure that another pod of that name is not changed.
    let patch = json!({"metadata": {"uid": uid, "annotations": {NETWORK_STATUS: status}}});
    let call = Call {
        method: Method::PATCH,
        path: path.clone(),
        body: Some(("application/merge-patch+json", patch.to_string().into_bytes())),
    };
    let refusal = match connection.call(&call).await {
        Ok(_) => return Ok(()),
        Err(refusal) => refusal,
    };
    let written = match refusal.status {
        Some(StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE) => {
            update_status(connection, pod, &path, status).await
        }
        _ => Err(refusal),
    };
    match written {
        Err(refusal) if refusal.status == Some(StatusCode::NOT_FOUND) => {
            log::verbose(format_args!(
                "the network status of {namespace}/{name} is not written: the pod is gone"
            ));
            Ok(())
        }
        Err(refusal) => Err(Error::from(refusal).context("setting the network status")),
        Ok(()) => Ok(()),
    }
}

/// Reads the pod and writes it back; both again where that may help: after a conflict the pod that was
/// read is outdated.
async fn update_status(connection: &Connection, pod: &Pod, path: &str, status: &str) -> Result<(), Refusal> {
    let mut patience = Patience::new(CALL_LIMIT);
    loop {
        match update_once(connection, pod, path, status, &patience).await {
            Ok(()) => return Ok(()),
            Err(refusal) => patience.wait(refusal).await?,
        }
    }
}

async fn update_once(
    connection: &Connection,
    pod: &Pod,
    path: &str,
    status: &str,
    patience: &Patience,
) -> Result<(), Refusal> {
    let read = Call::get(path.trim_end_matches("/status").to_owned());
    let answer = connection.try_once(&read, patience).await?;
    // Written back with all keys that were read, known or not.
    let mut object: Value = serde_json::from_slice(&answer).unwrap_or_default();
    if object["metadata"]["uid"] != pod.metadata.uid.as_str() {
        log::verbose("the network status is not written: another pod has this one's name now");
        return Ok(());
    }
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][NETWORK_STATUS] = status.into();
    let body = Some(("application/json", object.to_string().into_bytes()));
    let write = Call { method: Method::PUT, path: path.to_owned(), body };
    connection.try_once(&write, patience).await.map(|_| ())
}

/// The calls that report an event, each for the case that the one before is refused.
///
/// The first of several equal events is created with a name that its content determines. The others
/// change its count, where it still exists and the role allows that; else each is an event of its own.
fn event_calls(pod: &Pod, event: &Event, i: usize) -> Vec<Call> {
    let Metadata { name, namespace, .. } = &pod.metadata;
    let now = Timestamp::now();
    let prefix = name.get(..200).unwrap_or(name).trim_end_matches(['.', '-']);
    let unique = format!("{prefix}.{:x}", now.nanoseconds() + i as u128);
    let create = |name: &str| Call {
        method: Method::POST,
        path: format!("/api/v1/namespaces/{namespace}/events"),
        body: Some(("application/json", event_object(pod, event, name, now).to_string().into_bytes())),
    };
    let Some(repetition) = &event.repetition else {
        return vec![create(&unique)];
    };
    let shared = format!("{prefix}.{:016x}", repetition.key);
    let patch = json!({"count": repetition.count.max(2), "lastTimestamp": now.to_string()});
    let count = Call {
        method: Method::PATCH,
        path: format!("/api/v1/namespaces/{namespace}/events/{shared}"),
        body: Some(("application/merge-patch+json", patch.to_string().into_bytes())),
    };
    if repetition.count == 1 {
        vec![create(&shared), count, create(&unique)]
    } else {
        vec![count, create(&shared), create(&unique)]
    }
}

fn event_object(pod: &Pod, event: &Event, event_name: &str, now: Timestamp) -> Value {
    let Metadata { name, namespace, uid, .. } = &pod.metadata;
    let (first, count) = match &event.repetition {
        Some(repetition) => (repetition.first.clone(), repetition.count),
        None => (now.to_string(), 1),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name, "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid},
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": event.message,
        "source": {"component": "multus"},
        "reportingComponent": "multus",
        "reportingInstance": "",
        "firstTimestamp": first,
        "lastTimestamp": now.to_string(),
        "count": count,
    })
}
