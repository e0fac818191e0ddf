//! `[[listener]]` of the node file: the addresses that clients connect to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::node::{Reader, name_of, narrow};
use super::table::{Table, Value};
use crate::model::Name;
use crate::tls::{ClientCheck, NameFrom};

/// `sun_path` has 108 bytes and ends with a zero; one more is for the name under which the socket is made.
const SOCKET_BYTES_MAX: usize = 106;
/// What drivers have room for; MySQL's own buffer has as many (`SERVER_VERSION_LENGTH`).
const VERSION_BYTES_MAX: usize = 60;

/// One address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address where the file gives no name.
    pub name: String,
    pub address: ListenAddress,
    /// A name of the protocol registry.
    pub protocol: String,
    /// `None`: the client names the target.
    pub target: Option<Name>,
    pub tls: ListenerTls,
    pub connections_max: u32,
    /// What follows the target in a TLS server name, in lower case and with its first dot.
    pub server_name_suffix: Option<Arc<str>>,
    /// `None`: clients are not asked for a certificate.
    pub client_certificates: Option<ClientCertificates>,
    /// What clients are greeted with while nothing is known of a server, where the server speaks first.
    pub server_version: Option<Arc<str>>,
    /// Clients that name mysql_native_password may prove by it, and credentials issued from now on can.
    pub mysql_native_password: bool,
    /// Who connects from here brings a PROXY header and is believed; nobody else's is read.
    pub proxy_from: Vec<IpNet>,
    pub socket: SocketFile,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether clients must use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerTls {
    /// A client that asks for TLS is told that there is none.
    Off,
    Optional,
    Require,
}

/// Clients are asked for a certificate, and one that is verified logs in whom it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Nobody logs in without.
    pub required: bool,
    pub check: ClientCheck,
}

/// Who may open a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketFile {
    pub mode: u32,
    /// `None`: the process's own group.
    pub gid: Option<u32>,
}

impl Default for SocketFile {
    fn default() -> Self {
        Self { mode: 0o660, gid: None }
    }
}

