//! GC: removing what belongs to containers that are gone.
//!
//! The networks of the configuration get the GC of their plugins. Those that pods selected do not: a
//! tenant may name a network and its `dataDir` like another's, and the plugins would remove all of
//! the other's that is not in the list. Of those networks, the attachments that the caches know to be
//! stale are deleted one by one.
//!
//! Several multus networks may share one `cniDir`: each collects the containers of its own.

use std::collections::{BTreeMap, BTreeSet};

use cni_core::request::Request;
use cni_core::spec::{Attachment, ContainerId, Error, NetworkName, Result, from_json, same_key};
use cni_runtime::{Cached, Members, NetworkConf, ResultCache, Runtime};

use crate::cache::{CachedDelegates, DelegateCache};
use crate::config::MultusConf;
use crate::detachment::{self, Detachment, Source};
use crate::{del, log, plan};

/// The folder of libcni's results in container runtimes.
const LIBCNI_RESULTS: &str = "/var/lib/cni/results";

/// Removes what belongs to containers that are gone.
///
/// The runtime names (container, eth0) only. Passed on unchanged, that would release every other
/// interface of living containers: each network gets all attachments that the caches know of the
/// containers that the runtime named.
pub(crate) fn gc(request: &Request) -> Result<()> {
    let conf = MultusConf::parse(request)?;
    log::start(&conf.log, None);
    let none_valid = Vec::new();
    let named = match &request.conf.valid_attachments {
        Some(named) => named,
        // A runtime without any pod sends null. Other plugins must not take that for an empty list,
        // because multus wraps their networks; nothing wraps multus.
        None if has_null_list(&request.text) => &none_valid,
        None => {
            log::verbose("GC without cni.dev/valid-attachments: nothing is collected");
            return Ok(());
        }
    };
    let runtime = crate::runtime(&conf, request);
    let named_first: BTreeMap<&ContainerId, &Attachment> =
        named.iter().rev().map(|attachment| (&attachment.container_id, attachment)).collect();
    let of_runtime = ResultCache::new(LIBCNI_RESULTS).all().unwrap_or_default().into_iter();
    let mut collection = Collection {
        request,
        conf: &conf,
        runtime: &runtime,
        living: named_first,
        known_to_runtime: of_runtime
            .filter(|cached| cached.network == request.conf.name)
            .map(|cached| cached.invocation.attachment.container_id)
            .collect(),
        errors: Vec::new(),
    };
    let mut valid = named.clone();
    valid.extend(collection.delegates()?);
    valid.extend(collection.results()?);
    let mut seen = BTreeSet::new();
    valid.retain(|at| seen.insert((at.container_id.clone(), at.ifname.clone())));
    for network in plan::configured(&conf) {
        let collected = network.and_then(|network| {
            runtime
                .gc(&network, &valid)
                .map_err(|err| err.context(format_args!("network {}", network.name())))
        });
        collection.errors.extend(collected.err());
    }
    Error::all(collection.errors)
}

/// Whether the list is there and null, which a configuration doesn't tell from an absent one.
fn has_null_list(text: &[u8]) -> bool {
    let members: Members = from_json(text, "network configuration").unwrap_or_default();
    members.iter().any(|(key, value)| same_key("cni.dev/valid-attachments", key) && value.get() == "null")
}

/// One GC, with the errors so far.
struct Collection<'a> {
    request: &'a Request,
    conf: &'a MultusConf,
    runtime: &'a Runtime,
    /// The containers that the runtime named, each with its first attachment.
    living: BTreeMap<&'a ContainerId, &'a Attachment>,
    /// The containers that the runtime's own cache has on this multus network.
    known_to_runtime: BTreeSet<ContainerId>,
    errors: Vec<Error>,
}

