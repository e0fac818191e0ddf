//! The target of a request line, read in one way only: each part is decoded once, and what is sent on is made anew from
//! the parts (<https://www.rfc-editor.org/rfc/rfc3986>). Whatever two programs could read in two ways is refused.

use std::fmt::Write;

use crate::model::limits;

/// A request target, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Without the slashes between them; none of `/`.
    pub segments: Vec<String>,
    /// Each name once, in the order in which they came.
    pub query: Vec<(String, String)>,
}

impl Path {
    /// The error says what is wrong, for the client.
    pub fn parse(target: &str) -> Result<Self, &'static str> {
        if target.len() > limits::HTTP_TARGET_BYTES_MAX {
            return Err("the URL is too long");
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the URL holds something that must be encoded");
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = path.strip_prefix('/').ok_or("the URL must begin with a slash")?;
        let segments = match path {
            "" => Vec::new(),
            path => path.split('/').map(segment).collect::<Result<_, _>>()?,
        };
        Ok(Self { segments, query: query.map_or(Ok(Vec::new()), parameters)? })
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The target that is sent on: parsed again it is the same.
    pub fn render(&self) -> String {
        self.write(false)
    }

    /// The same with a `=` behind each name: some servers take a name alone for `true`, and not for nothing.
    pub fn render_valued(&self) -> String {
        self.write(true)
    }

    fn write(&self, valued: bool) -> String {
        let mut text = String::new();
        for segment in &self.segments {
            text.push('/');
            encode(segment, &mut text);
        }
        if text.is_empty() {
            text.push('/');
        }
        for (place, (name, value)) in self.query.iter().enumerate() {
            text.push(if place == 0 { '?' } else { '&' });
            encode(name, &mut text);
            if valued || !value.is_empty() {
                text.push('=');
                encode(value, &mut text);
            }
        }
        text
    }
}

fn segment(raw: &str) -> Result<String, &'static str> {
    // A plus is a space to some servers and itself to others.
    if raw.contains(['#', '+', ';', '\\']) {
        return Err("the path holds a character that must be encoded");
    }
    let text = decode(raw, false)?;
    match text.as_str() {
        "" => Err("the path holds an empty part (// or a slash at its end)"),
        "." | ".." => Err("the path holds . or .."),
        _ => Ok(text),
    }
}

fn parameters(raw: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    if raw.is_empty() {
        return Ok(parameters);
    }
    // Elasticsearch takes a semicolon for an ampersand.
    if raw.contains(['#', '?', ';']) {
        return Err("the query holds a character that must be encoded");
    }
    for part in raw.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decode(name, true)?, decode(value, true)?);
        if name.is_empty() {
            return Err("the query holds a parameter without a name");
        }
        if parameters.iter().any(|(known, _)| *known == name) {
            return Err("the query names a parameter twice");
        }
        if parameters.len() >= limits::HTTP_PARAMETERS_MAX {
            return Err("the query has too many parameters");
        }
        parameters.push((name, value));
    }
    Ok(parameters)
}

/// Percent signs, once. No control characters come out.
fn decode(raw: &str, plus_is_space: bool) -> Result<String, &'static str> {
    const BAD: &str = "the URL holds a % without two hexadecimal digits";
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or(BAD)?, digit().ok_or(BAD)?);
                (high * 16 + low) as u8
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| "the URL is not UTF-8")?;
    match text.contains(char::is_control) {
        true => Err("the URL holds a control character"),
        false => Ok(text),
    }
}

fn encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' | b'*' | b':' => {
                to.push(char::from(byte));
            }
            byte => {
                // Strings take everything.
                let _ = write!(to, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_decoded_once() {
        let path =
            Path::parse("/logs-1/_doc/a%2Fb%252Fc%20%C3%A4?routing=a+b%2B&pretty&q=x%26y%3Dz").unwrap();
        assert_eq!(path.segments, ["logs-1", "_doc", "a/b%2Fc ä"]);
        let query: Vec<_> = path.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(query, [("routing", "a b+"), ("pretty", ""), ("q", "x&y=z")]);
        assert_eq!(path.render(), "/logs-1/_doc/a%2Fb%252Fc%20%C3%A4?routing=a%20b%2B&pretty&q=x%26y%3Dz");
        assert_eq!(path.render_valued().split_once("&pretty=&"), path.render().split_once("&pretty&"));
        assert_eq!(Path::parse("/").unwrap().render(), "/");
        assert_eq!(Path::parse("/a,b*/_search?").unwrap().render(), "/a,b*/_search");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for bad in [
            "",
            "*",
            "a",
            "http://h/a",
            "//a",
            "/a//b",
            "/a/",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/%2E/b",
            "/a/.",
            "/a%00",
            "/a%0a",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/a#b",
            "/a?b#c",
            "/a?b?c",
            "/a?x=1&x=2",
            "/a?x=1&%78=2",
            "/a?=1",
            "/a?&",
            "/a?x=1;y=2",
            "/a;b",
            "/a+b",
            "/a\\b",
            "/a%ff",
            "/a b",
            "/ä",
        ] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
        assert!(Path::parse(&format!("/{}", "a".repeat(limits::HTTP_TARGET_BYTES_MAX))).is_err());
        let many: Vec<_> = (0..=limits::HTTP_PARAMETERS_MAX).map(|n| format!("p{n}=")).collect();
        assert!(Path::parse(&format!("/?{}", many.join("&"))).is_err());
    }

    proptest! {
        #[test]
        fn what_is_sent_on_reads_the_same(target in "/[a-z%2520EF./?&=+,*_-]{0,40}") {
            if let Ok(path) = Path::parse(&target) {
                let sent = path.render();
                let again = Path::parse(&sent).unwrap();
                prop_assert_eq!(&again, &path, "{}", sent);
                prop_assert_eq!(again.render(), sent);
            }
        }

        #[test]
        fn any_parts_survive(
            segments in proptest::collection::vec("\\PC{1,12}", 0..5),
            value in "\\PC{0,12}",
        ) {
            prop_assume!(!segments.iter().any(|segment| segment == "." || segment == ".."));
            let path = Path { segments, query: vec![("q".into(), value)] };
            prop_assert_eq!(Path::parse(&path.render()).unwrap(), path);
        }
    }
}
