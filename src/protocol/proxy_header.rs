//! The PROXY protocol, versions 1 and 2: a load balancer says whom it brings
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! The header is the first thing on a connection, and everything behind it is the client's. Whether somebody is
//! believed at all is decided before this is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::session::WireError;
use crate::model::limits;

/// What version 2 begins with. No line of text and no packet of a database protocol does.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// Whom the balancer brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// A client at this address.
    Client(SocketAddr),
    /// The balancer itself (a health check), or somebody whose address it does not know.
    Balancer,
}

fn error(what: &'static str) -> WireError {
    WireError::new("PROXY header", what)
}

/// Reads the header at the front of `input`: whom it brings, and how long it is. `None`: it is not whole yet, and
/// at most [`limits::PROXY_LINE_BYTES_MAX`] or 16 + [`limits::PROXY_HEADER_BYTES_MAX`] bytes of it are still to come.
///
/// # Errors
/// It is no header, or one that breaks the rules. Nothing is guessed.
pub fn parse(input: &[u8]) -> Result<Option<(Brought, usize)>, WireError> {
    const LINE: &[u8] = b"PROXY ";
    let starts = |expected: &[u8]| {
        let count = expected.len().min(input.len());
        input[..count] == expected[..count]
    };
    if starts(SIGNATURE) {
        binary(input)
    } else if starts(LINE) {
        line(input)
    } else {
        Err(error("there is none"))
    }
}

/// Version 1: one line of text.
fn line(input: &[u8]) -> Result<Option<(Brought, usize)>, WireError> {
    let seen = &input[..input.len().min(limits::PROXY_LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        let room = input.len() < limits::PROXY_LINE_BYTES_MAX;
        return if room { Ok(None) } else { Err(error("a line that does not end")) };
    };
    let text = std::str::from_utf8(&seen[..end]).map_err(|_| error("a line that is not text"))?;
    let length = end + 2;
    let mut words = text.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever else the line says is to be ignored.
        return Ok(Some((Brought::Balancer, length)));
    }
    let rest: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = rest[..] else {
        return Err(error("not four words behind the family"));
    };
    let (source, _) = match family {
        "TCP4" => (ip(source.parse::<Ipv4Addr>())?, ip(destination.parse::<Ipv4Addr>())?),
        "TCP6" => (ip(source.parse::<Ipv6Addr>())?, ip(destination.parse::<Ipv6Addr>())?),
        _ => return Err(error("a family other than TCP4, TCP6 and UNKNOWN")),
    };
    port(destination_port)?;
    Ok(Some((client(source, port(source_port)?), length)))
}

fn ip<T: Into<IpAddr>, E>(parsed: Result<T, E>) -> Result<IpAddr, WireError> {
    parsed.map(Into::into).map_err(|_| error("not an address of its family"))
}

/// Decimal, without a sign or leading zeros.
fn port(text: &str) -> Result<u16, WireError> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain).ok_or(error("not a port"))
}

fn client(address: IpAddr, port: u16) -> Brought {
    Brought::Client(SocketAddr::new(address.to_canonical(), port))
}

/// Version 2: binary, with a length.
fn binary(input: &[u8]) -> Result<Option<(Brought, usize)>, WireError> {
    let Some(fixed) = input.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [version_command, family, length @ ..] = &fixed[SIGNATURE.len()..] else {
        return Err(error("a fixed part that is too short"));
    };
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    if length > limits::PROXY_HEADER_BYTES_MAX {
        return Err(error("longer than any that is needed"));
    }
    let total = FIXED_BYTES + length;
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(error("a version or command that is not known")),
    };
    // What the family needs, whether it is used or not.
    let needed = match (is_local, family) {
        (true, _) | (false, 0x00) => 0,
        (false, 0x11) => 12,
        (false, 0x21) => 36,
        (false, 0x31) => 216,
        _ => return Err(error("a family other than TCP and unix streams")),
    };
    if length < needed {
        return Err(error("too short for its family"));
    }
    if input.len() < total {
        return Ok(None);
    }
    let body = &input[FIXED_BYTES..total];
    let brought = match needed {
        12 => address(body.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)), body.get(8..10)),
        36 => address(body.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)), body.get(32..34)),
        _ => Some(Brought::Balancer),
    };
    // What follows the addresses are additions (TLVs) that we do not need.
    Ok(Some((brought.ok_or(error("too short for its family"))?, total)))
}

fn address(source: Option<IpAddr>, port: Option<&[u8]>) -> Option<Brought> {
    let port = u16::from_be_bytes(port?.try_into().ok()?);
    Some(client(source?, port))
}

