//! The packets with which a connection begins, in both directions: the server's greeting (`HandshakeV10`), the
//! request for TLS and the client's answer (`HandshakeResponse41`)
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection>).

use bytes::{BufMut, BytesMut};
use zeroize::Zeroizing;

use super::capability::Capabilities;
use super::packet::{put_bytes, put_string, take, take_bytes, take_number, take_string};
use crate::model::limits;
use crate::protocol::session::WireError;

/// Bytes of the nonce that a greeting has room for.
pub const NONCE_BYTES: usize = 20;
/// The part of it that stands ahead of the capabilities.
const NONCE_FRONT: usize = 8;
/// The only version of the greeting since MySQL 3.21.
const VERSION: u8 = 10;

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    pub thread: u32,
    pub nonce: [u8; NONCE_BYTES],
    pub capabilities: Capabilities,
    /// The low byte of its collation's number.
    pub collation: u8,
    pub status: u16,
    /// The method that the nonce is for.
    pub plugin: String,
}

impl Greeting {
    pub fn put(&self, out: &mut BytesMut) {
        let bits = self.capabilities.0.to_le_bytes();
        out.put_u8(VERSION);
        put_string(out, self.version.as_bytes());
        out.put_u32_le(self.thread);
        out.put_slice(&self.nonce[..NONCE_FRONT]);
        out.put_u8(0);
        out.put_slice(&bits[..2]);
        out.put_u8(self.collation);
        out.put_u16_le(self.status);
        out.put_slice(&bits[2..4]);
        out.put_u8(NONCE_BYTES as u8 + 1);
        out.put_bytes(0, 6);
        // MariaDB's own, where it says by a missing bit that they are there; zeros in MySQL's.
        out.put_slice(&bits[4..]);
        out.put_slice(&self.nonce[NONCE_FRONT..]);
        out.put_u8(0);
        put_string(out, self.plugin.as_bytes());
    }

    /// Reads a greeting of version 10 of a server that knows how methods are agreed on (since 5.5).
    pub fn parse(mut body: &[u8]) -> Result<Self, WireError> {
        const PLACE: &str = "greeting";
        match take(&mut body) {
            Some([VERSION]) => {}
            _ => return Err(WireError::new(PLACE, "not of version 10: this is no MySQL or MariaDB server")),
        }
        Self::parse_10(body).ok_or(WireError::new(PLACE, "malformed, or of a server before 5.5"))
    }

    fn parse_10(mut body: &[u8]) -> Option<Self> {
        let body = &mut body;
        let version = take_string(body).filter(|text| text.len() <= limits::SERVER_VERSION_BYTES_MAX)?;
        // It is repeated to clients, in logs and as one line of text.
        let version = String::from_utf8(version.to_vec()).ok()?;
        if version.contains(char::is_control) {
            return None;
        }
        let thread = u32::from_le_bytes(take(body)?);
        let mut nonce = [0; NONCE_BYTES];
        nonce[..NONCE_FRONT].copy_from_slice(&take::<NONCE_FRONT>(body)?);
        let [_] = take(body)?;
        let low: [u8; 2] = take(body)?;
        let [collation] = take(body)?;
        let status = u16::from_le_bytes(take(body)?);
        let high: [u8; 2] = take(body)?;
        let [nonce_bytes] = take(body)?;
        let _: [u8; 6] = take(body)?;
        let own: [u8; 4] = take(body)?;
        let low = u32::from_le_bytes([low[0], low[1], high[0], high[1]]);
        let mut capabilities = Capabilities(low.into());
        if !capabilities.has(Capabilities::LONG_PASSWORD) {
            capabilities |= Capabilities(u64::from(u32::from_le_bytes(own)) << 32);
        }
        // The nonce has at least 12 more bytes and a zero byte, whatever its length says.
        let rest = usize::from(nonce_bytes).saturating_sub(NONCE_FRONT).max(13);
        let rest = body.split_off(..rest)?;
        nonce[NONCE_FRONT..].copy_from_slice(rest.get(..NONCE_BYTES - NONCE_FRONT)?);
        if !capabilities.has(Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION) {
            return None;
        }
        let plugin = match capabilities.has(Capabilities::PLUGIN_AUTH) {
            // 5.5.7 to 5.5.9 forgot the zero byte.
            true => take_string(body).unwrap_or(body),
            false => return None,
        };
        let plugin = String::from_utf8(plugin.to_vec()).ok()?;
        Some(Self { version, thread, nonce, capabilities, collation, status, plugin })
    }
}

