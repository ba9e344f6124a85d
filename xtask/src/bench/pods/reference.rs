//! Times of the Go multus on another machine, for runs without it: multus-cni 4.3 as a thin
//! plugin with the Go plugins at v1.9.1, against a real kube-apiserver on loopback, once.

use crate::bench::contender::Verb;

/// Times of one command, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times {
    pub(crate) wall_us: f64,
    /// User and system time, with that of the delegates; not of all commands.
    pub(crate) cpu_us: Option<f64>,
}

/// The times for a pod with the default network and so many more bridge networks.
pub(crate) fn go(additional: usize, verb: Verb) -> Option<Times> {
    let (wall_ms, cpu_ms) = match (additional, verb) {
        (0, Verb::Add) => (35.0, None),
        (0, Verb::Del) => (42.0, None),
        (3, Verb::Add) => (65.0, Some(53.0)),
        (3, Verb::Del) => (103.0, None),
        _ => return None,
    };
    Some(Times { wall_us: wall_ms * 1000.0, cpu_us: cpu_ms.map(|ms: f64| ms * 1000.0) })
}