impl ListenAddress {
    /// Whether nobody but this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "must be an IP address and a port, such as \"127.0.0.1:6432\", \"0.0.0.0:6432\" or \
                 \"[::1]:6432\", or a socket, such as \"unix:/run/tidegate/.s.PGSQL.6432\""
                    .to_owned()
            }),
        }
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Reader<'_> {
    pub(super) fn listeners(&self, root: &Table<'_>, tls_there: bool) -> Vec<Listener> {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut addresses: BTreeMap<ListenAddress, String> = BTreeMap::new();
        let listeners = root.list("listener", |table| {
            let listener = self.listener(table, tls_there)?;
            if let Some(first) = names.insert(listener.name.clone(), table.place()) {
                table.mistake("name", format!("a second listener of this name; the first is at {first}"));
            }
            // Port 0 is another port each time.
            if !matches!(&listener.address, ListenAddress::Tcp(address) if address.port() == 0)
                && let Some(first) = addresses.insert(listener.address.clone(), table.place())
            {
                table.mistake(
                    "address",
                    format!("a second listener on this address; the first is at {first}"),
                );
            }
            Some(listener)
        });
        if !root.has("listener") {
            root.mistake("", "there is no [[listener]]; at least one is needed");
        }
        listeners
    }

    fn listener(&self, table: &Table<'_>, tls_there: bool) -> Option<Listener> {
        let spoken =
            table.value("protocol").and_then(|value| value.text().ok().and_then(crate::protocol::by_name));
        let socket_name = spoken.and_then(|protocol| protocol.socket_name);
        let address =
            table.need("address", "\"127.0.0.1:6432\"", |value| self.listen_address(value, socket_name));
        let protocol = table.need("protocol", "\"postgres\"", |value| {
            let text = value.text()?;
            super::checks::protocol(text, self.known).map(|()| text.to_owned())
        });
        let name = table.read("name", |value| name_of(value).map(String::from));
        let tls = listener_tls(table, address.as_ref(), tls_there);
        let target = table.read("target", name_of);
        let connections_max = table.read_or("max_connections", 10_000, |value| narrow(value, 1, 1_000_000));
        let server_name_suffix = table.read("server_name_suffix", server_name_suffix);
        let client_certificates = self.client_certificates(table);
        let server_version = table.read("server_version", server_version);
        if table.has("server_version") && spoken.is_some_and(|protocol| !protocol.greets) {
            table.mistake(
                "server_version",
                "has no effect: clients of this protocol speak first; take it out",
            );
        }
        let mysql_native_password =
            table.read_or("mysql_native_password", false, |value| match value.text()? {
                "off" => Ok(false),
                "offer" => Ok(true),
                _ => Err("must be \"off\" or \"offer\"".to_owned()),
            });
        if mysql_native_password && spoken.is_some_and(|protocol| protocol.name != "mysql") {
            table.mistake("mysql_native_password", "is for protocol = \"mysql\"; take it out");
        }
        let socket = socket_file(table, address.as_ref());
        let proxy_from = if table.has("proxy_protocol") {
            table.section("proxy_protocol", |table| {
                table.need("from", "[\"10.0.0.0/8\"]", networks).unwrap_or_default()
            })
        } else {
            Vec::new()
        };
        let unix = matches!(address, Some(ListenAddress::Unix(_)));
        if unix && !proxy_from.is_empty() {
            table.mistake("proxy_protocol", "is for TCP: nobody connects to a unix socket from a network");
        }
        if tls == Some(ListenerTls::Off) {
            let asked = [
                ("server_name_suffix", server_name_suffix.is_some()),
                ("client_certificates", client_certificates.is_some()),
            ];
            for (key, _) in asked.iter().filter(|(_, asked)| *asked) {
                table.mistake(key, "needs TLS: set tls to \"require\" or \"optional\"");
            }
        }
        let address = address?;
        Some(Listener {
            name: name.unwrap_or_else(|| address.to_string()),
            address,
            protocol: protocol?,
            target,
            tls: tls?,
            connections_max,
            server_name_suffix,
            client_certificates,
            server_version,
            mysql_native_password,
            proxy_from,
            socket,
        })
    }

    /// `socket_name`: what stands before the port in the name of a socket, where clients look for that.
    fn listen_address(&self, value: &Value<'_>, socket_name: Option<&str>) -> Result<ListenAddress, String> {
        let ListenAddress::Unix(path) = value.text()?.parse()? else { return value.text()?.parse() };
        let path = self.base.join(path);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
        if let Some(before) = socket_name
            && !name.strip_prefix(before).is_some_and(is_port)
        {
            return Err(format!(
                "the file must be called {before}PORT, such as {before}6432: clients look for that name"
            ));
        }
        if path.as_os_str().len() > SOCKET_BYTES_MAX {
            return Err(format!(
                "{} is longer than the {SOCKET_BYTES_MAX} bytes that the address of a socket may have",
                path.display()
            ));
        }
        Ok(ListenAddress::Unix(path))
    }

    fn client_certificates(&self, table: &Table<'_>) -> Option<ClientCertificates> {
        let required = table.read_or("client_certificates", None, |value| match value.text()? {
            "off" => Ok(None),
            "optional" => Ok(Some(false)),
            "require" => Ok(Some(true)),
            _ => Err("must be \"off\", \"optional\" (a certificate or a secret) or \"require\"".to_owned()),
        });
        let file = |value: &Value<'_>| {
            let path = self.resolve(value)?;
            if self.look {
                std::fs::File::open(&path).map_err(|error| format!("cannot be read: {error}"))?;
            }
            Ok(path)
        };
        let ca = table.read("client_ca", file);
        let crl = table.read("client_crl", file);
        let name_from = table.read_or("client_name", NameFrom::default(), |value| match value.text()? {
            "cn" => Ok(NameFrom::CommonName),
            "dns" => Ok(NameFrom::Dns),
            _ => {
                Err("must be \"cn\" (the common name) or \"dns\" (the DNS name in subjectAltName)".to_owned())
            }
        });
        if required.is_none() {
            for key in ["client_ca", "client_crl", "client_name"] {
                if table.has(key) {
                    let what = "has no effect: set client_certificates to \"optional\" or \"require\", or take it out";
                    table.mistake(key, what);
                }
            }
        } else if !table.has("client_ca") {
            let what = "needs client_ca, the file with the authority that signs the clients' certificates";
            table.mistake("client_certificates", what);
        }
        Some(ClientCertificates { required: required?, check: ClientCheck { ca: ca?, crl, name_from } })
    }
}

