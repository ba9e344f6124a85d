//! Multus: attaches a pod to the networks that its annotations name.
//!
//! It is a plugin that calls plugins. For one ADD it reads the pod and the definitions of its networks
//! from the API server, runs each network's plugins in order, and writes the result into the pod's
//! status. DEL needs no API server: ADD leaves what it did in a cache.
//!
//! - [`config`] is what the administrator configures, [`annotation`] what the pod requests, and [`nad`]
//!   what a definition contains;
//! - [`cluster`] is the source of pods and definitions;
//! - [`plan`] makes [`delegate`]s of all that, in the order of ADD;
//! - [`cache`] keeps them for DEL, CHECK and GC, which work on [`detachment`]s;
//! - [`status`] and [`event`] are what the cluster gets back.
//!
//! The programs that write multus' configuration are thin_entrypoint, for a pod, in [`entrypoint`], and
//! oxcni-multus-config, for a service of the node, in [`host_config`].
#![deny(missing_docs)]

mod add;
mod annotation;
mod cache;
mod check;
mod cluster;
mod config;
mod default_route;
mod del;
mod delegate;
mod detachment;
mod device;
mod entrypoint;
mod event;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
mod gc;
mod host_config;
mod keys;
mod link_group;
mod log;
mod nad;
mod object;
mod plan;
mod pod_args;
mod readiness;
mod status;
mod time;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use cni_core::plugin::{About, Kind, Plugin};
use cni_core::request::{ExecOptions, Request};
use cni_core::spec::{AddResult, Attachment, IfName, NetworkName, Result};
use cni_runtime::{Inherited, ResultCache, Runtime};

use cache::{CachedDelegates, DelegateCache};
use config::MultusConf;
pub use keys::KEYS;

/// The plugin.
pub struct Multus;

impl Plugin for Multus {
    fn about(&self) -> About {
        About {
            names: &["multus"],
            summary: "attaches a pod to the networks that its annotations name",
            kind: Kind::Meta,
        }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        add::add(request)
    }

    fn del(&self, request: &Request) -> Result<()> {
        del::del(request)
    }

    fn check(&self, request: &Request) -> Result<()> {
        check::check(request)
    }

    fn status(&self, request: &Request) -> Result<()> {
        check::status(request)
    }

    fn gc(&self, request: &Request) -> Result<()> {
        gc::gc(request)
    }
}

/// Reads the configuration of a request as ADD does.
///
/// # Errors
/// Those of an invalid configuration, with the wrong value.
pub fn check_config(request: &Request) -> Result<()> {
    MultusConf::parse(request).map(drop)
}

/// The attachments of the pods in a cache (`cniDir`), from before their ADD until after their DEL, each with
/// its network. The first interface of a pod, which the cache does not name, is taken for `eth0`.
pub fn planned_attachments(cni_dir: &Path) -> Vec<(NetworkName, Attachment)> {
    let cache = DelegateCache::new(cni_dir);
    let first: IfName = "eth0".parse().expect("it is a name");
    let mut planned = Vec::new();
    for container_id in cache.containers() {
        let attachment = Attachment { container_id, ifname: first.clone() };
        if let CachedDelegates::Known(delegates, _) = cache.get(&attachment, &Inherited::default()) {
            planned.extend(delegates.into_iter().map(|delegate| {
                let container_id = attachment.container_id.clone();
                (delegate.network.name().clone(), Attachment { container_id, ifname: delegate.ifname })
            }));
        }
    }
    planned
}

/// The whole program `thin_entrypoint`, which installs and configures multus on a node.
pub fn thin_entrypoint() -> ExitCode {
    entrypoint::main()
}

/// The whole program `oxcni-multus-config`, which keeps multus configured on a node without a pod.
pub fn multus_config() -> ExitCode {
    host_config::main()
}

/// The caller of the delegates' plugins.
fn runtime(conf: &MultusConf, request: &Request) -> Runtime {
    let mut path = vec![conf.bin_dir.clone()];
    path.extend(request.env.path.iter().filter(|folder| **folder != conf.bin_dir).cloned());
    Runtime {
        path,
        cache: ResultCache::new(conf.results_dir()).owned_by(request.conf.name.clone()),
        plugins: request.plugins,
        exec: ExecOptions { time_limit: Some(conf.delegate_timeout), name_stderr: true },
        netns_override: request.env.netns_override,
    }
}
