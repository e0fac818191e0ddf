//! How a client reaches a target: the listeners that lead there, and what the certificate says about
//! host names and issuers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use crate::admin::Admin;
use crate::admin::answer::{Params, Problem};
use crate::admin::body::{ConnectAnswer, ConnectParams, Door};
use crate::admin::targets;
use crate::config::ListenAddress;
use crate::proxy::{ListenerStatus, ListenerTlsStatus};

/// A chain file is some kilobytes.
const CHAIN_BYTES_MAX: u64 = 1 << 20;

pub(super) async fn connect(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<ConnectParams>,
) -> Result<Json<ConnectAnswer>, Problem> {
    let book = admin.ledger.book();
    let target = book.target(params.target.as_str()).ok_or_else(|| targets::unknown(&params.target))?;
    let node = admin.node.status();
    let chain = node.certificate.as_deref().and_then(read_chain);
    let mut doors: Vec<_> = node
        .listeners
        .iter()
        .filter(|listener| listener.protocol == target.protocol)
        .filter(|listener| listener.target.as_ref().is_none_or(|only| *only == target.name))
        .map(|listener| door(listener, chain.as_ref()))
        .collect();
    doors.sort_by_key(|door| door.name_target);
    Ok(Json(ConnectAnswer {
        target: target.name.clone(),
        protocol: target.protocol.clone(),
        database: target.database.clone(),
        levels: target.connectors.keys().cloned().collect(),
        details: target.details.clone(),
        doors,
    }))
}

/// What a client must know of the listeners' certificate.
#[derive(Debug, Default)]
struct Chain {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// `Some` where the file ends in a root of its own: a private CA, and the file to trust.
    root_file: Option<String>,
    issuer: String,
}

fn read_chain(path: &Path) -> Option<Chain> {
    use std::io::Read;
    let mut pem = Vec::new();
    std::fs::File::open(path).ok()?.take(CHAIN_BYTES_MAX).read_to_end(&mut pem).ok()?;
    let mut chain = parse_chain(&pem)?;
    chain.root_file = chain.root_file.map(|_| path.display().to_string());
    Some(chain)
}

fn parse_chain(pem: &[u8]) -> Option<Chain> {
    let blocks: Vec<Pem> = Pem::iter_from_buffer(pem).filter_map(Result::ok).collect();
    let certificates: Vec<X509Certificate<'_>> =
        blocks.iter().filter_map(|block| block.parse_x509().ok()).collect();
    let (leaf, last) = (certificates.first()?, certificates.last()?);
    let mut chain = Chain { issuer: leaf.issuer().to_string(), ..Chain::default() };
    if last.issuer() == last.subject() {
        chain.root_file = Some(String::new());
    }
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) if !name.starts_with('*') => chain.names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => chain.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Some(chain)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn door(listener: &ListenerStatus, chain: Option<&Chain>) -> Door {
    let chain = chain.filter(|_| listener.tls != ListenerTlsStatus::Off);
    let (host, port) = match &listener.address {
        ListenAddress::Tcp(address) => (host(*address, chain), address.port()),
        ListenAddress::Unix(path) => socket(path, &listener.protocol),
    };
    Door {
        listener: listener.name.clone(),
        host,
        port,
        name_target: listener.target.is_none(),
        sslmode: if chain.is_some() { "verify-full" } else { "disable" }.to_owned(),
        sslrootcert: chain.map(|chain| chain.root_file.clone().unwrap_or_else(|| "system".to_owned())),
        issuer: chain.map(|chain| chain.issuer.clone()),
    }
}

/// What clients find a socket by: its folder and a port, which its name ends in, or the file itself.
fn socket(path: &Path, protocol: &str) -> (String, u16) {
    if crate::protocol::by_name(protocol).is_some_and(|protocol| protocol.socket_name.is_none()) {
        return (path.display().to_string(), 0);
    }
    let folder = path.parent().unwrap_or(Path::new("/")).display().to_string();
    let port = path.extension().and_then(|port| port.to_str()?.parse().ok()).unwrap_or_default();
    (folder, port)
}