/// The fixed part of what a client says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub capabilities: Capabilities,
    /// The longest packet that it takes.
    pub packet_bytes: u32,
    pub collation: u8,
}

impl Request {
    pub fn put(self, out: &mut BytesMut) {
        let bits = self.capabilities.0.to_le_bytes();
        out.put_slice(&bits[..4]);
        out.put_u32_le(self.packet_bytes);
        out.put_u8(self.collation);
        out.put_bytes(0, 19);
        out.put_slice(&bits[4..]);
    }

    /// What a client says, as far as it was offered: a field whose capability was not is not there, whatever the
    /// client claims (MariaDB's library goes by the server's words).
    fn take(body: &mut &[u8], offered: Capabilities) -> Option<Self> {
        let low = u32::from_le_bytes(take(body)?);
        let packet_bytes = u32::from_le_bytes(take(body)?);
        let [collation] = take(body)?;
        let _: [u8; 19] = take(body)?;
        let own = u32::from_le_bytes(take(body)?);
        let mut capabilities = Capabilities(low.into());
        if !(offered | capabilities).has(Capabilities::LONG_PASSWORD) {
            capabilities |= Capabilities(u64::from(own) << 32);
        }
        Some(Self { capabilities: capabilities & offered, packet_bytes, collation })
    }
}

/// What a client says first, outside TLS or within.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// It wants TLS, and says the rest within.
    Tls(Request),
    Response(Box<Response>),
    /// It speaks the protocol before 4.1.
    Old,
}

/// A client's answer to the greeting. A claim: nothing of it is used before the login is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub request: Request,
    pub user: Vec<u8>,
    pub proof: Zeroizing<Vec<u8>>,
    pub database: Option<Vec<u8>>,
    /// The method that the proof is of; empty where the client did not say.
    pub plugin: Vec<u8>,
    pub attributes: Vec<(String, String)>,
    /// The level of its zstd.
    pub zstd_level: u8,
}

impl Opening {
    pub fn parse(body: &[u8], offered: Capabilities) -> Result<Self, WireError> {
        const PLACE: &str = "answer to the greeting";
        let low = body.first_chunk::<2>().ok_or(WireError::new(PLACE, "too short"))?;
        if !Capabilities(u16::from_le_bytes(*low).into()).has(Capabilities::PROTOCOL_41) {
            return Ok(Self::Old);
        }
        let mut rest = body;
        let request = Request::take(&mut rest, offered).ok_or(WireError::new(PLACE, "too short"))?;
        if rest.is_empty() && request.capabilities.has(Capabilities::SSL) {
            return Ok(Self::Tls(request));
        }
        let response = Response::take(rest, request).ok_or(WireError::new(PLACE, "malformed"))?;
        Ok(Self::Response(Box::new(response)))
    }
}

impl Response {
    pub fn put(&self, out: &mut BytesMut) {
        let has = |one| self.request.capabilities.has(one);
        self.request.put(out);
        put_string(out, &self.user);
        match has(Capabilities::PLUGIN_AUTH_LENENC) {
            true => put_bytes(out, &self.proof),
            false => {
                // Every proof but a long password in clear fits.
                let proof = &self.proof[..self.proof.len().min(usize::from(u8::MAX))];
                out.put_u8(proof.len() as u8);
                out.put_slice(proof);
            }
        }
        if has(Capabilities::CONNECT_WITH_DB) {
            put_string(out, self.database.as_deref().unwrap_or_default());
        }
        if has(Capabilities::PLUGIN_AUTH) {
            put_string(out, &self.plugin);
        }
        if has(Capabilities::CONNECT_ATTRS) {
            let mut attributes = BytesMut::new();
            for (name, value) in &self.attributes {
                put_bytes(&mut attributes, name.as_bytes());
                put_bytes(&mut attributes, value.as_bytes());
            }
            put_bytes(out, &attributes);
        }
        if has(Capabilities::ZSTD) {
            out.put_u8(self.zstd_level);
        }
    }

