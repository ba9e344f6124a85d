use serde_json::{Value, json};

use crate::snapshot::{of_container, of_host};
use crate::{Difference, Host, Masks, Network, Plugins};

/// A configuration and what surrounds it, given to two folders of plugins to compare them.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about, in a few words.
    pub name: String,
    /// The configuration; its network is `net` by convention.
    pub config: Value,
    /// `CNI_ARGS`; empty for none.
    pub args: String,
    /// Commands of ip(8) that prepare the host's links, as for [`Host::ip`]; empty for none.
    pub links: String,
    /// A shell script that prepares the host's files; empty for none.
    pub setup: String,
    /// How many containers are added.
    pub containers: usize,
}

impl Case {
    /// One container on an empty host.
    pub fn new(name: &str, config: Value) -> Self {
        Self {
            name: name.to_owned(),
            config,
            args: String::new(),
            links: String::new(),
            setup: String::new(),
            containers: 1,
        }
    }

    /// Reads a case back from [`Self::to_json`].
    pub fn from_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            config: value["config"].clone(),
            args: text("args"),
            links: text("links"),
            setup: text("setup"),
            containers: value["containers"].as_u64().map_or(1, |n| n as usize),
        }
    }

    /// The case as data.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name, "config": self.config, "args": self.args,
            "links": self.links, "setup": self.setup, "containers": self.containers,
        })
    }
}

/// A difference from the peer that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Intended {
    /// Where: a part of the difference's path, such as `/after add/host/links/cni0/txqlen`.
    pub path: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Differences from the Go plugins that are wanted everywhere.
pub(crate) const ALWAYS: &[Intended] = &[
    Intended {
        path: "/txqlen",
        reason: "Go leaves both ends of a veth pair without a transmit queue length, newer ones the host's end; ours keep the kernel's default",
    },
    Intended {
        path: "/links/eth0/ndisc_notify",
        reason: "Go announces only IPv4 addresses by itself of the kernel (arp_notify); ours let it announce IPv6 ones too",
    },
];

/// What plugins do with a case: results, and the state of host and containers after each step,
/// without all that differs from run to run.
pub fn observe(plugins: Plugins, case: &Case) -> Value {
    let host = Host::new(plugins);
    if !case.links.is_empty() {
        host.ip(&case.links);
    }
    if !case.setup.is_empty() {
        host.sh(&case.setup);
    }
    let mut masks = Masks::new(&format!("{} {} {}", case.config, case.args, case.links));
    let net = host.network(case.config.clone()).args(&case.args);
    let name = case.config["name"].as_str().unwrap_or_default();
    let containers: Vec<_> = (0..case.containers).map(|_| host.container()).collect();

    let results: Vec<_> = containers.iter().map(|container| net.add(container)).collect();
    masks.learn(&host);
    let state = |masks: &Masks| {
        let inside: Vec<_> = containers.iter().map(|container| of_container(container, masks)).collect();
        json!({
            "host": of_host(&host, masks), "containers": inside, "reservations": host.reservations(name),
        })
    };
    let after_add = state(&masks);
    let has_check =
        !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&case.config["cniVersion"].as_str().unwrap_or(""));
    let mut checks = Vec::new();
    let mut dels = Vec::new();
    for (container, outcome) in containers.iter().zip(&results) {
        if has_check && outcome.ok() && !outcome.stdout.trim().is_empty() {
            checks.push(net.check(container, &outcome.result()).ok());
        }
    }
    for container in &containers {
        dels.push(net.del(container).ok());
    }
    let results: Vec<_> = results
        .iter()
        .map(
            |outcome| {
                if outcome.ok() { masks.mask(&text_or_json(&outcome.stdout)) } else { json!("an error") }
            },
        )
        .collect();
    json!({
        "results": results, "after add": after_add, "checks succeed": checks,
        "dels succeed": dels, "after del": state(&masks),
    })
}

fn text_or_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// What ours do otherwise than a peer was observed to do, for a person; empty where all is the same.
///
/// # Panics
/// Where a difference is intended without a reason.
pub fn differences(theirs: &Value, case: &Case, intended: &[Intended]) -> String {
    let intended: Vec<_> = ALWAYS.iter().chain(intended).copied().collect();
    for known in &intended {
        assert!(!known.reason.is_empty(), "{} is intended without a reason", known.path);
    }
    let mut text = String::new();
    for flavour in Plugins::ours() {
        let found = compare(theirs, &observe(*flavour, case), &intended);
        if !found.is_empty() {
            let lines = found.join("\n");
            text += &format!(
                "{flavour:?} differs from the peer in {}\n{:#}\n\n{lines}\n",
                case.name, case.config
            );
        }
    }
    text
}

/// Requires ours to do with a case what the Go plugins of Debian's package do, but for what is
/// intended.
///
/// # Panics
/// Where there is another difference.
pub fn same_as_go(case: &Case, intended: &[Intended]) {
    let theirs = observe(Plugins::Go, case);
    let found = differences(&theirs, case, intended);
    assert!(found.is_empty(), "{found}");
}

/// Makes a test of each row: a name, the kernel features it needs, a configuration and its
/// surroundings, and the differences from the Go plugins that are intended. Without the Go plugins,
/// or a feature, the test is skipped; `on_any_kernel` as for
/// [`both_flavours!`](crate::both_flavours).
///
/// ```ignore
/// parity! {
///     vlan [BridgeVlan] { json!({ .. }), args: "MAC=..", links: "link add ..", containers: 2, intended: &[] }
/// }
/// ```
#[macro_export]
macro_rules! parity {
    (on_any_kernel: $reason:literal; $($row:tt)*) => {
        $crate::parity_rows! { (|test, features| $crate::requirement::met_on_any_kernel(test, features, $reason)) $($row)* }
    };
    ($($row:tt)*) => {
        $crate::parity_rows! { ($crate::requirement::met) $($row)* }
    };
}

/// The rows of [`parity!`](crate::parity); `$met` decides whether a test runs.
#[doc(hidden)]
#[macro_export]
macro_rules! parity_rows {
    (($met:expr) $( $(#[$meta:meta])* $name:ident $([$($feature:ident),*])? { $config:expr
        $(, args: $args:expr)? $(, links: $links:expr)? $(, setup: $setup:expr)? $(, containers: $containers:expr)?
        $(, intended: $intended:expr)? } )*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            use $crate::requirement::Feature;
            let met: fn(&str, &[Feature]) -> bool = $met;
            if !met(concat!(module_path!(), "::", stringify!($name)), &[$($(Feature::$feature,)*)? Feature::GoPlugins]) {
                return;
            }
            #[allow(unused_mut)]
            let mut case = $crate::Case::new(stringify!($name), $config);
            $(case.args = $args.to_owned();)?
            $(case.links = $links.to_owned();)?
            $(case.setup = $setup.to_owned();)?
            $(case.containers = $containers;)?
            let intended: &[&[$crate::Intended]] = &[$($intended)?];
            $crate::same_as_go(&case, &intended.concat());
        }
    )*};
}

/// All differences between two observations that are not intended, a line each.
pub fn compare(expected: &Value, actual: &Value, intended: &[Intended]) -> Vec<String> {
    let found = Difference::all(expected, actual).into_iter();
    let unintended = found.filter(|found| !intended.iter().any(|known| found.path.contains(known.path)));
    unintended.map(|found| found.to_string()).collect()
}

impl Network<'_> {
    /// The same network, with this result as `prevResult`.
    pub fn after(&self, result: &Value) -> Self {
        self.clone().with("prevResult", result.clone())
    }
}
