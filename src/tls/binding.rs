//! Channel binding: what both ends of a TLS connection can say of its certificate, so that a proof inside
//! it is of no use on another connection.

use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// `tls-server-end-point` (RFC 5929, section 4.1): the hash of the server's certificate, by the hash
/// function of the certificate's own signature, or SHA-256 where that is MD5 or SHA-1. `None`: the
/// signature has no single hash function (Ed25519) or one that we do not know, and the binding is not
/// defined.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = match SignatureAlgorithm::try_from(&parsed.signature_algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(parameters) => hash_of(&parameters.hash_algorithm_oid().to_id_string())?,
        _ => hash_of(&oid(&parsed.signature_algorithm.algorithm))?,
    };
    Some(match hash {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

fn oid(oid: &Oid<'_>) -> String {
    oid.to_id_string()
}

/// The hash functions by themselves (in the parameters of RSASSA-PSS), and the signatures that use them.
fn hash_of(oid: &str) -> Option<Hash> {
    Some(match oid {
        // MD5 and SHA-1: the RFC puts SHA-256 in their place.
        "1.2.840.113549.2.5" | "1.2.840.113549.1.1.4" | "1.3.14.3.2.26" | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1" => Hash::Sha256,
        // SHA-256: alone, with RSA, with ECDSA, with DSA.
        "2.16.840.1.101.3.4.2.1" | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2"
        | "2.16.840.1.101.3.4.3.2" => Hash::Sha256,
        "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Hash::Sha384,
        "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Hash::Sha512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn signed_by(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["db.example.com".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_certificates_own_signature() {
        let p256 = signed_by(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point(&p256), Some(Sha256::digest(&p256).to_vec()));
        let p384 = signed_by(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&p384), Some(Sha384::digest(&p384).to_vec()));
        assert_eq!(end_point(&signed_by(&rcgen::PKCS_ED25519)), None, "it is not defined there");
        assert_eq!(end_point(b"no certificate"), None);
    }
}