    fn take(mut body: &[u8], request: Request) -> Option<Self> {
        let body = &mut body;
        let has = |one| request.capabilities.has(one);
        let user = take_string(body)?.to_vec();
        let proof = match () {
            () if has(Capabilities::PLUGIN_AUTH_LENENC) => take_bytes(body)?,
            () if has(Capabilities::SECURE_CONNECTION) => {
                let [length] = take(body)?;
                body.split_off(..usize::from(length))?
            }
            () => take_string(body)?,
        };
        let database = match has(Capabilities::CONNECT_WITH_DB) {
            // Some clients leave the zero byte out of what comes last.
            true => Some(take_string(body).unwrap_or_else(|| std::mem::take(body))),
            false => None,
        };
        let plugin = match has(Capabilities::PLUGIN_AUTH) {
            true => take_string(body).unwrap_or_else(|| std::mem::take(body)),
            false => &[],
        };
        let attributes = match has(Capabilities::CONNECT_ATTRS) && !body.is_empty() {
            true => attributes(take_bytes(body)?)?,
            false => Vec::new(),
        };
        let zstd_level = match has(Capabilities::ZSTD) {
            true => take(body).map_or(0, |[level]| level),
            false => 0,
        };
        Some(Self {
            request,
            user,
            proof: proof.to_vec().into(),
            database: database.filter(|name| !name.is_empty()).map(<[u8]>::to_vec),
            plugin: plugin.to_vec(),
            attributes,
            zstd_level,
        })
    }
}

/// `COM_CHANGE_USER`: who the client wants to be from now on. A claim, like the answer to a greeting.
#[derive(Debug, PartialEq, Eq)]
pub struct ChangeUser {
    pub response: Response,
    /// The number of the collation, which has more room here; 0 where the client leaves it to the server.
    pub collation: u16,
}

impl ChangeUser {
    /// Reads what follows the command's byte. `agreed`: what the two ends agreed to when they met.
    pub fn parse(body: &[u8], agreed: Capabilities) -> Result<Self, WireError> {
        Self::take(body, agreed).ok_or(WireError::new("CHANGE_USER", "malformed"))
    }

    fn take(mut body: &[u8], agreed: Capabilities) -> Option<Self> {
        let body = &mut body;
        let user = take_string(body)?.to_vec();
        let [length] = take(body)?;
        let proof = body.split_off(..usize::from(length))?.to_vec().into();
        // Some clients leave the zero byte out of what comes last, and what follows it altogether.
        let database = take_string(body).unwrap_or_else(|| std::mem::take(body));
        let collation = take(body).map_or(0, u16::from_le_bytes);
        let plugin = take_string(body).unwrap_or_else(|| std::mem::take(body)).to_vec();
        let attributes = match agreed.has(Capabilities::CONNECT_ATTRS) && !body.is_empty() {
            true => attributes(take_bytes(body)?)?,
            false => Vec::new(),
        };
        let [low, _] = collation.to_le_bytes();
        let response = Response {
            request: Request { capabilities: agreed, packet_bytes: 0, collation: low },
            user,
            proof,
            database: Some(database).filter(|name| !name.is_empty()).map(<[u8]>::to_vec),
            plugin,
            attributes,
            zstd_level: 0,
        };
        Some(Self { response, collation })
    }
}

/// Pairs of names and values; of more than we carry the first.
pub fn attributes(mut body: &[u8]) -> Option<Vec<(String, String)>> {
    let mut attributes = Vec::new();
    while !body.is_empty() {
        let name = take_bytes(&mut body)?;
        let value = take_bytes(&mut body)?;
        if attributes.len() < limits::SETTINGS_MAX {
            attributes.push((lossy(name), lossy(value)));
        }
    }
    Some(attributes)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// `AuthSwitchRequest`: another method, and what the server says first by it.
pub fn put_switch(out: &mut BytesMut, plugin: &str, data: &[u8]) {
    out.put_u8(super::packet::EOF);
    put_string(out, plugin.as_bytes());
    out.put_slice(data);
}

/// What an `AuthSwitchRequest` says, behind its first byte. `None`: it is the one of servers before 4.1, or
/// malformed.
pub fn switch(mut body: &[u8]) -> Option<(&[u8], &[u8])> {
    let plugin = take_string(&mut body)?;
    Some((plugin, body))
}

/// The status flags of an OK packet, behind its first byte.
pub fn ok_status(mut body: &[u8]) -> Option<u16> {
    take_number(&mut body)?;
    take_number(&mut body)?;
    take(&mut body).map(u16::from_le_bytes)
}
