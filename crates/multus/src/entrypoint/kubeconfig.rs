//! The kubeconfig that multus reads, made from the pod's service account.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni_core::fs::Folder;

use super::options::Options;
use super::{Context as _, Error, Result, files};

/// The credentials for the API server that the kubelet gives a pod.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServiceAccount {
    token: String,
    /// In PEM; `None` where the server's certificate is not to be verified.
    authority: Option<Vec<u8>>,
}

// No Debug: no message may contain the token.

impl ServiceAccount {
    /// Reads the token, and the certificate authority where one is needed.
    ///
    /// # Errors
    /// A file is missing, empty or not readable.
    pub(crate) fn read(options: &Options) -> Result<Self> {
        let token = options.service_account_dir.join("token");
        let text = String::from_utf8(read(&token)?)
            .map_err(|_| Error::new(format!("{} is not text", token.display())))?;
        let authority = if options.skip_tls_verify {
            None
        } else {
            Some(read(&options.service_account_dir.join("ca.crt"))?)
        };
        Ok(Self { token: text.trim().to_owned(), authority })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).context(|| format!("can't read the service account's {}", path.display()))?;
    if bytes.is_empty() {
        return Err(Error::new(format!("the service account's {} is empty", path.display())));
    }
    Ok(bytes)
}

/// The API server's address, from the environment that the kubelet gives every container.
///
/// # Errors
/// `KUBERNETES_SERVICE_HOST` or `KUBERNETES_SERVICE_PORT` is not set.
pub(crate) fn server_from_environment() -> Result<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let protocol = variable("KUBERNETES_SERVICE_PROTOCOL").unwrap_or_else(|| "https".to_owned());
    match (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")) {
        (Some(host), Some(port)) => Ok(server(&protocol, &host, &port)),
        _ => Err(Error::new(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must name the API server \
             (the kubelet sets both in every container)",
        )),
    }
}

fn server(protocol: &str, host: &str, port: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("{protocol}://[{host}]:{port}")
    } else {
        format!("{protocol}://{host}:{port}")
    }
}

/// The path of the kubeconfig in this container.
pub(crate) fn path(options: &Options) -> PathBuf {
    options.cni_conf_dir.join("multus.d/multus.kubeconfig")
}

/// Writes the kubeconfig with mode 0600, and creates the folders that multus expects.
///
/// # Errors
/// Those of creating a folder or the file.
pub(crate) fn write(options: &Options, server: &str, account: &ServiceAccount) -> Result<()> {
    let path = path(options);
    for folder in [path.parent().unwrap_or(&path), Path::new(&options.multus_cni_conf_dir)] {
        if !folder.as_os_str().is_empty() {
            Folder::open_or_create(folder)
                .context(|| format!("can't create the folder {}", folder.display()))?;
        }
    }
    files::write(&path, render(server, account).as_bytes(), 0o600)
}

fn render(server: &str, account: &ServiceAccount) -> String {
    let trust = match &account.authority {
        Some(pem) => format!("certificate-authority-data: {}", BASE64.encode(pem)),
        None => "insecure-skip-tls-verify: true".to_owned(),
    };
    // A JSON string is a YAML string too: no token can add keys.
    let token = serde_json::Value::from(account.token.as_str());
    format!(
        "# Multus reads this to speak to the API server; thin_entrypoint rewrites it.
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: {server}
    {trust}
users:
- name: multus
  user:
    token: {token}
contexts:
- name: multus-context
  context:
    cluster: local
    user: multus
current-context: multus-context
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_gets_brackets() {
        assert_eq!(server("https", "fd00::1", "443"), "https://[fd00::1]:443");
        assert_eq!(server("https", "10.96.0.1", "443"), "https://10.96.0.1:443");
    }

    #[test]
    fn a_token_can_not_add_keys() {
        let account = ServiceAccount { token: "a\"\n  x: y".to_owned(), authority: None };
        let text = render("https://h:1", &account);
        assert!(text.contains("    token: \"a\\\"\\n  x: y\"\n"), "{text}");
        assert!(text.contains("    insecure-skip-tls-verify: true\n"), "{text}");
    }

    #[test]
    fn the_authority_is_written_in_base64() {
        let account = ServiceAccount { token: "t".to_owned(), authority: Some(b"foobar".to_vec()) };
        assert!(render("https://h:1", &account).contains("    certificate-authority-data: Zm9vYmFy\n"));
    }
}