fn networks(value: &Value<'_>) -> Result<Vec<IpNet>, String> {
    const RIGHT: &str = "must be networks, such as [\"10.0.0.0/8\", \"2001:db8::7/128\"]";
    let networks = value.texts(|text| text.parse::<IpNet>().map_err(|_| RIGHT.to_owned()))?;
    match networks.iter().find(|network| network.prefix_len() == 0) {
        Some(network) => Err(format!(
            "{network} is everybody: whoever connects could say to be anywhere; name the balancers"
        )),
        None if networks.is_empty() => Err(RIGHT.to_owned()),
        None => Ok(networks),
    }
}

/// `.db.example.com`: it begins with a dot, and what it ends is a DNS name.
fn server_name_suffix(value: &Value<'_>) -> Result<Arc<str>, String> {
    let text = value.text()?.to_ascii_lowercase();
    let labels = text.strip_prefix('.').map(|rest| rest.split('.').collect::<Vec<_>>()).unwrap_or_default();
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match !labels.is_empty() && labels.iter().all(is_label) {
        true => Ok(text.into()),
        false => Err("must be what follows the target in the names that clients connect to, with its dot: \
                      \".db.example.com\" makes orders.db.example.com lead to orders"
            .to_owned()),
    }
}

fn server_version(value: &Value<'_>) -> Result<Arc<str>, String> {
    let text = value.text()?;
    let begins = text.starts_with(|first: char| first.is_ascii_digit());
    match begins && text.len() <= VERSION_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => {
            Err("must be a version as servers say it, such as \"8.4.0\" or \"5.5.5-10.11.6-MariaDB\""
                .to_owned())
        }
    }
}

fn socket_file(table: &Table<'_>, address: Option<&ListenAddress>) -> SocketFile {
    let default = SocketFile::default();
    let mode = table.read_or("socket_mode", default.mode, |value| {
        narrow(value, 0, 0o777).map_err(|_| "must be a mode, such as 0o660".to_owned())
    });
    let gid = table.read("socket_gid", |value| narrow(value, 0, u32::MAX - 1));
    if matches!(address, Some(ListenAddress::Tcp(_))) {
        for key in ["socket_mode", "socket_gid"] {
            if table.has(key) {
                table.mistake(key, "is for a unix socket: address = \"unix:/run/tidegate/.s.PGSQL.6432\"");
            }
        }
    }
    SocketFile { mode, gid }
}

/// The default is `require` off loopback; on loopback `optional` where there is a certificate, else `off`.
fn listener_tls(table: &Table<'_>, address: Option<&ListenAddress>, tls_there: bool) -> Option<ListenerTls> {
    let said = table.read("tls", |value| match value.text()? {
        "require" => Ok(ListenerTls::Require),
        "optional" => Ok(ListenerTls::Optional),
        "off" => Ok(ListenerTls::Off),
        _ => Err("must be \"require\", \"optional\" or \"off\"".to_owned()),
    });
    let address = address?;
    if matches!(address, ListenAddress::Unix(_)) {
        if said.is_some_and(|said| said != ListenerTls::Off) {
            table.mistake("tls", "a unix socket has none: what goes through it does not leave the machine");
        }
        return Some(ListenerTls::Off);
    }
    let tls = match said {
        Some(said) => said,
        None if !address.is_local() => ListenerTls::Require,
        None if tls_there => ListenerTls::Optional,
        None => ListenerTls::Off,
    };
    if !address.is_local() && tls != ListenerTls::Require {
        table.mistake(
            "tls",
            "must be \"require\" where the address is not a loopback one: no credential travels in clear",
        );
    } else if tls != ListenerTls::Off && !tls_there {
        table.mistake("tls", "needs a certificate: add [tls] with certificate and key, or listen on 127.0.0.1 with tls = \"off\"");
    }
    Some(tls)
}

#[cfg(test)]
mod tests;
