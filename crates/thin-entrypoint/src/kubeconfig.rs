//! The kubeconfig that multus opens, made from the pod's service account.

use std::fs;
use std::path::{Path, PathBuf};

use crate::options::Options;
use crate::{Context as _, Error, Result, file};

/// What the kubelet gives a pod to speak to the API server with.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    token: String,
    /// In PEM; `None` where the server's certificate is not to be verified.
    authority: Option<Vec<u8>>,
}

// No Debug: the token must not find its way into a message.

impl ServiceAccount {
    /// Reads the token, and the certificate authority where one is needed.
    ///
    /// # Errors
    /// A file is missing, empty or not readable.
    pub fn read(options: &Options) -> Result<Self> {
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

/// The API server's address as the kubelet tells every container.
///
/// # Errors
/// `KUBERNETES_SERVICE_HOST` or `KUBERNETES_SERVICE_PORT` is not set.
pub fn server_from_environment() -> Result<String> {
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

/// Where the kubeconfig is written, seen from this container.
pub fn path(options: &Options) -> PathBuf {
    options.cni_conf_dir.join("multus.d/multus.kubeconfig")
}

/// Writes the kubeconfig with mode 0600, and makes the folders that multus expects.
///
/// # Errors
/// Whatever keeps a folder or the file from being made.
pub fn write(options: &Options, server: &str, account: &ServiceAccount) -> Result<()> {
    let path = path(options);
    for folder in [path.parent().unwrap_or(&path), Path::new(&options.multus_cni_conf_dir)] {
        if !folder.as_os_str().is_empty() {
            fs::create_dir_all(folder).context(|| format!("can't make the folder {}", folder.display()))?;
        }
    }
    file::write(&path, render(server, account).as_bytes(), 0o600)
}

fn render(server: &str, account: &ServiceAccount) -> String {
    let trust = match &account.authority {
        Some(pem) => format!("certificate-authority-data: {}", base64(pem)),
        None => "insecure-skip-tls-verify: true".to_owned(),
    };
    // A JSON string is a YAML string too, and the token comes from outside.
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

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at)) & 63;
            text.push(if at > chunk.len() { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648, section 10.
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn an_ipv6_host_gets_brackets() {
        assert_eq!(server("https", "fd00::1", "443"), "https://[fd00::1]:443");
        assert_eq!(server("https", "10.96.0.1", "443"), "https://10.96.0.1:443");
    }

    #[test]
    fn a_token_can_not_leave_its_place() {
        let account = ServiceAccount { token: "a\"\n  x: y".to_owned(), authority: None };
        let text = render("https://h:1", &account);
        assert!(text.contains("    token: \"a\\\"\\n  x: y\"\n"), "{text}");
        assert!(text.contains("    insecure-skip-tls-verify: true\n"), "{text}");
    }

    #[test]
    fn the_authority_is_carried_in_base64() {
        let account = ServiceAccount { token: "t".to_owned(), authority: Some(b"foobar".to_vec()) };
        assert!(render("https://h:1", &account).contains("    certificate-authority-data: Zm9vYmFy\n"));
    }
}