/// A name that a client can both reach and find in the certificate, as far as that is known here.
fn host(listening: SocketAddr, chain: Option<&Chain>) -> String {
    let ip = listening.ip();
    let names = chain.map(|chain| chain.names.as_slice()).unwrap_or_default();
    let named = |ip: &IpAddr| chain.is_some_and(|chain| chain.addresses.contains(ip));
    if ip.is_loopback() {
        // libpq before 15 does not look for addresses in a certificate, so the name is better.
        return match names.iter().find(|name| *name == "localhost") {
            Some(name) => name.clone(),
            None => ip.to_string(),
        };
    }
    if named(&ip) {
        return ip.to_string();
    }
    match names.first() {
        Some(name) => name.clone(),
        // Listening everywhere and no name known: at least from this machine it can be reached.
        None if ip.is_unspecified() => "localhost".to_owned(),
        None => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, tls: ListenerTlsStatus) -> ListenerStatus {
        let address = address.parse().unwrap();
        ListenerStatus { name: "pg".into(), address, protocol: "postgres".into(), target: None, tls }
    }

    fn chain(names: &[&str], private: bool) -> Chain {
        let mut ca = rcgen::CertificateParams::new([]).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "our own CA");
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let root = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let leaf = params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap();
        let mut pem = leaf.pem();
        if private {
            pem += &root.pem();
        }
        parse_chain(pem.as_bytes()).unwrap()
    }

    #[test]
    fn the_host_is_one_that_the_certificate_names() {
        let known = chain(&["db.example.com", "*.example.com", "10.0.0.7"], false);
        assert_eq!(host("0.0.0.0:6432".parse().unwrap(), Some(&known)), "db.example.com");
        assert_eq!(host("10.0.0.7:6432".parse().unwrap(), Some(&known)), "10.0.0.7");
        assert_eq!(host("10.0.0.8:6432".parse().unwrap(), Some(&known)), "db.example.com");
        assert_eq!(host("10.0.0.8:6432".parse().unwrap(), None), "10.0.0.8");
        let local = chain(&["localhost"], true);
        assert_eq!(host("127.0.0.1:6432".parse().unwrap(), Some(&local)), "localhost");
        let address = chain(&["127.0.0.1"], true);
        assert_eq!(host("127.0.0.1:6432".parse().unwrap(), Some(&address)), "127.0.0.1");
    }

    #[test]
    fn a_socket_is_found_by_its_folder_and_port() {
        let seen = door(&listener("unix:/run/tidegate/.s.PGSQL.6432", ListenerTlsStatus::Off), None);
        assert_eq!(
            (seen.host.as_str(), seen.port, seen.sslmode.as_str()),
            ("/run/tidegate", 6432, "disable")
        );
    }

    #[test]
    fn a_private_ca_is_trusted_by_its_file() {
        let mut private = chain(&["localhost"], true);
        assert!(private.root_file.is_some() && private.issuer.contains("our own CA"));
        private.root_file = Some("tls/server.pem".into());
        let seen = door(&listener("127.0.0.1:1", ListenerTlsStatus::Require), Some(&private));
        assert_eq!(
            (seen.sslmode.as_str(), seen.sslrootcert.as_deref()),
            ("verify-full", Some("tls/server.pem"))
        );
        let public = chain(&["localhost"], false);
        let seen = door(&listener("127.0.0.1:1", ListenerTlsStatus::Optional), Some(&public));
        assert_eq!((seen.sslmode.as_str(), seen.sslrootcert.as_deref()), ("verify-full", Some("system")));
        let seen = door(&listener("127.0.0.1:1", ListenerTlsStatus::Off), Some(&public));
        assert_eq!((seen.sslmode.as_str(), seen.sslrootcert), ("disable", None));
    }
}
