//! Which certificates of servers are accepted.

use std::sync::Arc;

use kube::client::ConfigExt as _;
use kube::config::Config;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use super::causes::find;

/// The keys that ring has algorithms for.
const KEYS: &str =
    "keys may be RSA, ECDSA with P-256 or P-384, or Ed25519; ECDSA with P-521 is not supported";

/// The TLS configuration of a kubeconfig. As in Go, certificates among the authorities that can't be read
/// are ignored.
///
/// # Errors
/// What is not valid, without any of it.
pub(super) fn config(config: &mut Config) -> Result<ClientConfig, String> {
    let mut verifier = None;
    if let Some(certificates) = &mut config.root_cert {
        let mut roots = RootCertStore::empty();
        certificates.retain(|der| roots.add(CertificateDer::from(der.clone())).is_ok());
        if certificates.is_empty() {
            return Err("certificate-authority has no certificate that can be read".to_owned());
        }
        verifier = Some(Verifier::new(roots, certificates)?);
    }
    let mut tls = config.rustls_client_config().map_err(|err| match find::<Error>(&err) {
        Some(_) => format!("the client's key is not valid: {KEYS}"),
        None => "certificates or keys are not valid".to_owned(),
    })?;
    if let Some(verifier) = verifier.filter(|_| !config.accept_invalid_certs) {
        tls.dangerous().set_certificate_verifier(Arc::new(verifier));
    }
    Ok(tls)
}

/// What a person should know of a connection that failed.
pub(super) fn hint(err: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match find::<Error>(err)? {
        // A server whose key fits no algorithm of ours says no more than this.
        Error::AlertReceived(AlertDescription::HandshakeFailure)
        | Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => Some(KEYS),
        _ => None,
    }
}

/// Accepts what rustls accepts, and a certificate that is itself one of the authorities: rustls takes no
/// authority for a server, and no certificate without an issuer.
#[derive(Debug)]
struct Verifier {
    by_authority: Arc<WebPkiServerVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(roots: RootCertStore, authorities: &[Vec<u8>]) -> Result<Verifier, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|err| format!("certificate-authority: {err}"))?;
        let authorities = authorities.iter().cloned().map(CertificateDer::from).collect();
        Ok(Verifier { by_authority, authorities })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.by_authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Both come after the check of the dates.
            Err(Error::InvalidCertificate(wrong))
                if self.authorities.contains(end_entity)
                    && (wrong == CertificateError::UnknownIssuer || is_authority(&wrong)) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Whether a certificate was refused because it is one of an authority.
fn is_authority(wrong: &CertificateError) -> bool {
    let CertificateError::Other(other) = wrong else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use kube::config::{KubeConfigOptions, Kubeconfig};
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    /// A certificate of an authority with a key on the curve P-521, and the key.
    const P521: &str = include_str!("tls/p521-authority.pem");
    const P521_KEY: &str = include_str!("tls/p521-authority.key");
    /// A certificate of that authority for localhost with a key on the curve P-256.
    const P256: &str = include_str!("tls/p256-of-p521.pem");

    fn configured(user: &str, authority: &str) -> Result<ClientConfig, String> {
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: \
             {{server: 'https://h', certificate-authority-data: {}}}}}]\nusers: [{{name: u, user: {}}}]",
            BASE64.encode(authority),
            user,
        );
        let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = KubeConfigOptions::default();
        let read = runtime.block_on(Config::from_custom_kubeconfig(kubeconfig, &options));
        config(&mut read.map_err(|err| err.to_string())?)
    }

    #[test]
    fn a_client_key_that_can_not_be_used_is_named() {
        let (certificate, key) = (BASE64.encode(P521), BASE64.encode(P521_KEY));
        let user = format!("{{ client-certificate-data: {certificate}, client-key-data: {key} }}");
        let error = configured(&user, P521).unwrap_err();
        assert!(error.contains("client's key") && error.contains("P-521"), "{error}");
        configured("{}", P521).unwrap();
    }

    #[test]
    fn an_authority_whose_signature_can_not_be_verified_is_named() {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(P521.as_bytes()).unwrap();
        roots.add(authority.clone()).unwrap();
        let verifier = Verifier::new(roots, &[authority.to_vec()]).unwrap();
        let server = CertificateDer::from_pem_slice(P256.as_bytes()).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let error = verifier.verify_server_cert(&server, &[], &name, &[], UnixTime::now()).unwrap_err();
        let shown = hint(&error).unwrap_or_else(|| panic!("{error:?}"));
        assert!(shown.contains("P-521"));
    }

    #[test]
    fn a_certificate_among_the_authorities_that_can_not_be_read_is_ignored() {
        let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        configured("{}", &format!("{broken}{P521}")).unwrap();
        assert!(configured("{}", broken).unwrap_err().contains("certificate-authority"));
    }
}
