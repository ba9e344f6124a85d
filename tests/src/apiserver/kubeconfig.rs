use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::certificates::Certificate;

/// Someone who may log in to the server.
pub struct User {
    pub(super) name: String,
    pub(super) token: String,
    pub(super) certificate: Certificate,
}

impl User {
    /// The bearer token: a secret that must not be seen anywhere.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A line of the client certificate's key: a secret that must not be seen anywhere.
    pub fn key_line(&self) -> &str {
        self.certificate.key_pem.lines().nth(1).expect("a key has several lines")
    }
}

/// How a kubeconfig proves who the user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By a client certificate.
    Certificate,
    /// By the bearer token.
    Token,
    /// By the content of this file, which the test writes.
    TokenFile(String),
    /// By a bearer token that the server does not know.
    WrongToken,
    /// Not at all.
    Nothing,
}

/// How a kubeconfig says which server certificate is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By the server's certificate authority.
    Authority,
    /// By another certificate authority: the server's certificate is wrong then.
    AnotherAuthority,
    /// Any certificate is right (`insecure-skip-tls-verify`).
    Anything,
}

/// The text of a kubeconfig.
pub(super) fn render(server: &str, authority: &str, trust: Trust, user: &User, proof: &Proof) -> String {
    let trust = match trust {
        Trust::Anything => "insecure-skip-tls-verify: true".to_owned(),
        _ => format!("certificate-authority-data: {}", BASE64_STANDARD.encode(authority)),
    };
    let proof = match proof {
        Proof::Certificate => format!(
            "{{ client-certificate-data: {}, client-key-data: {} }}",
            BASE64_STANDARD.encode(&user.certificate.pem),
            BASE64_STANDARD.encode(&user.certificate.key_pem)
        ),
        Proof::Token => format!("{{ token: \"{}\" }}", user.token),
        Proof::TokenFile(path) => format!("{{ tokenFile: \"{path}\" }}"),
        Proof::WrongToken => "{ token: \"nobody-has-this-token\" }".to_owned(),
        Proof::Nothing => "{}".to_owned(),
    };
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: {server}
    {trust}
users:
- name: {name}
  user: {proof}
contexts:
- name: {name}@local
  context: {{ cluster: local, user: {name} }}
current-context: {name}@local
",
        name = user.name
    )
}
