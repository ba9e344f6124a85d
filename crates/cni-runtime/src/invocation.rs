//! The parameters of a call about one attachment.

use std::path::PathBuf;

use cni_core::netns;
use cni_core::spec::{Attachment, CniArgs};

use crate::plugin_conf::CapabilityArgs;

/// The parameters of one attachment (specification, section 3, "Attachment Parameters").
#[derive(Clone, PartialEq, Debug)]
pub struct Invocation {
    /// The container and its interface.
    pub attachment: Attachment,
    /// The path of its network namespace; may be `None` for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// Given to the plugins that declare the capability.
    pub capability_args: CapabilityArgs,
}

impl Invocation {
    /// The same for a container that is gone, whose path may lead to another namespace now.
    ///
    /// The path is kept only where that can't be: one below `/proc` belongs to the process that has the
    /// process id now, and no container has the namespace of this thread.
    #[must_use]
    pub fn of_gone(mut self) -> Invocation {
        // A path that links to a namespace below /proc has no real path: its last link is `net:[..]`.
        let is_lasting = |path: &PathBuf| !path.starts_with("/proc") && path.canonicalize().is_ok();
        self.netns = self.netns.filter(|path| is_lasting(path) && netns::refuse_own(path).is_ok());
        self
    }
}