/// For the fuzz target: whatever comes, it is the same however it arrives, and never longer than it may be.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_proxy_header(data: &[u8]) {
    let whole = parse(data);
    let mut settled = None;
    for count in 0..=data.len().min(FIXED_BYTES + limits::PROXY_HEADER_BYTES_MAX + 1) {
        match parse(&data[..count]) {
            Ok(None) => {}
            found => {
                settled = Some(found);
                break;
            }
        }
    }
    match settled {
        Some(settled) => {
            assert_eq!(settled, whole, "it depends on how it arrives");
            if let Ok(Some((_, length))) = settled {
                assert!(length <= data.len() && length <= FIXED_BYTES + limits::PROXY_HEADER_BYTES_MAX);
            }
        }
        None => {
            assert_eq!(whole, Ok(None));
            assert!(
                data.len() < FIXED_BYTES + limits::PROXY_HEADER_BYTES_MAX,
                "it waits for more than is allowed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn says(input: &[u8]) -> String {
        match parse(input) {
            Ok(Some((Brought::Client(address), length))) => {
                format!("{address} {}", String::from_utf8_lossy(&input[length..]))
            }
            Ok(Some((Brought::Balancer, length))) => {
                format!("balancer {}", String::from_utf8_lossy(&input[length..]))
            }
            Ok(None) => "more".into(),
            Err(error) => error.what.into(),
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn lines_of_version_1() {
        // Examples of the specification, section 2.1, the longest among them.
        for (line, said) in [
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535 "),
            (
                "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n",
                "192.168.0.1:56324 GET / HTTP/1.1\r\n",
            ),
            (
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 ",
            ),
            (
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                "balancer ",
            ),
            ("PROXY UNKNOWN\r\nx", "balancer x"),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 0 1\r\n", "192.0.2.7:0 "),
        ] {
            assert_eq!(says(line.as_bytes()), said, "{line}");
            let header = line.find("\r\n").unwrap() + 2;
            for count in 0..header {
                assert_eq!(says(&line.as_bytes()[..count]), "more", "{line} {count}");
            }
        }
    }

    #[test]
    fn what_is_no_line_of_version_1_is_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXYTCP4",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
            " PROXY",
            "\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n",
            "PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP6 ::1%eth0 ::1 1 1\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3.4 host 1 1\r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}: {}", says(line.as_bytes()));
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat();
        assert_eq!(endless.len(), limits::PROXY_LINE_BYTES_MAX);
        assert_eq!(says(&endless[..106]), "more");
        assert_eq!(says(&endless), "a line that does not end");
        assert!(parse(b"PROXY UNKNOWN \xff\r\n").is_err());
    }

    #[test]
    fn headers_of_version_2() {
        let four = [&[192, 0, 2, 7, 10, 0, 0, 1][..], &5_432u16.to_be_bytes(), &[0, 1]].concat();
        let six = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], &[0x30, 0x39], &[0, 1]].concat();
        let additions = [&four[..], &[0x04, 0, 1, 0]].concat();
        for (header, said) in [
            (v2(0x21, 0x11, &four), "192.0.2.7:5432 x"),
            (v2(0x21, 0x11, &additions), "192.0.2.7:5432 x"),
            (v2(0x21, 0x21, &six), "[::1]:12345 x"),
            (v2(0x21, 0x31, &[0; 216]), "balancer x"),
            (v2(0x21, 0x00, &[]), "balancer x"),
            (v2(0x21, 0x00, &[1, 2, 3]), "balancer x"),
            // LOCAL: whatever the family, and whatever follows.
            (v2(0x20, 0x00, &[]), "balancer x"),
            (v2(0x20, 0x11, &four), "balancer x"),
            (v2(0x20, 0x77, &[9; 300]), "balancer x"),
        ] {
            let whole = [&header[..], b"x"].concat();
            assert_eq!(says(&whole), said, "{header:?}");
            for count in 0..header.len() {
                assert_eq!(says(&whole[..count]), "more", "{header:?} {count}");
            }
        }
        let long = vec![0; limits::PROXY_HEADER_BYTES_MAX + 1];
        for header in [
            v2(0x22, 0x11, &four),
            v2(0x11, 0x11, &four),
            v2(0x31, 0x11, &four),
            v2(0x21, 0x12, &four),
            v2(0x21, 0x22, &six),
            v2(0x21, 0x32, &[0; 216]),
            v2(0x21, 0x01, &four),
            v2(0x21, 0x10, &four),
            v2(0x21, 0x11, &four[..11]),
            v2(0x21, 0x21, &six[..35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x20, 0x00, &long),
            v2(0x21, 0x11, &long),
        ] {
            assert!(parse(&header).is_err(), "{:?}", &header[..16]);
            // Refused by the fixed part alone: nothing is waited for.
            assert!(parse(&header[..16]).is_err());
        }
        assert!(parse(b"\r\n\r\n\0\r\nQUIT\r").is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(
            start in prop::sample::select(vec![&b"PROXY TCP4 "[..], b"PROXY TCP6 ::", b"PROXY UNKNOWN", &SIGNATURE[..], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b""]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            fuzz_proxy_header(&[start, &rest].concat());
        }
    }
}
