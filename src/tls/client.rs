//! What a client's certificate says, once TLS has verified it.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::{ClientCertificate, Name, Time, Window, limits};

/// Where in a certificate the user's name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameFrom {
    /// The one common name of the subject, as PostgreSQL's `cert` method reads it.
    #[default]
    CommonName,
    /// The one DNS name among the subject's alternative names.
    Dns,
}

/// Reads a certificate (DER). `None`: it cannot be read, so nobody is named and nothing is known of its end.
pub(super) fn read(certificate: &[u8], name_from: NameFrom) -> Option<Arc<ClientCertificate>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    let start = Time::from_second(validity.not_before.timestamp()).ok()?;
    // The last second is part of it.
    let end = Time::from_second(validity.not_after.timestamp().checked_add(1)?).unwrap_or(Time::MAX);
    let digest = Sha256::digest(certificate);
    Some(Arc::new(ClientCertificate {
        name: name(&parsed, name_from),
        window: Window { start, end },
        serial: parsed.raw_serial_as_string().chars().take(limits::NAME_BYTES_MAX).collect(),
        issuer: parsed.issuer().to_string().chars().take(limits::ISSUER_CHARS_MAX).collect(),
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    }))
}

/// The one name there; of several nobody can say which is meant.
fn name(certificate: &X509Certificate<'_>, name_from: NameFrom) -> Option<Name> {
    let names: Vec<&str> = match name_from {
        NameFrom::CommonName => {
            let names = certificate.subject().iter_common_name();
            names.map(|name| name.as_str().unwrap_or_default()).collect()
        }
        NameFrom::Dns => {
            let names = certificate.subject_alternative_name().ok()??;
            let names = names.value.general_names.iter();
            names
                .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
                .collect()
        }
    };
    match names[..] {
        [name] => Name::parse(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn named(common: &[&str], dns: &[&str], from: NameFrom) -> Option<String> {
        let mut params =
            CertificateParams::new(dns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.distinguished_name.push(DnType::OrganizationName, "us");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        read(certificate.der(), from).unwrap().name.as_ref().map(ToString::to_string)
    }

    #[test]
    fn a_certificate_names_one_user_or_nobody() {
        let (common, dns) = (NameFrom::CommonName, NameFrom::Dns);
        assert_eq!(named(&["alice"], &["bob"], common).as_deref(), Some("alice"));
        assert_eq!(named(&["alice"], &["bob"], dns).as_deref(), Some("bob"));
        assert_eq!(named(&[], &["bob"], common), None);
        assert_eq!(named(&["alice"], &[], dns), None);
        assert_eq!(named(&["alice"], &["bob", "carol"], dns), None);
        for odd in ["", "Alice", "alice ", "alice\0", "alice\0.example", "alice@orders", "alice+admin"] {
            assert_eq!(named(&[odd], &[], common), None, "{odd:?}");
        }
    }

    #[test]
    fn the_last_second_of_a_certificate_is_part_of_it() {
        let mut params = CertificateParams::new(vec!["alice".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = read(certificate.der(), NameFrom::Dns).unwrap();
        assert_eq!(read.window.start, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(read.window.end, "2026-02-01T00:00:01Z".parse().unwrap());
        assert_eq!(read.sha256.len(), 64);
        assert!(super::read(b"", NameFrom::Dns).is_none());
    }
}
