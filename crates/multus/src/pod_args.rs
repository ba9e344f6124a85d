//! The pod's names in `CNI_ARGS`.

use cni_core::diagnostics;
use cni_core::spec::{CniArgs, Code, Error, Result};

use crate::annotation::check_object_name;

/// The pod of a call, as far as the runtime names it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PodArgs {
    /// `K8S_POD_NAMESPACE`.
    pub(crate) namespace: String,
    /// `K8S_POD_NAME`.
    pub(crate) name: String,
    /// `K8S_POD_UID`.
    pub(crate) uid: String,
}

impl PodArgs {
    /// Reads the arguments. They may be missing: a runtime without Kubernetes has no pods.
    ///
    /// # Errors
    /// An unknown key without `IgnoreUnknown`; a name that no pod can have.
    pub(crate) fn parse(args: &CniArgs) -> Result<PodArgs> {
        let known = [
            "K8S_POD_NAMESPACE",
            "K8S_POD_NAME",
            "K8S_POD_INFRA_CONTAINER_ID",
            "K8S_POD_UID",
            "IP",
            "MAC",
            "GATEWAY",
        ];
        args.only(&known)?;
        let get = |key: &str| args.get(key).unwrap_or_default().to_owned();
        let pod = PodArgs {
            namespace: get("K8S_POD_NAMESPACE"),
            name: get("K8S_POD_NAME"),
            uid: get("K8S_POD_UID"),
        };
        for (key, value) in [("K8S_POD_NAMESPACE", &pod.namespace), ("K8S_POD_NAME", &pod.name)] {
            if !value.is_empty() {
                check_object_name(value).map_err(|err| {
                    err.context(format_args!("CNI_ARGS: {key}")).with_code(Code::INVALID_ENVIRONMENT)
                })?;
            }
        }
        Ok(pod)
    }

    /// The error with the pod's name and the trace of the call.
    pub(crate) fn name_in(&self, err: Error) -> Error {
        let err = err.context(format_args!("Multus: [{self}]"));
        match diagnostics::trace() {
            Some(trace) => err.details(trace),
            None => err,
        }
    }

    /// Requires that there is a pod, to be read from the API server.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`], naming what is missing.
    pub(crate) fn require(&self) -> Result<()> {
        let missing: Vec<&str> = [("K8S_POD_NAMESPACE", &self.namespace), ("K8S_POD_NAME", &self.name)]
            .into_iter()
            .filter(|(_, value)| value.is_empty())
            .map(|(key, _)| key)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::INVALID_ENVIRONMENT, format!("CNI_ARGS: missing: {}", missing.join(", ")))
            .details("the pod's networks are read from the API server"))
    }
}

impl std::fmt::Display for PodArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PodArgs> {
        PodArgs::parse(&CniArgs::parse(text)?)
    }

    #[test]
    fn the_pod_is_named_by_four_arguments() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p-1.x;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u;X=1";
        let pod = parse(text).unwrap();
        assert_eq!(pod.to_string(), "ns/p-1.x/u");
        assert!(pod.require().is_ok());
        assert!(parse("").unwrap().require().unwrap_err().msg().contains("K8S_POD_NAMESPACE, K8S_POD_NAME"));
    }

    #[test]
    fn a_name_cannot_change_a_path() {
        for bad in ["K8S_POD_NAME=../x", "K8S_POD_NAMESPACE=a/b", "K8S_POD_NAME=a?b", "OTHER=1"] {
            assert_eq!(parse(bad).unwrap_err().code(), Code::INVALID_ENVIRONMENT, "{bad}");
        }
    }
}
