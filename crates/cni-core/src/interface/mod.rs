//! What all interface plugins do alike: the way of an attachment.
//!
//! An interface plugin says what is its own by implementing [`InterfacePlugin`]: its
//! configuration, how its link is created, what CHECK must find beside it. The rest is here,
//! once: address management, configuring the link in the container, taking back what was made
//! when something fails, verifying, deleting.

mod configure;
mod lifecycle;
mod mac;
mod master;
mod verify;

use serde::de::DeserializeOwned;

use crate::netlink::{Link, Netlink};
use crate::netns::Netns;
use crate::plugin::About;
use crate::request::Request;
use crate::spec::{AddResult, IfName, Interface, Result};
use crate::undo::Undo;

pub use configure::{Dad, add_default_routes};
pub use mac::{MacSource, asked_mac};
pub use master::{Master, MasterConf};
pub use verify::{mac_matches, missing};

/// A plugin that makes an interface in a container. Each one is a
/// [`Plugin`](crate::plugin::Plugin).
pub trait InterfacePlugin: Sync {
    /// Its own keys of the configuration.
    type Config: DeserializeOwned;

    /// The names it is called by, and what it is.
    fn about(&self) -> About;

    /// Checks what the types of the configuration can't, before anything is made, and takes in
    /// what `CNI_ARGS` say.
    ///
    /// # Errors
    /// [`crate::spec::Code::INVALID_CONFIG`], quoting the values that make no sense.
    fn validate(&self, config: &mut Self::Config, request: &Request) -> Result<()>;

    /// Creates the link in the container, down and without addresses, and whatever it needs
    /// on the host. The line after one that makes something registers with [`Site::undo`] how
    /// to unmake it.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn create(&self, site: &Site<'_, '_, Self::Config>) -> Result<Created>;

    /// Whether and how duplicate addresses are looked for (RFC 4862, section 5.4).
    fn dad(&self, _config: &Self::Config) -> Dad {
        Dad::Kernel
    }

    /// Where addresses come from when there is no IPAM plugin: by default from nowhere, and the
    /// attachment is of layer 2 only.
    ///
    /// # Errors
    /// When they should come from `prevResult` and it is none.
    fn inherited(&self, _site: &Site<'_, '_, Self::Config>) -> Result<Option<AddResult>> {
        Ok(None)
    }

    /// Completes addresses and routes before they are configured in the container.
    ///
    /// # Errors
    /// When they don't fit the network.
    fn adapt(&self, _site: &Site<'_, '_, Self::Config>, _result: &mut AddResult) -> Result<()> {
        Ok(())
    }

    /// Does what remains to be done on the host once the container's interface is configured,
    /// and brings the result up to date.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn finish(
        &self,
        _site: &Site<'_, '_, Self::Config>,
        _link: &Link,
        _result: &mut AddResult,
    ) -> Result<()> {
        Ok(())
    }

    /// Compares what is its own with `prevResult`; name, MAC address, addresses and routes of
    /// the container's interface are compared already.
    ///
    /// # Errors
    /// The first difference.
    fn check(&self, _site: &Site<'_, '_, Self::Config>, _link: &Link, _prev: &AddResult) -> Result<()> {
        Ok(())
    }

    /// Whether an ADD could be served on this node, apart from its addresses.
    ///
    /// # Errors
    /// [`crate::spec::Code::UNAVAILABLE`], with what is in the way.
    fn ready(&self, _config: &Self::Config, _request: &Request) -> Result<()> {
        Ok(())
    }

    /// Whether the container's interface is set up when it has no addresses.
    fn brings_up(&self, _config: &Self::Config) -> bool {
        true
    }

    /// Takes down what is left on the host when the link is gone; `None` for a configuration
    /// that can't be read any more.
    ///
    /// # Errors
    /// When something remains.
    fn clean_up(&self, _config: Option<&Self::Config>, _request: &Request) -> Result<()> {
        Ok(())
    }

    /// Removes from the host what belongs to attachments that are not valid any more.
    ///
    /// # Errors
    /// When something remains.
    fn collect(&self, _config: &Self::Config, _request: &Request) -> Result<()> {
        Ok(())
    }
}

/// Where an attachment is made: the call, both sides of the network, and what to undo.
pub struct Site<'s, 'n, C> {
    /// The call.
    pub request: &'s Request,
    /// The plugin's configuration.
    pub config: &'s C,
    /// The name of the container's interface.
    pub ifname: &'s IfName,
    /// The host.
    pub host: &'n Netlink,
    /// The container.
    pub container: &'n Netlink,
    /// The container's namespace.
    pub netns: &'s Netns,
    /// What to take back when something fails.
    pub undo: &'s Undo<'n>,
}

/// What [`InterfacePlugin::create`] made.
#[derive(Clone, Debug)]
pub struct Created {
    /// The interfaces for the result, that of the container last.
    pub interfaces: Vec<Interface>,
    /// The link in the container.
    pub link: Link,
}

impl<C> Site<'_, '_, C> {
    /// An entry of the result for a link of the host.
    pub fn on_host(&self, link: &Link) -> Interface {
        Interface { name: link.name.clone(), mac: mac(link), ..Interface::default() }
    }

    /// An entry of the result for a link in the container.
    pub fn in_container(&self, link: &Link) -> Interface {
        let sandbox = self.netns.path().display().to_string();
        Interface { name: link.name.clone(), mac: mac(link), sandbox, ..Interface::default() }
    }
}

fn mac(link: &Link) -> String {
    link.mac.map(|mac| mac.to_string()).unwrap_or_default()
}
