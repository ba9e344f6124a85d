//! What can be wrong, what would help, and how that is done.

use std::net::IpAddr;
use std::path::PathBuf;

use cni_core::delegate;
use cni_core::firewall::Masquerade;
use cni_core::netlink::Netlink;
use cni_core::request::{Command, Environment, Request};
use cni_core::spec::{Attachment, CniArgs, Code, Error, NetConf, NetworkName, PluginType, Result};
use serde_json::{Value, json};

use super::reattach::reattach;
use crate::attach::of_cache;
use crate::attached::Attached;
use crate::node::Node;
use crate::output::{Output, Tone, printable};

/// Something that is not as it should be.
pub(crate) enum Ailment {
    /// An attachment whose CHECK fails.
    Broken(Attached, Error),
    /// An entry of a cache whose namespace is gone.
    Gone(Attached),
    /// A reservation of host-local of an attachment that is in no cache.
    Reservation(Reserved),
    /// A rule that masquerades an attachment that is in no cache, by its comment.
    Masquerade(String),
    /// Rules of macspoofchk of an attachment that is gone, by their ID; the attachments that stay.
    SpoofCheck(String, Vec<Attachment>),
    /// A lease of the daemon of dhcp for an attachment that is in no cache.
    Lease(NetworkName, Attachment, Option<PathBuf>),
    /// An end of a veth pair on a bridge that is of no attachment.
    Link {
        /// The host's end.
        name: String,
        /// The bridge.
        bridge: String,
        /// Why it is left alone, where it is.
        in_use: Option<String>,
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
    /// The namespace in which an interface has the address all the same.
    pub(crate) in_use: Option<String>,
}

impl Ailment {
    /// What tells it from others.
    pub(crate) fn key(&self) -> String {
        format!("{} {}", self.kind(), self.subject())
    }

    fn kind(&self) -> &'static str {
        match self {
            Ailment::Broken(..) => "broken",
            Ailment::Gone(..) => "gone",
            Ailment::Reservation(..) => "reservation",
            Ailment::Masquerade(..) => "masquerade",
            Ailment::SpoofCheck(..) => "macspoofchk",
            Ailment::Lease(..) => "lease",
            Ailment::Link { .. } => "link",
        }
    }

    fn subject(&self) -> String {
        match self {
            Ailment::Broken(attached, _) | Ailment::Gone(attached) => attached.title(),
            Ailment::Reservation(Reserved { address, network, container_id, .. }) => {
                format!("{address} of network {network}, reserved for container {container_id}")
            }
            Ailment::Masquerade(comment) => format!("rule {comment:?}"),
            Ailment::SpoofCheck(id, _) => format!("rules of {id}"),
            Ailment::Lease(network, Attachment { container_id, ifname }, _) => {
                format!("lease of {ifname} of container {container_id} on network {network}")
            }
            Ailment::Link { name, bridge, .. } => format!("interface {name} on bridge {bridge}"),
        }
    }

    fn problem(&self) -> String {
        match self {
            Ailment::Broken(_, err) => err.to_string(),
            Ailment::Gone(attached) => {
                format!("its namespace {} is gone", attached.netns().unwrap_or_default())
            }
            Ailment::Reservation(Reserved { in_use: Some(netns), .. }) => {
                format!("no cache has the attachment, but an interface in {netns} has the address")
            }
            Ailment::Link { in_use: Some(reason), .. } => {
                format!("no cache has its attachment, but {reason}")
            }
            _ => "no attachment has it".to_owned(),
        }
    }

    /// What repairing it does.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Ailment::Broken(..) => "attaches it again with its addresses and its MAC address",
            Ailment::Gone(..) => "detaches it",
            Ailment::Reservation(Reserved { in_use: Some(_), .. })
            | Ailment::Link { in_use: Some(_), .. } => "leaves it",
            Ailment::Reservation(..) | Ailment::Lease(..) => "releases it",
            Ailment::Masquerade(..) | Ailment::SpoofCheck(..) => "removes it",
            Ailment::Link { .. } => "deletes it",
        }
        .to_owned()
    }

    /// Whether it may belong to an attachment that is being made, whose entry in a cache comes last.
    pub(crate) fn may_be_unfinished(&self) -> bool {
        !matches!(self, Ailment::Broken(..) | Ailment::Gone(..))
    }

    /// Repairs it.
    ///
    /// # Errors
    /// The reason why it is as it was.
    pub(crate) fn repair(&self, node: &Node) -> Result<()> {
        match self {
            Ailment::Broken(attached, _) => reattach(node, attached),
            Ailment::Gone(attached) => {
                let network = of_cache(&attached.cached)?;
                attached.runtime(node).del(&network, &attached.invocation().of_gone())
            }
            Ailment::Reservation(Reserved { in_use: Some(_), .. })
            | Ailment::Link { in_use: Some(_), .. } => Err(Error::new(Code::TRY_AGAIN, "it is in use")),
            Ailment::Reservation(reserved) => reserved.release(node),
            Ailment::Masquerade(comment) => Masquerade::remove(comment),
            Ailment::SpoofCheck(_, valid) => oxcni_bridge::spoofcheck::collect(valid),
            Ailment::Lease(network, attachment, socket) => {
                let ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
                release(node, network, attachment.clone(), ipam)
            }
            Ailment::Link { name, .. } => {
                let host = Netlink::open()?;
                match host.link(name)? {
                    Some(link) => Ok(host.delete_link(&link)?),
                    None => Ok(()),
                }
            }
        }
    }

    /// The line for people.
    pub(crate) fn line(&self, output: &Output) -> String {
        let subject = output.toned(&printable(&self.subject()), Tone::Bad);
        format!("{subject}: {}", printable(&self.problem()))
    }

    /// The same for programs; with what became of it.
    pub(crate) fn to_json(&self, repaired: Option<&Result<()>>) -> Value {
        let error = repaired.and_then(|repaired| repaired.as_ref().err());
        json!({
            "kind": self.kind(), "subject": self.subject(), "problem": self.problem(), "remedy": self.remedy(),
            "repaired": repaired.map(Result::is_ok), "error": error.map(Error::to_string),
        })
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
