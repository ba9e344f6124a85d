//! Gives containers interfaces that lead nowhere: a place for addresses.
#![deny(missing_docs)]

use cni_core::context::Context;
use cni_core::interface::InterfacePlugin;
use cni_core::netlink::{self, Link, NewLink};
use cni_core::plugin::{About, Kind};
use cni_core::request::Request;
use cni_core::spec::{Error, Result};

/// The plugin. It has no keys of its own.
pub struct Dummy;

/// Every key, for the documentation and `cnictl validate`: none.
pub const KEYS: &[cni_core::keys::Key] = &[];

impl InterfacePlugin for Dummy {
    type Config = ();
    type Links = Link;

    fn about(&self) -> About {
        About {
            names: &["dummy"],
            summary: "gives containers interfaces that lead nowhere",
            kind: Kind::Interface,
        }
    }

    fn link_kind(&self) -> &'static str {
        "dummy"
    }

    fn config(&self, request: &Request) -> Result<()> {
        match request.conf.ipam {
            Some(_) => Ok(()),
            None => Err(Error::invalid_config("dummy needs an ipam")
                .details("all that a dummy interface has is its addresses")),
        }
    }

    fn create(&self, context: &Context<'_>, (): &()) -> Result<Link> {
        let new = NewLink::new(context.ifname(), netlink::Kind::Dummy);
        context.create_in_container(&new).map_err(|failure| context.explain_name(failure))
    }

    fn find(&self, _: &Context<'_>, (): &(), link: Link) -> Result<Link> {
        Ok(link)
    }
}
