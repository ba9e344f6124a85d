//! The keys as data.

use cni_core::keys::Key;
use cni_core::keys::Value::{Any, Bool, Integer, List, Object, Text};

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    Key::new("capabilities", Any, "{}", "passed on to delegates with the capability"),
    Key::new(
        "namespaceIsolation",
        Bool,
        "false",
        "a pod may name definitions of its own namespace and of globalNamespaces only",
    ),
    Key::new(
        "globalNamespaces",
        Text,
        "default",
        "namespaces whose definitions all pods may name, separated by commas",
    ),
    Key::new("logToStderr", Bool, "true", "log lines go to standard error"),
    Key::new("logLevel", Text, "", "debug, verbose, error or panic"),
    Key::new("logFile", Text, "", "where log lines go"),
    Key::new("binDir", Text, "/opt/cni/bin", "searched for plugins before CNI_PATH"),
    Key::new("readinessindicatorfile", Text, "", "ADD waits up to 45 seconds until it exists"),
    Key::new(
        "kubeconfig",
        Text,
        "",
        "how to reach the API server; without it annotations of pods are not read",
    ),
    Key::new("delegates", List(&Any), "[]", "the default network, and further networks of every pod"),
    Key::new(
        "clusterNetwork",
        Text,
        "",
        "instead of delegates: the default network by name, or the path of a file or folder",
    ),
    Key::new("defaultNetworks", List(&Text), "[]", "further networks of every pod outside systemNamespaces"),
    Key::new("always_use_default", Bool, "true", "a key of an earlier program"),
    Key::new(
        "confDir",
        Text,
        "/etc/cni/multus/net.d",
        "configurations of definitions that have none themselves",
    ),
    Key::new("cniDir", Text, "/var/lib/cni/multus", "the caches, which DEL, CHECK and GC need"),
    Key::new(
        "manifestDir",
        Text,
        "",
        "a folder of YAML files with pods and definitions, instead of an API server",
    ),
    Key::new("systemNamespaces", List(&Text), "[\"kube-system\"]", "their pods get no defaultNetworks"),
    Key::new(
        "multusNamespace",
        Text,
        "kube-system",
        "the namespace of definitions for clusterNetwork and defaultNetworks",
    ),
    Key::new("retryDeleteOnError", Bool, "false", "the cache stays after a failed DEL"),
    Key::new("auxiliaryCNIChainName", Text, "", "a chain of plugins that runs last, after passthru"),
    Key::new("runtimeConfig", Any, "{}", "passed on to delegates with the capability"),
    Key::new("delegateTimeout", Integer, "100", "seconds that one delegate may take"),
    Key::new("logOptions", Object(LOG_OPTIONS), "{}", "when the log file is rotated, and what is kept"),
];

const LOG_OPTIONS: &[Key] = &[
    Key::new("maxAge", Integer, "5", "days after which an old file is removed; 0 for never"),
    Key::new("maxSize", Integer, "100", "the size in megabytes at which the file is renamed"),
    Key::new("maxBackups", Integer, "5", "how many old files are kept; 0 for all"),
    Key::new("compress", Bool, "true", "renamed files are kept as gzip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_is_complete() {
        assert_eq!(cni_core::keys::differences::<crate::config::ConfFile>(KEYS), Vec::<String>::new());
    }
}
