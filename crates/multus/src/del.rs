//! DEL: detaching a pod, from the cache alone.

use cni_core::request::Request;
use cni_core::spec::{Attachment, Error, Result};
use cni_runtime::{Inherited, Invocation, NetworkConf, Runtime};

use crate::cache::{CachedDelegates, DelegateCache};
use crate::cluster::Cluster;
use crate::config::MultusConf;
use crate::delegate::Delegate;
use crate::device::info;
use crate::pod_args::PodArgs;
use crate::{group, log, plan};

/// One network to be detached from.
pub(crate) struct Detachment {
    pub(crate) network: NetworkConf,
    pub(crate) label: String,
    pub(crate) invocation: Invocation,
    pub(crate) source: Source,
}

/// Where it is known from that there is something to be detached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The cache of delegates: what fails can be tried again, and is the caller's affair.
    Cache,
    /// A result of ADD, where that cache is gone or damaged. What fails is left for GC, and
    /// blocks nobody: no later DEL could know more.
    Result,
    /// The configuration: perhaps there was no attachment at all. Blocks nobody either.
    Guess,
}

/// Detaches the pod of a call from all its networks.
pub(crate) fn del(request: &Request) -> Result<()> {
    let (conf, invalid) = match MultusConf::parse(request) {
        Ok(conf) => (conf, None),
        Err(err) => (MultusConf::valid_part(request)?, Some(err)),
    };
    log::start(&conf.log);
    if let Some(err) = invalid {
        log::error(err.context("deleting what the cache tells of all the same"));
    }
    // The names are for the log: a pod must be deletable whatever they are.
    let args = PodArgs::parse(&request.env.args).unwrap_or_default();
    if let Some(file) = conf.readiness_file.as_ref().filter(|file| !file.exists()) {
        log::verbose(format_args!(
            "warning: readinessindicatorfile {} does not exist at DEL",
            file.display()
        ));
    }
    let runtime = crate::runtime(&conf, request);
    let cache = DelegateCache::new(&conf.cni_dir);
    let container_id = &request.attachment()?.container_id;
    let detachments = match cache.get(container_id, &conf.inherited) {
        CachedDelegates::Known(delegates) => {
            from_delegates(&runtime, &conf, request, &delegates, Source::Cache)?
        }
        CachedDelegates::Unreadable(err) => {
            log::error(format_args!(
                "[{args}]: {err}: deleting what the results and the configuration tell of"
            ));
            made_up(&runtime, &conf, request)?
        }
        CachedDelegates::Absent => made_up(&runtime, &conf, request)?,
    };
    let deleted = detach(&runtime, &detachments);
    Cluster::forget(&conf, &args);
    if deleted.is_ok() || !conf.retry_delete_on_error {
        // All is taken down: what is left of the cache must not keep the pod from going.
        if let Err(err) = cache.forget(container_id) {
            log::error(err);
        }
    }
    deleted.map_err(|err| err.context(format_args!("Multus: [{args}]"))).inspect_err(|err| log::error(err))
}

/// Detaches from all networks, the last first; what fails stops no other.
pub(crate) fn detach(runtime: &Runtime, detachments: &[Detachment]) -> Result<()> {
    group::delete_links(runtime, detachments);
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

/// What is to be detached when the delegates are known.
pub(crate) fn from_delegates(
    runtime: &Runtime,
    conf: &MultusConf,
    request: &Request,
    delegates: &[Delegate],
    source: Source,
) -> Result<Vec<Detachment>> {
    let mut detachments = Vec::new();
    for (position, delegate) in delegates.iter().enumerate() {
        let mut invocation = delegate.invocation(position, request, &conf.runtime_config)?;
        // The plugins are to be told the same as at ADD, as far as that is known.
        if let Some(cached) = runtime.cache.get(delegate.network.name(), &invocation.attachment) {
            invocation.args = cached.invocation.args;
            invocation.capability_args = cached.invocation.capability_args;
        }
        detachments.push(Detachment {
            network: delegate.network.clone(),
            label: delegate.label.clone(),
            invocation,
            source,
        });
    }
    Ok(detachments)
}

/// What is to be detached when they are not: whatever has a result, and what every pod has.
fn made_up(runtime: &Runtime, conf: &MultusConf, request: &Request) -> Result<Vec<Detachment>> {
    let attachment = request.attachment()?;
    let configured = from_delegates(runtime, conf, request, &plan::configured(conf), Source::Guess)?;
    let results = from_results(runtime, request.env.netns.as_ref(), attachment, &conf.inherited);
    let is_known = |guess: &Detachment| {
        results.iter().any(|known| {
            known.invocation.attachment == guess.invocation.attachment
                || known.network.name() == guess.network.name()
        })
    };
    let mut detachments: Vec<Detachment> = configured.into_iter().filter(|guess| !is_known(guess)).collect();
    detachments.extend(results);
    // The interface of the runtime was the first, and goes last.
    detachments.sort_by_key(|detachment| detachment.invocation.attachment.ifname != attachment.ifname);
    Ok(detachments)
}

/// Every attachment of the container that a result is kept of.
pub(crate) fn from_results(
    runtime: &Runtime,
    netns: Option<&std::path::PathBuf>,
    attachment: &Attachment,
    inherited: &Inherited,
) -> Vec<Detachment> {
    let cached = runtime.cache.of_container(&attachment.container_id).unwrap_or_default();
    let mut detachments = Vec::new();
    for cached in cached {
        match NetworkConf::parse(&cached.config, "a cached configuration", inherited) {
            Ok(network) => detachments.push(Detachment {
                label: network.name().to_string(),
                network,
                invocation: Invocation { netns: netns.cloned(), ..cached.invocation },
                source: Source::Result,
            }),
            Err(err) => log::error(err),
        }
    }
    detachments
}
