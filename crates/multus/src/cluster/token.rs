//! Tokens of service accounts, by the TokenRequest API.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use cni_core::spec::{Error, Result};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Builder;

use super::connection::{Call, Connection};

/// How long all tries of a request may take. The caller asks again, and meanwhile can be stopped.
const LIMIT: Duration = Duration::from_secs(10);

/// A service account, written `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    namespace: String,
    name: String,
}

impl FromStr for Account {
    type Err = String;

    /// # Errors
    /// It has not two parts of lower case letters, digits, `-` and `.`.
    fn from_str(text: &str) -> Result<Account, String> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = |part: &str| {
            let bytes = part.as_bytes();
            part.len() <= 253
                && [bytes.first(), bytes.last()].iter().all(|end| end.is_some_and(alphanumeric))
                && bytes.iter().all(|byte| alphanumeric(byte) || b"-.".contains(byte))
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Account { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is not a service account: NAMESPACE/NAME")),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A token. It has no `Debug`: no message may contain it.
pub(crate) struct Token {
    /// What stands behind `Bearer`.
    pub(crate) secret: String,
    /// How long it is valid from now on, as the server granted it.
    pub(crate) lifetime: Duration,
}

#[derive(Deserialize)]
struct TokenRequest {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    expiration_seconds: u64,
}

#[derive(Deserialize)]
struct Status {
    token: String,
}

/// Obtains a token of a service account, as the user of the kubeconfig. Nothing is kept open.
///
/// # Errors
/// The kubeconfig can't be read; the server does not answer, does not have the account, or refuses.
pub(crate) fn request(kubeconfig: &Path, account: &Account, lifetime: Duration) -> Result<Token> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|err| Error::io("starting the runtime of the Kubernetes client", err))?;
    let Account { namespace, name } = account;
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": { "expirationSeconds": lifetime.as_secs() },
    });
    let call = Call {
        method: Method::POST,
        path: format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"),
        body: Some(("application/json", body.to_string().into_bytes())),
    };
    let answer = runtime.block_on(async {
        let connection = Connection::open(kubeconfig, Some(Instant::now() + LIMIT)).await?;
        connection.call(&call).await.map_err(Error::from)
    })?;
    // The cause is left out: it could quote the token.
    let TokenRequest { spec, status } = serde_json::from_slice(&answer)
        .map_err(|_| Error::invalid_config(format!("the answer about {account} has no token")))?;
    Ok(Token { secret: status.token, lifetime: Duration::from_secs(spec.expiration_seconds) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_namespace_and_a_name_that_fit_in_a_path() {
        let account: Account = "oxcni-multus/multus".parse().unwrap();
        assert_eq!(account.to_string(), "oxcni-multus/multus");
        for wrong in ["multus", "/multus", "a/", "a/b/c", "a/b?x", "A/b", "../x"] {
            assert!(wrong.parse::<Account>().is_err(), "{wrong}");
        }
    }
}
