//! What DEL and GC detach, and where that is known from.

use std::path::PathBuf;

use cni_core::request::Request;
use cni_core::spec::{Attachment, Result};
use cni_runtime::{CapabilityArgs, Inherited, Invocation, NetworkConf, Runtime};

use crate::delegate::Delegate;
use crate::log;

/// One attachment to be deleted.
#[derive(Clone, Debug)]
pub(crate) struct Detachment {
    pub(crate) network: NetworkConf,
    /// The network's name for a person.
    pub(crate) label: String,
    pub(crate) invocation: Invocation,
    pub(crate) source: Source,
}

/// Where an attachment is known from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The cache of delegates: a failure is returned, because another DEL can succeed.
    Cache,
    /// A result of ADD, where that cache is lost or damaged. A failure is only logged and left to GC,
    /// because no later DEL knows more.
    Result,
    /// The configuration: there may be no such attachment. A failure is only logged.
    Guess,
}

/// The attachments of delegates.
///
/// # Errors
/// For GC and STATUS, which have no attachment.
pub(crate) fn of_delegates(
    runtime: &Runtime,
    runtime_config: &CapabilityArgs,
    request: &Request,
    delegates: &[Delegate],
    source: Source,
) -> Result<Vec<Detachment>> {
    let detachment = |delegate: &Delegate| {
        let mut invocation = delegate.invocation(request, runtime_config)?;
        // The plugins get the arguments of ADD, as far as they are known.
        if let Some(cached) = runtime.cache.get(delegate.network.name(), &invocation.attachment) {
            invocation.args = cached.invocation.args;
            invocation.capability_args = cached.invocation.capability_args;
        }
        let (network, label) = (delegate.network.clone(), delegate.label.clone());
        Ok(Detachment { network, label, invocation, source })
    };
    delegates.iter().map(detachment).collect()
}

/// The attachments of a container that have a result in the cache.
pub(crate) fn of_results(
    runtime: &Runtime,
    netns: Option<&PathBuf>,
    attachment: &Attachment,
    inherited: &Inherited,
) -> Vec<Detachment> {
    let mut detachments = Vec::new();
    for cached in runtime.cache.of_container(&attachment.container_id).unwrap_or_default() {
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
