//! Looks at the kernel, at files, and at what was answered and recorded.

use super::first_container;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A look at a list that `ip` prints: an entry of it must match, or none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Look {
    /// The container, or `host`.
    #[serde(rename = "in", default = "first_container")]
    pub namespace: String,
    /// The link (not for rules). For a link without it: any.
    #[serde(default)]
    pub name: Option<String>,
    /// A pattern for the entry. For an address also `10.1.0.2/24`, for a route also its destination.
    #[serde(default)]
    pub is: Option<Value>,
    /// No entry may match.
    #[serde(default)]
    pub absent: bool,
    /// How many entries match, where it matters.
    #[serde(default)]
    pub count: Option<usize>,
}

/// A look at a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileLook {
    /// Which; `*` stands for anything in one name of the path.
    pub path: String,
    /// The namespace in which it is read, for `/proc/sys/net`.
    #[serde(rename = "in", default)]
    pub namespace: Option<String>,
    /// It must not be there.
    #[serde(default)]
    pub absent: bool,
    /// An expression that is found in it.
    #[serde(default)]
    pub holds: Option<String>,
    /// A pattern for the JSON in it.
    #[serde(default)]
    pub json: Option<Value>,
}

/// A connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reach {
    /// The container that connects, or `host`.
    pub from: String,
    /// The container that is connected to, or `host`.
    pub to: String,
    /// Its address.
    pub address: String,
    /// It must not succeed.
    #[serde(default)]
    pub fails: bool,
}

/// A comparison with the state at the end of `given`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unchanged {
    /// The container, or `host`: its links, addresses, routes, rules and nftables rules; or `files`:
    /// those below /run, /var/lib and /etc/cni.
    #[serde(rename = "in")]
    pub namespace: String,
    /// Expressions; lines of the difference in which one is found don't count.
    #[serde(default)]
    pub except: Vec<String>,
}

/// A look at what a plugin of the suite's own recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recorded {
    /// Its name; absent: those of all, in order.
    #[serde(default)]
    pub by: Option<String>,
    /// A pattern for the list of calls, each `{name, command, env, config, domain, sandbox}`; `domain`
    /// is the network namespace in which the plugin was executed and `sandbox` what CNI_NETNS leads to:
    /// `host`, `other`, and `absent` where it is no namespace.
    pub calls: Value,
}

/// A look at a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueLook {
    /// The value, with variables.
    pub of: Value,
    /// A pattern for it.
    pub is: Value,
}
