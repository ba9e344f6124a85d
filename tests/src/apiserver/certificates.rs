use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The names and addresses that certificates of servers are for.
const SERVER_NAMES: &[&str] = &["localhost", "api.cluster.test", "proxy.cluster.test", "127.0.0.1", "::1"];

/// A certificate authority that lives as long as a test.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
}

/// A certificate and its key.
pub(super) struct Certificate {
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
    pub(super) key_pem: String,
    pub(super) key_der: Vec<u8>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = params(name, SERVER_NAMES);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate authority");
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for a server.
    pub(super) fn server(&self) -> Certificate {
        self.issue("kube-apiserver", SERVER_NAMES, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The authority's own certificate, with which it can be a server, too.
    pub(super) fn itself(&self) -> Certificate {
        let key = self.issuer.key();
        Certificate {
            pem: self.pem.clone(),
            der: self.der.clone(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }

    /// A certificate that a client logs in with.
    pub(super) fn client(&self, user: &str) -> Certificate {
        self.issue(user, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Certificate {
        let mut params = params(name, names);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names and addresses");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
