//! DEL: detaching a pod, with what the caches and the configuration contain.

use std::time::Duration;

use cni_core::request::Request;
use cni_core::spec::{Error, IfName, Result};
use cni_runtime::{NetworkConf, Runtime};

use crate::cache::{CachedDelegates, DelegateCache};
use crate::cluster::Cluster;
use crate::config::{self, MultusConf};
use crate::delegate::{Delegate, Found, in_order};
use crate::detachment::{self, Detachment, Source};
use crate::device::info;
use crate::pod_args::PodArgs;
use crate::{link_group, log, plan};

/// Detaches the pod of a call from all its networks.
pub(crate) fn del(request: &Request) -> Result<()> {
    // ADD refused such a configuration: there is nothing to delete, and its pod must terminate.
    if config::require_own_type(request).is_err() {
        return Ok(());
    }
    let (conf, invalid) = match MultusConf::parse(request) {
        Ok(conf) => (conf, None),
        Err(err) => (MultusConf::valid_part(request)?, Some(err)),
    };
    // The names are for the log and the API server: a pod with any names must be deletable.
    let args = PodArgs::parse(&request.env.args).unwrap_or_default();
    log::start(&conf.log, Some(&args));
    if let Some(err) = invalid {
        log::error(err.context("deleting with the cache, although the configuration is invalid"));
    }
    if let Some(file) = conf.readiness_file.as_ref().filter(|file| !file.exists()) {
        log::verbose(format_args!(
            "warning: readinessindicatorfile {} does not exist at DEL",
            file.display()
        ));
    }
    let runtime = crate::runtime(&conf, request);
    let cache = DelegateCache::new(&conf.cni_dir);
    let attachment = request.attachment()?;
    let detachments = match cache.get(attachment, &conf.inherited) {
        CachedDelegates::Known(delegates, _) => {
            let args = &conf.runtime_config;
            detachment::of_delegates(&runtime, args, request, &delegates, Source::Cache)?
        }
        CachedDelegates::Unreadable(err) => {
            log::error(format_args!("{err}: deleting with the results and the configuration"));
            without_cache(&runtime, &conf, &args, request)?
        }
        CachedDelegates::Absent => without_cache(&runtime, &conf, &args, request)?,
    };
    let deleted = detach(&runtime, &detachments);
    Cluster::forget(&conf, &args);
    if deleted.is_ok() || !conf.retry_delete_on_error {
        // All is detached: a file that can't be removed must not keep the pod from being deleted.
        if let Err(err) = cache.forget(&attachment.container_id) {
            log::error(err);
        }
    }
    deleted.map_err(|err| args.name_in(err)).inspect_err(|err| log::error(err))
}

/// Detaches from all networks, the last first. A failure stops no other.
pub(crate) fn detach(runtime: &Runtime, detachments: &[Detachment]) -> Result<()> {
    link_group::delete_links(runtime, detachments);
    let mut errors: Vec<Error> = Vec::new();
    for detachment in detachments.iter().rev() {
        let Detachment { network, label, invocation, source } = detachment;
        let ifname = &invocation.attachment.ifname;
        log::verbose(format_args!("Del: {label} {ifname}"));
        if let Err(err) = runtime.del(network, invocation) {
            let err = err.context(format_args!("error deleting {ifname} from network {label:?}"));
            if *source == Source::Cache { errors.push(err) } else { log::error(err) }
        }
        info::forget(invocation);
    }
    Error::all(errors)
}

/// How long the API server may take to tell what a pod was attached to.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// The delegates of the pod as it is now in the cluster; `None` where they can't be known quickly.
fn from_cluster(conf: &MultusConf, args: &PodArgs, first: &IfName) -> Option<Vec<Delegate>> {
    let cluster = Cluster::within(conf, Some(LOOKUP_LIMIT));
    if cluster.is_absent() || args.require().is_err() {
        return None;
    }
    let pod =
        cluster.pod(args).inspect_err(|err| log::verbose(format_args!("reading the pod: {err}"))).ok()?;
    if !args.uid.is_empty() && pod.metadata.uid != args.uid && !pod.is_static() {
        log::verbose("another pod has the name of this one now");
        return None;
    }
    let planned = plan::delegates_for_del(conf, &cluster, &pod, first).map_err(Error::from);
    planned.inspect_err(|err| log::verbose(format_args!("reading the pod's networks: {err}"))).ok()
}

/// The attachments of a container whose delegates are not in the cache: those that have a result, and
/// those that every pod has. Without any result, those that the pod has now in the cluster.
fn without_cache(
    runtime: &Runtime,
    conf: &MultusConf,
    args: &PodArgs,
    request: &Request,
) -> Result<Vec<Detachment>> {
    let attachment = request.attachment()?;
    let results = detachment::of_results(runtime, request.env.netns.as_ref(), attachment, &conf.inherited);
    let known = if results.is_empty() { from_cluster(conf, args, &attachment.ifname) } else { None };
    let delegates = match known {
        Some(delegates) => delegates,
        None => {
            let readable = |network: Result<NetworkConf>| network.inspect_err(|err| log::error(err)).ok();
            let configured = plan::configured(conf).into_iter().filter_map(readable);
            in_order(configured.map(Found::configured).collect(), &attachment.ifname)?
        }
    };
    let configured =
        detachment::of_delegates(runtime, &conf.runtime_config, request, &delegates, Source::Guess)?;
    let is_known = |guess: &Detachment| {
        results.iter().any(|known| {
            known.invocation.attachment == guess.invocation.attachment
                || known.network.name() == guess.network.name()
        })
    };
    let mut detachments: Vec<Detachment> = configured.into_iter().filter(|guess| !is_known(guess)).collect();
    detachments.extend(results);
    // The interface that the runtime requested was the first, and is deleted last.
    detachments.sort_by_key(|detachment| detachment.invocation.attachment.ifname != attachment.ifname);
    Ok(detachments)
}
