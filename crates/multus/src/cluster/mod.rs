//! Where pods and definitions come from, and where the status goes.

mod api;
mod connection;
mod manifests;

use cni_core::spec::{Code, Error, Result};

use crate::config::MultusConf;
use crate::event::Event;
use crate::object::{Definition, Pod, Reference};
use crate::pod_args::PodArgs;

use api::Api;
use manifests::Manifests;

/// A source of pods and definitions.
pub enum Cluster {
    /// None: the configuration's own delegates are all there is.
    Absent,
    /// A folder of YAML files.
    Manifests(Manifests),
    /// An API server.
    Api(Box<Api>),
}

/// Why an object could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// It does not exist.
    NotFound,
    /// The role does not allow to look: where it allows nothing, nothing may be there.
    Forbidden(Error),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for ReadError {
    fn from(err: Error) -> ReadError {
        ReadError::Failed(err)
    }
}

impl Cluster {
    /// The source that the configuration names. Nothing is connected to yet.
    pub fn of(conf: &MultusConf) -> Cluster {
        match (&conf.manifest_dir, &conf.kubeconfig) {
            (Some(folder), _) => Cluster::Manifests(Manifests::new(folder, &conf.cni_dir)),
            (None, Some(kubeconfig)) => Cluster::Api(Box::new(Api::new(kubeconfig))),
            (None, None) => Cluster::Absent,
        }
    }

    /// Whether there is none.
    pub fn is_absent(&self) -> bool {
        matches!(self, Cluster::Absent)
    }

    /// Reads the pod.
    ///
    /// # Errors
    /// When it does not exist or can't be read.
    pub fn pod(&self, pod: &PodArgs) -> Result<Pod, ReadError> {
        match self {
            Cluster::Absent => Err(ReadError::NotFound),
            Cluster::Manifests(manifests) => manifests.pod(pod),
            Cluster::Api(api) => api.pod(pod),
        }
    }

    /// Reads definitions, all at the same time; the answers are in the order of `references`.
    pub fn definitions(&self, references: &[Reference]) -> Vec<Result<Definition, ReadError>> {
        match self {
            Cluster::Absent => references.iter().map(|_| Err(ReadError::NotFound)).collect(),
            Cluster::Manifests(manifests) => {
                references.iter().map(|reference| manifests.definition(reference)).collect()
            }
            Cluster::Api(api) => api.definitions(references),
        }
    }

    /// The error for a definition that can't be read, as people look for it.
    pub fn not_read(&self, reference: &Reference, err: ReadError) -> Error {
        let (kind, name, namespace) = (reference.kind.name(), &reference.name, &reference.namespace);
        let msg = format!("cannot find a {kind} ({name}) in namespace ({namespace})");
        match err {
            ReadError::NotFound => {
                let error = Error::invalid_config(msg);
                match self.names(reference).as_deref() {
                    None => error,
                    Some([]) => error.details("there is none in that namespace"),
                    Some(names) => error.details(format!("there are: {}", names.join(", "))),
                }
            }
            ReadError::Forbidden(err) | ReadError::Failed(err) => {
                let code = if err.code() == Code::TRY_AGAIN { err.code() } else { Code::INVALID_CONFIG };
                err.context(msg).with_code(code)
            }
        }
    }

    /// The names of the definitions beside the one that was not found, where they may be listed.
    fn names(&self, reference: &Reference) -> Option<Vec<String>> {
        match self {
            Cluster::Absent => None,
            Cluster::Manifests(manifests) => Some(manifests.names(reference)),
            Cluster::Api(api) => api.names(reference),
        }
    }

    /// Writes the status of a pod's networks, and posts events, which may fail unseen.
    ///
    /// # Errors
    /// When the status can't be written; a pod that is gone is no error.
    pub fn report(&self, pod: &Pod, status: Option<&str>, events: &[Event]) -> Result<()> {
        match (self, status) {
            (Cluster::Api(api), status) => api.report(pod, status, events),
            (Cluster::Absent, _) | (_, None) => Ok(()),
            (Cluster::Manifests(manifests), Some(status)) => manifests.write_status(pod, status),
        }
    }

    /// Removes what [`Cluster::report`] left outside of the API server.
    pub fn forget(conf: &MultusConf, pod: &PodArgs) {
        if conf.manifest_dir.is_some() {
            manifests::forget_status(&conf.cni_dir, pod);
        }
    }
}
