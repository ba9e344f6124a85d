//! Deleting all interfaces of a pod with one message.
//!
//! To delete a link the kernel waits until nobody can see it any more, which takes some 15 ms
//! and is most of a DEL. For the links of a group it waits once.

use cni_core::delegate;
use cni_core::netlink::{Link, Netlink};
use cni_core::netns::{Netns, refuse_own};
use cni_core::plugin::{LinkAtDel, Plugin};
use cni_core::spec::{NetConf, PluginType, Result};
use cni_runtime::Runtime;

use crate::del::{Detachment, Source};
use crate::log;

/// Deletes the interfaces, where there are several and no plugin needs to do it itself. The
/// plugins are called after that all the same, and find them gone.
///
/// What fails here is left to the plugins.
pub(crate) fn delete_links(runtime: &Runtime, detachments: &[Detachment]) {
    // A namespace that the caller had to force upon us may be the host's own.
    if detachments.len() < 2 || runtime.netns_override {
        return;
    }
    // What deletes a link early changes what others find: none but ours knows of that.
    if !detachments.iter().all(|it| is_ready(runtime, it)) {
        return;
    }
    match delete(detachments) {
        Ok(deleted) => log::debug(format_args!("{deleted} interfaces were deleted in one go")),
        Err(err) => log::error(format_args!("deleting the interfaces in one go: {err}")),
    }
}

/// Whether one plugin of this program made the interface, and neither it nor its IPAM plugin
/// needs it for DEL. In a chain, others might.
fn is_ready(runtime: &Runtime, detachment: &Detachment) -> bool {
    let [plugin] = detachment.network.plugins() else {
        return false;
    };
    let in_process = |plugin_type: &PluginType| -> Option<&'static dyn Plugin> {
        let file = delegate::find(plugin_type, &runtime.path).ok()?;
        delegate::in_process(plugin_type, &file, runtime.plugins)
    };
    let ipam = detachment.network.to_text().and_then(|text| NetConf::parse(&text)).map(|conf| conf.ipam);
    let ipam_is_content = match ipam {
        Err(_) => false,
        Ok(None) => true,
        Ok(Some(ipam)) => in_process(&ipam).is_some_and(|plugin| plugin.link_at_del() == LinkAtDel::Ignores),
    };
    detachment.source != Source::Guess
        && ipam_is_content
        && in_process(plugin.plugin_type()).is_some_and(|plugin| plugin.link_at_del() == LinkAtDel::Deletes)
}

/// Gives how many there were.
fn delete(detachments: &[Detachment]) -> Result<usize> {
    let netns = detachments[0].invocation.netns.as_deref();
    netns.map_or(Ok(()), refuse_own)?;
    let Some(container) = Netns::open_what_is_left(netns)? else {
        return Ok(0);
    };
    let netlink = Netlink::open_in(&container)?;
    let links = netlink.links()?;
    let is_ours = |link: &&Link| {
        detachments.iter().any(|detachment| {
            detachment.invocation.netns.as_deref() == netns
                && detachment.invocation.attachment.ifname.as_str() == link.name
        })
    };
    let ours: Vec<&Link> = links.iter().filter(is_ours).collect();
    if ours.len() < 2 {
        return Ok(0);
    }
    let group = unused_group(&links);
    for link in &ours {
        netlink.set_group(link, group)?;
    }
    netlink.delete_group(group)?;
    Ok(ours.len())
}

/// A number that no link of the namespace has: links of a pod's own are not to go with ours.
fn unused_group(links: &[Link]) -> u32 {
    let is_used = |group: &u32| links.iter().any(|link| link.group == *group);
    // Of so many numbers one is free: there are fewer links.
    (0x006f_7863..u32::MAX).find(|group| !is_used(group)).unwrap_or(u32::MAX)
}