impl Collection<'_> {
    /// Detaches the containers in the cache of delegates that are gone; returns the attachments of the
    /// others, which include those of other multus networks.
    fn delegates(&mut self) -> Result<Vec<Attachment>> {
        let cache = DelegateCache::new(&self.conf.cni_dir);
        let mut valid = Vec::new();
        for container_id in cache.containers() {
            let is_living = self.living.contains_key(&container_id);
            let attachment = self.attachment(&container_id)?;
            let (delegates, owner) = match cache.get(&attachment, &self.conf.inherited) {
                CachedDelegates::Known(delegates, owner) => (delegates, owner),
                CachedDelegates::Unreadable(_) | CachedDelegates::Absent => {
                    if !is_living && self.is_own(&container_id, None) {
                        self.errors.extend(cache.forget(&container_id).err());
                    }
                    continue;
                }
            };
            let is_own = self.is_own(&container_id, owner.as_ref());
            let mut request = self.request.clone();
            request.env.attachment = Some(attachment);
            let args = &self.conf.runtime_config;
            let detachments =
                detachment::of_delegates(self.runtime, args, &request, &delegates, Source::Cache)?;
            if is_living || !is_own {
                valid.extend(detachments.into_iter().map(|known| known.invocation.attachment));
                continue;
            }
            log::verbose(format_args!("GC: container {container_id} is gone"));
            let (collected, kept): (Vec<_>, Vec<_>) =
                detachments.into_iter().partition(|detachment| !detachment.network.disable_gc());
            match del::detach(self.runtime, &of_gone(self.runtime, collected)) {
                Ok(()) if kept.is_empty() => self.errors.extend(cache.forget(&container_id).err()),
                // Networks without GC wait for a DEL, which needs the cache.
                Ok(()) => {}
                Err(err) => self.errors.push(err),
            }
        }
        Ok(valid)
    }

    /// Detaches what the cache of results has of containers that are gone and are not in the cache of
    /// delegates any more; returns the attachments of the living ones.
    fn results(&mut self) -> Result<Vec<Attachment>> {
        let mut valid = Vec::new();
        for cached in self.runtime.cache.all()? {
            let attachment = &cached.invocation.attachment;
            let container_id = &attachment.container_id;
            if self.living.contains_key(container_id) || !self.is_own(container_id, cached.owner.as_ref()) {
                valid.push(attachment.clone());
            } else {
                self.errors.extend(self.delete_stale(cached).err());
            }
        }
        Ok(valid)
    }

    /// Whether a container was added to this multus network. Where the cache does not have the network's
    /// name, the runtime's result of this network shows it.
    fn is_own(&self, container_id: &ContainerId, owner: Option<&NetworkName>) -> bool {
        match owner {
            Some(owner) => *owner == self.request.conf.name,
            None => self.known_to_runtime.contains(container_id),
        }
    }

    fn delete_stale(&self, cached: Cached) -> Result<()> {
        let network = NetworkConf::parse(&cached.config, "a cached configuration", &self.conf.inherited)?;
        if network.disable_gc() {
            return Ok(());
        }
        log::verbose(format_args!(
            "GC: {} of network {}",
            cached.invocation.attachment.container_id,
            network.name()
        ));
        self.runtime
            .del(&network, &cached.invocation.of_gone())
            .map_err(|err| err.context(format_args!("network {}", network.name())))
    }

    /// The attachment that a DEL of a container would name.
    fn attachment(&self, container_id: &ContainerId) -> Result<Attachment> {
        match self.living.get(container_id) {
            Some(attachment) => Ok((*attachment).clone()),
            // Kubelets use no other name.
            None => Ok(Attachment { container_id: container_id.clone(), ifname: "eth0".parse()? }),
        }
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

#[cfg(test)]
mod tests {
    use super::has_null_list;

    #[test]
    fn the_list_is_null_in_any_spelling() {
        assert!(has_null_list(br#"{"cni.dev/Valid-Attachments": null, "a": 1}"#));
        for other in [&br#"{"cni.dev/valid-attachments": []}"#[..], b"{}", br#"{"x": null}"#, b"["] {
            assert!(!has_null_list(other));
        }
    }
}
