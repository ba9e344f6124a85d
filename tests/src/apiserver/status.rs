use serde_json::{Value, json};

use super::kinds::Kind;

/// A refusal, as Kubernetes words it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Status {
    pub(super) code: u16,
    reason: &'static str,
    pub(super) message: String,
    details: Value,
}

impl Status {
    pub(super) fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            _ => "Unknown",
        };
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// What the refusal is about.
    pub(super) fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({ "name": name, "group": kind.group, "kind": kind.plural });
        self
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, format!("{} {name:?} not found", kind.qualified())).about(kind, name)
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let what = kind.qualified();
        Self::new(409, format!("Operation cannot be fulfilled on {what} {name:?}: {why}")).about(kind, name)
    }

    pub(super) fn exists(kind: &Kind, name: &str) -> Self {
        let mut status = Self::new(409, format!("{} {name:?} already exists", kind.qualified()));
        status.reason = "AlreadyExists";
        status.about(kind, name)
    }

    pub(super) fn object(&self) -> Value {
        let mut object = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if !self.details.is_null() {
            object["details"] = self.details.clone();
        }
        object
    }
}
