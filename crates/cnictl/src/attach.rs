//! `cnictl add`, `del` and `check`: one attachment.

use std::path::{Path, PathBuf};

use cni_core::request::Command;
use cni_core::spec::{AddResult, Attachment, CniArgs, Code, Error, NetworkName, Result};
use cni_runtime::{Cached, CapabilityArgs, Inherited, Invocation, NetworkConf, ResultCache};
use serde_json::{Value, json};

use crate::attached::{self, Attached};
use crate::cli::Attach;
use crate::node::Node;
use crate::output::{Cell, Output};
use crate::{Outcome, namespace, plan};

/// `cnictl add`.
pub(crate) fn add(node: &Node, args: &Attach, output: &Output) -> Result<Outcome> {
    let network = node.network(&args.network)?;
    let netns = namespace::path_of(&args.namespace)?;
    namespace::require(&args.namespace, &netns)?;
    let container_id = match &args.container_id {
        Some(id) => id.clone(),
        None => namespace::container_id(&netns)?,
    };
    let invocation = Invocation {
        attachment: Attachment { container_id, ifname: args.ifname.clone() },
        netns: Some(netns),
        args: cni_args(args)?.unwrap_or_default(),
        capability_args: capability_args(args)?.unwrap_or_default(),
    };
    if args.dry_run {
        return plan::show(&node.runtime.calls(Command::Add, &network, &invocation)?, output);
    }
    refuse_attached(&node.runtime.cache, &args.network, &invocation.attachment)?;
    let result = node.runtime.add(&network, &invocation)?;
    show_result(&result, &network, output)?;
    Ok(Outcome::Good)
}

/// The specification forbids a second ADD without a DEL between (section 3).
fn refuse_attached(cache: &ResultCache, network: &NetworkName, attachment: &Attachment) -> Result<()> {
    if cache.get(network, attachment).is_none() {
        return Ok(());
    }
    let Attachment { container_id, ifname } = attachment;
    let msg = format!("{ifname} of container {container_id} is attached to network {network} already");
    Err(Error::new(Code::INVALID_ENVIRONMENT, msg)
        .details("cnictl del detaches it; --ifname attaches another interface"))
}

/// `cnictl del`.
pub(crate) fn del(node: &Node, args: &Attach, output: &Output) -> Result<Outcome> {
    let (network, invocation) = existing(node, args)?;
    if args.dry_run {
        return plan::show(&node.runtime.calls(Command::Del, &network, &invocation)?, output);
    }
    node.runtime.del(&network, &invocation)?;
    if output.is_json() {
        output.json(&json!({}));
    }
    Ok(Outcome::Good)
}

/// `cnictl check`.
pub(crate) fn check(node: &Node, args: &Attach, output: &Output) -> Result<Outcome> {
    let (network, invocation) = existing(node, args)?;
    if args.dry_run {
        return plan::show(&node.runtime.calls(Command::Check, &network, &invocation)?, output);
    }
    match node.runtime.check(&network, &invocation) {
        Ok(()) => {
            if output.is_json() {
                output.json(&json!({}));
            }
            Ok(Outcome::Good)
        }
        Err(err) => {
            output.error(&err);
            Ok(Outcome::Findings)
        }
    }
}

/// The network and the parameters of an attachment that exists: what the command line does not say is
/// as it was at ADD. The configuration is that of the folder, or where that has none, that of ADD.
fn existing(node: &Node, args: &Attach) -> Result<(NetworkConf, Invocation)> {
    let netns = namespace::path_of(&args.namespace)?;
    let cached = find(node, args, &netns)?;
    let network = node.network(&args.network).or_else(|err| match &cached {
        Some(cached) => of_cache(cached),
        None => Err(err),
    })?;
    let container_id = match (&args.container_id, &cached) {
        (Some(id), _) => id.clone(),
        (None, Some(cached)) => cached.invocation.attachment.container_id.clone(),
        (None, None) => namespace::container_id(&netns)?,
    };
    let (cached_args, cached_capabilities) = match cached {
        Some(Cached { invocation, .. }) => (invocation.args, invocation.capability_args),
        None => Default::default(),
    };
    let invocation = Invocation {
        attachment: Attachment { container_id, ifname: args.ifname.clone() },
        netns: Some(netns),
        args: cni_args(args)?.unwrap_or(cached_args),
        capability_args: capability_args(args)?.unwrap_or(cached_capabilities),
    };
    Ok((network, invocation))
}

/// The cached attachment that is meant: by its container ID, or by its namespace, whoever made it.
fn find(node: &Node, args: &Attach, netns: &Path) -> Result<Option<Cached>> {
    let id = match &args.container_id {
        Some(id) => id.clone(),
        None => namespace::container_id(netns)?,
    };
    let attachment = Attachment { container_id: id, ifname: args.ifname.clone() };
    let by_id = node.runtime.cache.get(&args.network, &attachment);
    if by_id.is_some() || args.container_id.is_some() {
        return Ok(by_id);
    }
    let is_meant = |attached: &Attached| {
        attached.cache == attached::Cache::Libcni
            && attached.cached.network == args.network
            && attached.cached.invocation.attachment.ifname == args.ifname
            && attached.netns().map(PathBuf::from).as_deref() == Some(netns)
    };
    Ok(attached::all(node)?.into_iter().find(is_meant).map(|attached| attached.cached))
}

/// The configuration that an attachment was made with.
///
/// # Errors
/// When the cached configuration is invalid.
pub(crate) fn of_cache(cached: &Cached) -> Result<NetworkConf> {
    let inherited = Inherited { name: Some(cached.network.clone()), version: None };
    NetworkConf::parse(&cached.config, "the cached configuration", &inherited)
}

fn cni_args(args: &Attach) -> Result<Option<CniArgs>> {
    let given = args.args.as_deref().filter(|text| !text.is_empty());
    given.map(CniArgs::parse).transpose()
}

fn capability_args(args: &Attach) -> Result<Option<CapabilityArgs>> {
    let given = args.cap_args.as_deref().filter(|text| !text.is_empty());
    given.map(|text| cni_core::spec::from_json(text.as_bytes(), "CAP_ARGS")).transpose()
}

fn show_result(result: &AddResult, network: &NetworkConf, output: &Output) -> Result<()> {
    if output.is_json() {
        let text = result.to_json(network.version())?;
        output.json(&serde_json::from_str::<Value>(&text).unwrap_or_default());
        return Ok(());
    }
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let addresses = |index: usize| {
        let ips = result.ips.iter().filter(|ip| ip.interface == Some(index));
        ips.map(|ip| ip.address.to_string()).collect::<Vec<_>>().join(",")
    };
    let rows: Vec<[Cell; 4]> = result
        .interfaces
        .iter()
        .enumerate()
        .map(|(index, interface)| {
            let place = if interface.sandbox.is_empty() { "host" } else { &interface.sandbox };
            [
                interface.name.as_str().into(),
                or_dash(&interface.mac).into(),
                or_dash(&addresses(index)).into(),
                place.into(),
            ]
        })
        .collect();
    output.table(["INTERFACE", "MAC", "ADDRESSES", "NAMESPACE"], &rows);
    Ok(())
}
