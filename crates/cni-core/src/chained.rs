//! What all chained plugins do alike.
//!
//! A chained plugin takes the `prevResult` of the plugins before it, changes something of the
//! container's interface, and gives `prevResult` on. It implements [`ChainedPlugin`], and
//! [`Chained`] makes a [`Plugin`] of it:
//!
//! ```
//! use cni_core::chained::{Chained, ChainedPlugin};
//! use cni_core::context::Context;
//! use cni_core::namespaces::Namespaces;
//! use cni_core::netlink::Link;
//! use cni_core::plugin::{About, Kind, Plugin};
//! use cni_core::request::Request;
//! use cni_core::spec::{AddResult, Result};
//!
//! /// Sets the container's interface down.
//! struct Down;
//!
//! impl ChainedPlugin for Down {
//!     type Config = ();
//!     fn about(&self) -> About {
//!         About { names: &["down"], summary: "sets an interface down", kind: Kind::Chained }
//!     }
//!     fn config(&self, _: &Request) -> Result<()> {
//!         Ok(())
//!     }
//!     fn apply(&self, context: &Context<'_>, _: &(), link: &Link, _: &mut AddResult) -> Result<()> {
//!         let (namespaces, was_up) = (context.namespaces().clone(), link.clone());
//!         context.undo.push("down", move || Ok(namespaces.container.set_up(&was_up)?));
//!         Ok(context.container().set_down(link)?)
//!     }
//!     fn revert(&self, _: &Request, _: Option<(&Namespaces, &Link)>) -> Result<()> {
//!         Ok(())
//!     }
//!     fn check(&self, _: &Context<'_>, _: &(), _: &Link) -> Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! static DOWN: &dyn Plugin = &Chained(Down);
//! # assert_eq!(DOWN.about().names, ["down"]);
//! ```

use crate::context::Context;
use crate::interface::missing;
use crate::namespaces::Namespaces;
use crate::netlink::Link;
use crate::plugin::{About, Plugin};
use crate::request::Request;
use crate::spec::{AddResult, Attachment, Code, Error, Result};

/// A plugin that changes the interface that another plugin created.
pub trait ChainedPlugin: Sync {
    /// The valid configuration: whatever could be wrong was refused when it was read.
    type Config;

    /// The names it is called by, and what it does.
    fn about(&self) -> About;

    /// Reads the configuration, with what `CNI_ARGS` request.
    ///
    /// # Errors
    /// [`Code::INVALID_CONFIG`], quoting the value that can't be.
    fn config(&self, request: &Request) -> Result<Self::Config>;

    /// Changes the container's interface, and the result where the change shows there. Each
    /// change is followed by its [`Context::undo`] step; what DEL needs to know is stored first.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn apply(
        &self,
        context: &Context<'_>,
        config: &Self::Config,
        link: &Link,
        result: &mut AddResult,
    ) -> Result<()>;

    /// Reverts, for DEL, what ADD changed. The interface is `None` when it or its namespace is
    /// gone: then only what is stored outside has to go. Best effort: the container terminates.
    ///
    /// # Errors
    /// When something is left behind.
    fn revert(&self, request: &Request, interface: Option<(&Namespaces, &Link)>) -> Result<()>;

    /// Compares the interface with the configuration.
    ///
    /// # Errors
    /// The first difference.
    fn check(&self, context: &Context<'_>, config: &Self::Config, link: &Link) -> Result<()>;

    /// Whether an ADD could be served on this node.
    ///
    /// # Errors
    /// [`Code::UNAVAILABLE`], with the reason.
    fn status(&self, _config: &Self::Config, _request: &Request) -> Result<()> {
        Ok(())
    }

    /// Removes what is stored of attachments of this network that are not in `valid`.
    ///
    /// # Errors
    /// When something could not be removed.
    fn gc(&self, _request: &Request, _valid: &[Attachment]) -> Result<()> {
        Ok(())
    }
}

/// A [`ChainedPlugin`] as a [`Plugin`].
pub struct Chained<P>(pub P);

impl<P: ChainedPlugin> Plugin for Chained<P> {
    fn about(&self) -> About {
        self.0.about()
    }

    fn add(&self, request: &Request) -> Result<AddResult> {
        let config = self.0.config(request)?;
        request.conf.dns()?;
        let mut result = request.conf.prev_result()?.ok_or_else(|| {
            let [name, ..] = self.about().names else {
                return Error::invalid_config("prevResult is missing");
            };
            Error::invalid_config(format!("{name} needs a prevResult"))
                .details("it changes what a plugin before it in the list of plugins created")
        })?;
        let context = Context::open(request)?;
        let link = context
            .container()
            .link(context.ifname())?
            .ok_or_else(|| missing(context.ifname(), "the container").with_code(Code::INVALID_ENVIRONMENT))?;
        self.0.apply(&context, &config, &link, &mut result)?;
        context.undo.keep();
        Ok(result)
    }

    fn del(&self, request: &Request) -> Result<()> {
        let namespaces = Namespaces::open_remaining(request)?;
        let link = match &namespaces {
            Some(namespaces) => namespaces.container.link(&request.attachment()?.ifname)?,
            None => None,
        };
        self.0.revert(request, namespaces.as_ref().zip(link.as_ref()))
    }

    fn check(&self, request: &Request) -> Result<()> {
        let config = self.0.config(request)?;
        request.conf.dns()?;
        request.conf.required_prev_result()?;
        let context = Context::open(request)?;
        let link = context.container().link(context.ifname())?;
        let link = link.ok_or_else(|| missing(context.ifname(), "the container"))?;
        self.0.check(&context, &config, &link)
    }

    fn status(&self, request: &Request) -> Result<()> {
        self.0.status(&self.0.config(request)?, request)
    }

    fn gc(&self, request: &Request) -> Result<()> {
        match &request.conf.valid_attachments {
            Some(valid) => self.0.gc(request, valid),
            None => Ok(()),
        }
    }
}
