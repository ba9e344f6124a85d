//! What all interface plugins do alike.
//!
//! An interface plugin implements [`InterfacePlugin`]: how its configuration is read, how its link
//! is created, what CHECK finds beside it. The rest is here, once: address management,
//! configuring the container's interface, undoing a failed ADD, comparing, deleting.

mod configure;
mod lifecycle;
mod mac;
mod master;
mod verify;

use crate::context::{Context, Located};
use crate::netlink::Link;
use crate::plugin::About;
use crate::request::Request;
use crate::spec::{AddResult, Attachment, Result};

pub use configure::{Dad, add_default_routes};
pub use mac::{MacSource, requested_mac};
pub use master::{Master, MasterConf, RX_HANDLER_RULE, default_master};
pub use verify::{mac_matches, missing};

/// A plugin that creates an interface in a container. Each one is a
/// [`Plugin`](crate::plugin::Plugin).
pub trait InterfacePlugin: Sync {
    /// The valid configuration: whatever could be wrong was refused when it was read.
    type Config: Sync;

    /// The links of an attachment: [`Link`] alone, unless the plugin has links on the host too.
    type Links: Links;

    /// The names it is called by, and what it does.
    fn about(&self) -> About;

    /// The kernel's name for the kind of the container's interface, such as `veth`. DEL deletes no
    /// other.
    fn link_kind(&self) -> &'static str;

    /// Reads the configuration, with what `CNI_ARGS` request.
    ///
    /// # Errors
    /// [`crate::spec::Code::INVALID_CONFIG`], quoting the value that can't be.
    fn config(&self, request: &Request) -> Result<Self::Config>;

    /// Creates the link in the container, down and without addresses, and what it needs on the
    /// host. [`Context::create_on_host`] and its like register how to undo what they do.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn create(&self, context: &Context<'_>, config: &Self::Config) -> Result<Self::Links>;

    /// Finds, for CHECK, the links that [`InterfacePlugin::create`] gave; `link` is the container's.
    ///
    /// # Errors
    /// [`crate::spec::Code::CHECK_FAILED`] when one is missing.
    fn find(&self, context: &Context<'_>, config: &Self::Config, link: Link) -> Result<Self::Links>;

    /// Whether and how duplicate addresses are detected (RFC 4862, section 5.4).
    fn dad(&self, _config: &Self::Config) -> Dad {
        Dad::Kernel
    }

    /// The addresses of an attachment without an IPAM plugin. `None` means layer 2 only.
    fn inherited(&self, _config: &Self::Config) -> Option<AddResult> {
        None
    }

    /// Completes addresses and routes before they are configured in the container.
    ///
    /// # Errors
    /// When they don't fit the network.
    fn complete(&self, _config: &Self::Config, _addresses: &mut AddResult) -> Result<()> {
        Ok(())
    }

    /// Does what remains on the host once the container's interface is configured, and brings
    /// the links up to date.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn finish(
        &self,
        _context: &Context<'_>,
        _config: &Self::Config,
        _links: &mut Self::Links,
        _addresses: &AddResult,
    ) -> Result<()> {
        Ok(())
    }

    /// Compares what only this plugin knows of. Name, kind, MAC address, addresses and routes of
    /// the container's interface are compared already.
    ///
    /// # Errors
    /// The first difference.
    fn check(
        &self,
        _context: &Context<'_>,
        _config: &Self::Config,
        _links: &Self::Links,
        _prev: &AddResult,
    ) -> Result<()> {
        Ok(())
    }

    /// Whether an ADD could be served on this node, apart from its addresses.
    ///
    /// # Errors
    /// [`crate::spec::Code::UNAVAILABLE`], with the reason.
    fn status(&self, _config: &Self::Config, _request: &Request) -> Result<()> {
        Ok(())
    }

    /// Whether an interface without addresses is set up.
    fn sets_up(&self, _config: &Self::Config) -> bool {
        true
    }

    /// Removes, for DEL, what the host has beside the links, before the link is deleted. The configuration
    /// is `None` when it has become invalid.
    ///
    /// # Errors
    /// When something could not be removed.
    fn clean_up(&self, _config: Option<&Self::Config>, _request: &Request) -> Result<()> {
        Ok(())
    }

    /// Removes, for GC, what the host has of attachments of this network that are not in `valid`.
    ///
    /// # Errors
    /// When something could not be removed.
    fn gc(&self, _config: &Self::Config, _request: &Request, _valid: &[Attachment]) -> Result<()> {
        Ok(())
    }
}

/// The links of one attachment.
pub trait Links {
    /// The container's interface.
    fn container(&self) -> &Link;

    /// All of them in the order of the result.
    fn listed(&self) -> Vec<Located<'_>> {
        vec![Located::Container(self.container())]
    }
}

impl Links for Link {
    fn container(&self) -> &Link {
        self
    }
}
