//! GC: removing what belongs to containers that are gone.

use std::collections::BTreeSet;

use cni_core::request::Request;
use cni_core::spec::{Attachment, ContainerId, Error, Result};
use cni_runtime::{NetworkConf, Runtime};

use crate::cache::{CachedDelegates, DelegateCache};
use crate::config::MultusConf;
use crate::detachment::{self, Detachment, Source};
use crate::{del, log, plan};

/// Removes what belongs to containers that are gone.
///
/// The runtime names (container, eth0) only. Passed on unchanged, that would release every other
/// interface of living containers: each network gets all attachments that the cache knows of the
/// containers that the runtime named.
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
    for network in plan::configured(&conf) {
        match network {
            Ok(network) => collection.add_network(network),
            Err(err) => log::error(err),
        }
    }
    for container_id in cache.containers() {
        let is_living = living.contains(&container_id);
        let attachment = of_container(named, &container_id)?;
        let CachedDelegates::Known(delegates) = cache.get(&attachment, &conf.inherited) else {
            if !is_living {
                errors.extend(cache.forget(&container_id).err());
            }
            continue;
        };
        let mut of_container = request.clone();
        of_container.env.attachment = Some(attachment);
        let args = &conf.runtime_config;
        let detachments = detachment::of_delegates(&runtime, args, &of_container, &delegates, Source::Cache)?;
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
                // Networks without GC wait for a DEL, which needs the cache.
                Ok(()) => {}
                Err(err) => errors.push(err),
            }
        }
    }
    collection.add_results(&runtime, &conf, &living)?;
    errors.extend(collection.collect(&runtime));
    Error::all(errors)
}

/// The attachment that a DEL of a container would name.
fn of_container(named: &[Attachment], container_id: &ContainerId) -> Result<Attachment> {
    match named.iter().find(|attachment| attachment.container_id == *container_id) {
        Some(attachment) => Ok(attachment.clone()),
        // Kubelets use no other name.
        None => Ok(Attachment { container_id: container_id.clone(), ifname: "eth0".parse()? }),
    }
}

/// The detachments in the namespace of their ADD, where that can't be another container's now.
fn of_gone(runtime: &Runtime, mut detachments: Vec<Detachment>) -> Vec<Detachment> {
    for Detachment { network, invocation, .. } in &mut detachments {
        let cached = runtime.cache.get(network.name(), &invocation.attachment);
        invocation.netns = cached.and_then(|cached| cached.invocation.of_gone().netns);
    }
    detachments
}

/// The networks of which a GC is requested, and the attachments that stay.
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

    /// The results of containers that the cache does not have.
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
