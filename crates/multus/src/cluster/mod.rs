//! The source of pods and definitions, which also takes the status.

mod api;
mod causes;
mod connection;
pub(crate) mod kubeconfig;
pub(crate) mod manifests;
mod proxy;
mod resolver;
mod tls;
pub(crate) mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cni_core::spec::{Code, Error, Result};

use crate::config::MultusConf;
use crate::event::Event;
use crate::object::{Definition, Pod, Reference};
use crate::pod_args::PodArgs;

use api::Api;
use manifests::Manifests;

/// A source of pods and definitions.
pub(crate) enum Cluster {
    /// No source: a pod gets the configuration's own delegates.
    Absent,
    /// A folder of YAML files.
    Manifests(Manifests),
    /// An API server.
    Api(Box<Api>),
}

/// Why an object could not be read.
#[derive(Clone, Debug)]
pub(crate) enum ReadError {
    /// It does not exist.
    NotFound,
    /// The role does not allow to read it, and it may not exist.
    Forbidden(Error),
    /// Any other failure.
    Failed(Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NotFound => f.write_str("it does not exist"),
            ReadError::Forbidden(err) | ReadError::Failed(err) => err.fmt(f),
        }
    }
}

impl From<Error> for ReadError {
    fn from(err: Error) -> ReadError {
        ReadError::Failed(err)
    }
}

impl Cluster {
    /// The source of the configuration. The first request connects to it.
    pub(crate) fn of(conf: &MultusConf) -> Cluster {
        Cluster::within(conf, None)
    }

    /// As [`Cluster::of`], where all requests together may take no longer than the limit.
    pub(crate) fn within(conf: &MultusConf, limit: Option<Duration>) -> Cluster {
        match (&conf.manifest_dir, &conf.kubeconfig) {
            (Some(folder), _) => Cluster::Manifests(Manifests::new(folder, &conf.cni_dir)),
            (None, Some(kubeconfig)) => Cluster::Api(Box::new(Api::new(kubeconfig, limit))),
            (None, None) => Cluster::Absent,
        }
    }

    /// Whether there is no source.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Cluster::Absent)
    }

    /// Reads the pod.
    ///
    /// # Errors
    /// When it does not exist or can't be read.
    pub(crate) fn pod(&self, pod: &PodArgs) -> Result<Pod, ReadError> {
        match self {
            Cluster::Absent => Err(ReadError::NotFound),
            Cluster::Manifests(manifests) => manifests.pod(pod),
            Cluster::Api(api) => api.pod(pod),
        }
    }

    /// Reads definitions, all at the same time; the answers are in the order of `references`.
    pub(crate) fn definitions(&self, references: &[Reference]) -> Vec<Result<Arc<Definition>, ReadError>> {
        match self {
            Cluster::Absent => references.iter().map(|_| Err(ReadError::NotFound)).collect(),
            Cluster::Manifests(manifests) => {
                references.iter().map(|reference| manifests.definition(reference).map(Arc::new)).collect()
            }
            Cluster::Api(api) => api.definitions(references),
        }
    }

    /// The error for a definition that can't be read. It has the text of the Go program, which people
    /// search for.
    ///
    /// It lists the other definitions of the namespace only where that is the pod's own.
    pub(crate) fn not_read(&self, reference: &Reference, err: ReadError, own_namespace: &str) -> Error {
        let (kind, name, namespace) = (reference.kind.name(), &reference.name, &reference.namespace);
        let msg = format!("cannot find a {kind} ({name}) in namespace ({namespace})");
        match err {
            ReadError::NotFound => {
                let error = Error::invalid_config(msg);
                if reference.namespace != own_namespace {
                    return error;
                }
                match self.names(reference).as_deref() {
                    None => error,
                    Some([]) => error.details("that namespace has no definition"),
                    Some(names) => error.details(format!("that namespace has: {}", names.join(", "))),
                }
            }
            ReadError::Forbidden(err) | ReadError::Failed(err) => {
                let code = if err.code() == Code::TRY_AGAIN { err.code() } else { Code::INVALID_CONFIG };
                err.context(msg).with_code(code)
            }
        }
    }

    /// The names of the other definitions of a namespace, where the role allows to list them.
    fn names(&self, reference: &Reference) -> Option<Vec<String>> {
        match self {
            Cluster::Absent => None,
            Cluster::Manifests(manifests) => Some(manifests.names(reference)),
            Cluster::Api(api) => api.names(reference),
        }
    }

    /// Writes the status of a pod's networks, and posts events; a failure to post is only logged.
    ///
    /// # Errors
    /// When the status can't be written; a missing pod is no error.
    pub(crate) fn report(&self, pod: &Pod, status: Option<&str>, events: &[Event]) -> Result<()> {
        match (self, status) {
            (Cluster::Api(api), status) => api.report(pod, status, events),
            (Cluster::Absent, _) | (_, None) => Ok(()),
            (Cluster::Manifests(manifests), Some(status)) => manifests.write_status(pod, status),
        }
    }

    /// Removes the status that [`Cluster::report`] wrote into a file.
    pub(crate) fn forget(conf: &MultusConf, pod: &PodArgs) {
        if conf.manifest_dir.is_some() {
            manifests::forget_status(&conf.cni_dir, pod);
        }
    }
}
