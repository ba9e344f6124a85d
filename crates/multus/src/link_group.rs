//! Deleting all interfaces of a pod with one message.
//!
//! To delete a link the kernel waits for RCU, which takes some 15 ms and is most of a DEL. For the
//! links of a group it waits once.

use cni_core::delegate;
use cni_core::netlink::{Link, Netlink};
use cni_core::netns::{Netns, refuse_own};
use cni_core::plugin::{LinkAtDel, Plugin};
use cni_core::spec::{NetConf, PluginType, Result};
use cni_runtime::Runtime;

use crate::detachment::{Detachment, Source};
use crate::log;

/// Deletes the interfaces, where there are several and no plugin needs them for its DEL. The plugins
/// are called after that nevertheless, and delete what could not be deleted here.
pub(crate) fn delete_links(runtime: &Runtime, detachments: &[Detachment]) {
    // With CNI_NETNS_OVERRIDE the namespace may be the host's own.
    if detachments.len() < 2 || runtime.netns_override {
        return;
    }
    // Plugins of other programs may need the link.
    if !detachments.iter().all(|it| is_ready(runtime, it)) {
        return;
    }
    match delete(detachments) {
        Ok(deleted) => log::debug(format_args!("{deleted} interfaces were deleted with one message")),
        Err(err) => log::error(format_args!("deleting the interfaces with one message: {err}")),
    }
}

/// Whether one plugin of this program made the interface, and neither it nor its IPAM plugin needs the
/// interface for DEL. In a chain, others might.
fn is_ready(runtime: &Runtime, detachment: &Detachment) -> bool {
    let [plugin] = detachment.network.plugins() else {
        return false;
    };
    let in_process = |plugin_type: &PluginType| -> Option<&'static dyn Plugin> {
        let file = delegate::find(plugin_type, &runtime.path).ok()?;
        delegate::in_process(plugin_type, &file, runtime.plugins)
    };
    let ipam = detachment.network.to_text().and_then(|text| NetConf::parse(&text)).map(|conf| conf.ipam);
    let ipam_allows = match ipam {
        Err(_) => false,
        Ok(None) => true,
        Ok(Some(ipam)) => in_process(&ipam).is_some_and(|plugin| plugin.link_at_del() == LinkAtDel::Ignores),
    };
    detachment.source != Source::Guess
        && ipam_allows
        && in_process(plugin.plugin_type()).is_some_and(|plugin| plugin.link_at_del() == LinkAtDel::Deletes)
}

/// Returns how many there were.
fn delete(detachments: &[Detachment]) -> Result<usize> {
    let netns = detachments[0].invocation.netns.as_deref();
    netns.map_or(Ok(()), refuse_own)?;
    let Some(container) = Netns::open_remaining(netns)? else {
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

/// A group of no link in the namespace, so that no link of the pod's own is deleted with ours.
fn unused_group(links: &[Link]) -> u32 {
    let is_used = |group: &u32| links.iter().any(|link| link.group == *group);
    // There are more numbers than links.
    (0x006f_7863..u32::MAX).find(|group| !is_used(group)).unwrap_or(u32::MAX)
}
