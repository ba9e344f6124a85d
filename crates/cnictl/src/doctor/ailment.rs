//! What can be wrong, what would help, and how that is done.

use cni_core::spec::{Code, Error, Result};
use serde_json::{Value, json};

use super::orphan::Orphan;
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
    /// What belongs to an attachment that is in no cache.
    Orphan {
        /// What it is.
        orphan: Orphan,
        /// Why it is left alone, where it is: a runtime without libcni's cache may have made the attachment.
        in_use: Option<String>,
    },
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
            Ailment::Orphan { orphan, .. } => orphan.kind(),
        }
    }

    fn subject(&self) -> String {
        match self {
            Ailment::Broken(attached, _) | Ailment::Gone(attached) => attached.title(),
            Ailment::Orphan { orphan, .. } => orphan.title(),
        }
    }

    fn problem(&self) -> String {
        match self {
            Ailment::Broken(_, err) => err.to_string(),
            Ailment::Gone(attached) => {
                format!("its namespace {} is gone", attached.netns().unwrap_or_default())
            }
            Ailment::Orphan { in_use: Some(use_), .. } => {
                format!("no cache has its attachment, but {use_}")
            }
            Ailment::Orphan { in_use: None, .. } => "no attachment has it".to_owned(),
        }
    }

    /// What repairing it does.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Ailment::Broken(..) => "attaches it again with its addresses and its MAC address",
            Ailment::Gone(..) => "detaches it",
            Ailment::Orphan { in_use: Some(_), .. } => "leaves it",
            Ailment::Orphan { orphan, in_use: None } => orphan.remedy(),
        }
    }

    /// Whether it may belong to an attachment that is being made, whose entry in a cache comes last.
    pub(crate) fn may_be_unfinished(&self) -> bool {
        matches!(self, Ailment::Orphan { .. })
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
            Ailment::Orphan { in_use: Some(_), .. } => Err(Error::new(Code::TRY_AGAIN, "it is in use")),
            Ailment::Orphan { orphan, in_use: None } => orphan.remove(node),
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
