//! `tls-server-end-point`: what SCRAM-SHA-256-PLUS binds a login to
//! (<https://www.rfc-editor.org/rfc/rfc5929#section-4>).

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The hash of a certificate (DER), by the hash of its own signature; SHA-256 in the place of MD5 and SHA-1. `None`
/// where the signature has no hash of its own (Ed25519), for which the RFC defines nothing, or one that we do not
/// know: both sides then do without, as PostgreSQL's do.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = match SignatureAlgorithm::try_from(&parsed.signature_algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => parameters.hash_algorithm_oid().to_id_string(),
        _ => parsed.signature_algorithm.algorithm.to_id_string(),
    };
    Some(match hash.as_str() {
        // md5WithRSA, sha1WithRSA, dsa-with-SHA1, ecdsa-with-SHA1, SHA-1 of PSS.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10040.4.3" | "1.2.840.10045.4.1"
        | "1.3.14.3.2.26"
        // sha256WithRSA, ecdsa-with-SHA256, dsa-with-sha256, SHA-256 of PSS.
        | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.3.2"
        | "2.16.840.1.101.3.4.2.1" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.2.4" => {
            Sha224::digest(certificate).to_vec()
        }
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Sha384::digest(certificate).to_vec()
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Sha512::digest(certificate).to_vec()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_certificates_signature() {
        let of = |algorithm: &'static SignatureAlgorithm| {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let der = CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&key).unwrap();
            (end_point(der.der()), der.der().to_vec())
        };
        let (hash, der) = of(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(hash, Some(Sha256::digest(&der).to_vec()));
        let (hash, der) = of(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(hash, Some(Sha384::digest(&der).to_vec()));
        assert_eq!(of(&rcgen::PKCS_ED25519).0, None);
        assert_eq!(end_point(b""), None);
        assert_eq!(end_point(&der[..der.len() - 1]), None);
    }

    /// RSA-PSS names its hash in parameters, and SHA-1 is replaced: certificates of openssl, whose hashes
    /// `openssl dgst` has confirmed.
    #[test]
    fn certificates_of_another_maker_are_understood() {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let of = |pem: &str| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            (end_point(&der), der.to_vec())
        };
        let (hash, der) = of(include_str!("golden/rsa-pss-sha512.pem"));
        assert_eq!(hash, Some(Sha512::digest(&der).to_vec()));
        let (hash, der) = of(include_str!("golden/rsa-sha1.pem"));
        assert_eq!(hash, Some(Sha256::digest(&der).to_vec()));
    }
}
