//! What belongs to an attachment that is in no cache, and how it is removed.

use std::net::IpAddr;
use std::path::PathBuf;

use cni_core::delegate;
use cni_core::firewall::Masquerade;
use cni_core::netlink::Netlink;
use cni_core::request::{Command, Environment, Request};
use cni_core::spec::{Attachment, CniArgs, NetConf, NetworkName, PluginType, Result};
use serde_json::{Value, json};

use crate::node::Node;

/// What an attachment left, or has without being in a cache.
pub(crate) enum Orphan {
    /// A reservation of host-local.
    Reservation(Reserved),
    /// Rules that masquerade, by their comment.
    Masquerade(String),
    /// Rules of macspoofchk, by their ID; the attachments that stay.
    SpoofCheck(String, Vec<Attachment>),
    /// A lease of the daemon of dhcp, and its socket where it is configured.
    Lease(NetworkName, Attachment, Option<PathBuf>),
    /// The host's end of a veth pair.
    Link {
        /// Its name.
        name: String,
        /// The bridge that it is a port of.
        bridge: String,
    },
}

/// A reservation of host-local.
pub(crate) struct Reserved {
    /// The network.
    pub(crate) network: NetworkName,
    /// `dataDir`, where the folder of the network is.
    pub(crate) data_dir: PathBuf,
    /// The address.
    pub(crate) address: IpAddr,
    /// The container ID in the file.
    pub(crate) container_id: String,
    /// The interface in the file.
    pub(crate) ifname: Option<String>,
}

impl Orphan {
    /// The word for JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Orphan::Reservation(..) => "reservation",
            Orphan::Masquerade(..) => "masquerade",
            Orphan::SpoofCheck(..) => "macspoofchk",
            Orphan::Lease(..) => "lease",
            Orphan::Link { .. } => "link",
        }
    }

    /// What it is called in messages.
    pub(crate) fn title(&self) -> String {
        match self {
            Orphan::Reservation(Reserved { address, network, container_id, .. }) => {
                format!("{address} of network {network}, reserved for container {container_id}")
            }
            Orphan::Masquerade(comment) => format!("rule {comment:?}"),
            Orphan::SpoofCheck(id, _) => format!("rules of {id}"),
            Orphan::Lease(network, Attachment { container_id, ifname }, _) => {
                format!("lease of {ifname} of container {container_id} on network {network}")
            }
            Orphan::Link { name, bridge } => format!("interface {name} on bridge {bridge}"),
        }
    }

    /// What [`Orphan::remove`] does.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Orphan::Reservation(..) | Orphan::Lease(..) => "releases it",
            Orphan::Masquerade(..) | Orphan::SpoofCheck(..) => "removes it",
            Orphan::Link { .. } => "deletes it",
        }
    }

    /// Removes it.
    ///
    /// # Errors
    /// The reason why it remains.
    pub(crate) fn remove(&self, node: &Node) -> Result<()> {
        match self {
            Orphan::Reservation(reserved) => reserved.release(node),
            Orphan::Masquerade(comment) => Masquerade::remove(comment),
            Orphan::SpoofCheck(_, valid) => oxcni_bridge::spoofcheck::collect(valid),
            Orphan::Lease(network, attachment, socket) => {
                let ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
                release(node, network, attachment.clone(), ipam)
            }
            Orphan::Link { name, .. } => {
                let host = Netlink::open()?;
                match host.link(name)? {
                    Some(link) => Ok(host.delete_link(&link)?),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Reserved {
    fn release(&self, node: &Node) -> Result<()> {
        let attachment = Attachment {
            container_id: self.container_id.parse()?,
            // A file without an interface is released with any of the container's.
            ifname: self.ifname.as_deref().unwrap_or("eth0").parse()?,
        };
        let ipam = json!({ "type": "host-local", "dataDir": self.data_dir });
        release(node, &self.network, attachment, ipam)
    }
}

/// The DEL of an IPAM plugin for an attachment that is gone.
fn release(node: &Node, network: &NetworkName, attachment: Attachment, ipam: Value) -> Result<()> {
    let plugin_type: PluginType = ipam["type"].as_str().unwrap_or_default().parse()?;
    let conf = json!({ "cniVersion": "1.0.0", "name": network, "type": plugin_type, "ipam": ipam });
    let text = conf.to_string().into_bytes();
    let env = Environment {
        command: Command::Del,
        attachment: Some(attachment),
        netns: None,
        args: CniArgs::default(),
        path: node.runtime.path.clone(),
        netns_override: false,
    };
    let request = Request { env, conf: NetConf::parse(&text)?, text, plugins: &[], exec: node.runtime.exec };
    delegate::call(&plugin_type, &request).map(drop)
}
