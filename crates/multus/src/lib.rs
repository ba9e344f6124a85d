//! Multus: attaches a pod to the networks that its annotations name.
//!
//! It is a plugin that calls plugins. For one ADD it reads the pod and the definitions of its
//! networks from the API server, runs each network's plugins in order, and writes what the
//! pod got into the pod's status. DEL needs no API server: what ADD did is in a cache.
//!
//! - [`config`]: what the administrator says; [`annotation`]: what the pod says;
//!   [`nad`]: what a definition says;
//! - [`cluster`]: where pods and definitions come from;
//! - [`plan`]: which networks that makes, as [`delegate`]s;
//! - [`cache`]: what DEL, CHECK and GC know of them;
//! - [`status`] and [`event`]: what the cluster is told.
#![deny(missing_docs)]

pub mod annotation;
pub mod cache;
pub mod cluster;
pub mod config;
pub mod default_route;
pub mod delegate;
pub mod device;
pub mod event;
pub mod log;
pub mod nad;
pub mod object;
pub mod plan;
pub mod pod_args;
pub mod readiness;
pub mod status;
pub mod time;

mod add;
mod del;
mod group;
mod upkeep;

use cni_core::plugin::{About, Plugin};
use cni_core::request::{ExecOptions, Request};
use cni_core::spec::{AddResult, Result};
use cni_runtime::{ResultCache, Runtime};

use config::MultusConf;

/// The plugin.
pub struct Multus;

impl Plugin for Multus {
    fn about(&self) -> About {
        About { names: &["multus"], summary: "attaches a pod to the networks that its annotations name" }
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        add::add(request)
    }

    fn del(&self, request: &Request) -> Result<()> {
        del::del(request)
    }

    fn check(&self, request: &Request) -> Result<()> {
        upkeep::check(request)
    }

    fn status(&self, request: &Request) -> Result<()> {
        upkeep::status(request)
    }

    fn gc(&self, request: &Request) -> Result<()> {
        upkeep::gc(request)
    }
}

/// How delegates are called.
fn runtime(conf: &MultusConf, request: &Request) -> Runtime {
    let mut path = vec![conf.bin_dir.clone()];
    path.extend(request.env.path.iter().filter(|folder| **folder != conf.bin_dir).cloned());
    Runtime {
        path,
        cache: ResultCache::new(conf.results_dir()),
        plugins: request.plugins,
        exec: ExecOptions { time_limit: Some(conf.delegate_timeout), name_stderr: true },
        netns_override: request.env.netns_override,
    }
}
