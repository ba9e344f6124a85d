//! CHECK, STATUS and GC: passed on to all networks.

use std::collections::BTreeSet;

use cni_core::request::Request;
use cni_core::spec::{Attachment, Code, ContainerId, Error, Result};
use cni_runtime::{NetworkConf, Runtime};

use crate::cache::{CachedDelegates, DelegateCache};
use crate::cluster::Cluster;
use crate::config::MultusConf;
use crate::del::{Detachment, Source};
use crate::{del, log, plan, readiness};

/// Checks every attachment of the pod.
pub(crate) fn check(request: &Request) -> Result<()> {
    let conf = MultusConf::parse(request)?;
    log::start(&conf.log);
    let runtime = crate::runtime(&conf, request);
    let container_id = &request.attachment()?.container_id;
    let delegates = match DelegateCache::new(&conf.cni_dir).get(container_id, &conf.inherited) {
        CachedDelegates::Known(delegates) => delegates,
        CachedDelegates::Unreadable(err) => return Err(err.with_code(Code::CHECK_FAILED)),
        CachedDelegates::Absent => {
            return Err(Error::check(format!("container {container_id} is not in the cache"))
                .details(format!("its delegates would be in {}", conf.cni_dir.display())));
        }
    };
    for detachment in del::from_delegates(&runtime, &conf, request, &delegates, Source::Cache)? {
        let version = detachment.network.version();
        if !version.has_check() {
            log::verbose(format_args!("network {} of version {version} has no CHECK", detachment.label));
            continue;
        }
        runtime.check(&detachment.network, &detachment.invocation).map_err(|err| {
            let ifname = &detachment.invocation.attachment.ifname;
            err.context(format_args!("checking {ifname} on network {:?}", detachment.label))
        })?;
    }
    Ok(())
}

/// Whether a pod without wishes of its own could be attached.
pub(crate) fn status(request: &Request) -> Result<()> {
    let conf = MultusConf::parse(request)?;
    log::start(&conf.log);
    if let Some(file) = &conf.readiness_file {
        readiness::require(file)?;
    }
    let cluster = Cluster::of(&conf);
    let runtime = crate::runtime(&conf, request);
    if conf.delegates.is_empty() && conf.cluster_network.is_none() {
        return Ok(());
    }
    let delegates = plan::delegates(&conf, &cluster, None)
        .map_err(|err| err.context("the default network").with_code(Code::UNAVAILABLE))?;
    for delegate in delegates {
        runtime.status(&delegate.network)?;
    }
    Ok(())
}

/// Removes what belongs to containers that are gone.
///
/// The runtime names (container, eth0) only. Handed on as it is, that would release every
/// other interface of living containers: each network is told of all attachments that the
/// cache knows of the containers that the runtime named.
pub(crate) fn gc(request: &Request) -> Result<()> {
    let conf = MultusConf::parse(request)?;
    log::start(&conf.log);
    let Some(named) = &request.conf.valid_attachments else {
        log::verbose("GC without cni.dev/valid-attachments: nothing is collected");
        return Ok(());
    };
    let runtime = crate::runtime(&conf, request);
    let cache = DelegateCache::new(&conf.cni_dir);
    let living: BTreeSet<&ContainerId> = named.iter().map(|attachment| &attachment.container_id).collect();
    let mut collection = Collection { valid: named.clone(), networks: Vec::new() };
    let mut errors = Vec::new();
    for delegate in plan::configured(&conf) {
        collection.add_network(delegate.network);
    }
    for container_id in cache.containers() {
        let is_living = living.contains(&container_id);
        let known = cache.get(&container_id, &conf.inherited);
        let CachedDelegates::Known(delegates) = known else {
            if !is_living {
                errors.extend(cache.forget(&container_id).err());
            }
            continue;
        };
        let of_container = of_container(request, named, &container_id)?;
        let detachments = del::from_delegates(&runtime, &conf, &of_container, &delegates, Source::Cache)?;
        for detachment in &detachments {
            collection.add_network(detachment.network.clone());
            if is_living {
                collection.valid.push(detachment.invocation.attachment.clone());
            }
        }
        if !is_living {
            log::verbose(format_args!("GC: container {container_id} is gone"));
            let (collected, kept): (Vec<_>, Vec<_>) =
                detachments.into_iter().partition(|detachment| !detachment.network.disable_gc());
            match del::detach(&runtime, &of_gone(&runtime, collected)) {
                Ok(()) if kept.is_empty() => errors.extend(cache.forget(&container_id).err()),
                // Networks that want no GC wait for a DEL, which goes by the cache.
                Ok(()) => {}
                Err(err) => errors.push(err),
            }
        }
    }
    collection.add_results(&runtime, &conf, &living)?;
    errors.extend(collection.collect(&runtime));
    Error::all(errors)
}

/// The call as DEL would get it for a container: with the name of its first interface.
fn of_container(request: &Request, named: &[Attachment], container_id: &ContainerId) -> Result<Request> {
    let known = named.iter().find(|attachment| attachment.container_id == *container_id);
    let mut request = request.clone();
    request.env.attachment = Some(match known {
        Some(attachment) => attachment.clone(),
        // Kubelets know no other name.
        None => Attachment { container_id: container_id.clone(), ifname: "eth0".parse()? },
    });
    Ok(request)
}

/// The detachments in the namespace that ADD was called with, where that can't be another's now.
fn of_gone(runtime: &Runtime, mut detachments: Vec<Detachment>) -> Vec<Detachment> {
    for Detachment { network, invocation, .. } in &mut detachments {
        let cached = runtime.cache.get(network.name(), &invocation.attachment);
        invocation.netns = cached.and_then(|cached| cached.invocation.of_gone().netns);
    }
    detachments
}

/// The networks to be collected, and what stays.
struct Collection {
    networks: Vec<(Vec<u8>, NetworkConf)>,
    valid: Vec<Attachment>,
}

impl Collection {
    /// Each configuration once.
    fn add_network(&mut self, network: NetworkConf) {
        let Ok(text) = network.to_text() else { return };
        if self.networks.iter().all(|(known, _)| *known != text) {
            self.networks.push((text, network));
        }
    }

    /// What the results know, of containers that the cache does not know.
    fn add_results(
        &mut self,
        runtime: &Runtime,
        conf: &MultusConf,
        living: &BTreeSet<&ContainerId>,
    ) -> Result<()> {
        for cached in runtime.cache.all()? {
            if living.contains(&cached.invocation.attachment.container_id) {
                self.valid.push(cached.invocation.attachment.clone());
            }
            match NetworkConf::parse(&cached.config, "a cached configuration", &conf.inherited) {
                Ok(network) => self.add_network(network),
                Err(err) => log::error(err),
            }
        }
        Ok(())
    }

    fn collect(mut self, runtime: &Runtime) -> Vec<Error> {
        let mut seen = BTreeSet::new();
        self.valid.retain(|at| seen.insert((at.container_id.clone(), at.ifname.clone())));
        let gc = |network: &NetworkConf| {
            runtime
                .gc(network, &self.valid)
                .map_err(|err| err.context(format_args!("network {}", network.name())))
        };
        self.networks.iter().filter_map(|(_, network)| gc(network).err()).collect()
    }
}
