//! A small HTTP/1.1 client on the admin socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::admin::body;
use crate::cli::failure::{Failure, Outcome};
use crate::model::limits::ADMIN_REQUEST_WAIT;

/// An answer that is no stream; a store of 100,000 grants exports at some 30 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// One audit line: its limits on text and parameters, escaped at their worst, are below this.
const LINE_BYTES_MAX: usize = 4 << 20;
/// The server gives up first, so that its own words reach us.
const ANSWER_WAIT: Duration = Duration::from_secs(ADMIN_REQUEST_WAIT.as_secs() + 5);

/// The admin API of one node.
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Outcome<A> {
        self.call(Method::GET, path, None).await
    }

    pub async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Outcome<A> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::new(error.to_string()))?;
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn delete<A: DeserializeOwned>(&self, path: &str) -> Outcome<A> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Outcome<A> {
        let whole = async {
            let response = self.send(method, path, body).await?;
            collect(response).await
        };
        let bytes = tokio::time::timeout(ANSWER_WAIT, whole)
            .await
            .map_err(|_| Failure::new(format!("no answer within {} seconds", ANSWER_WAIT.as_secs())))??;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(format!("the server's answer is not understood: {error}"))
                .hint("are the server and this command of the same version?")
        })
    }

    /// Calls `each` with every line of an answer that is lines, as they come; ends with the answer.
    pub async fn lines(&self, path: &str, mut each: impl FnMut(&str) -> Outcome) -> Outcome {
        let mut response = self.send(Method::GET, path, None).await?;
        let mut rest = BytesMut::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| Failure::new(format!("the server hung up: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(end + 1);
                each(String::from_utf8_lossy(&line[..end]).as_ref())?;
            }
            if rest.len() > LINE_BYTES_MAX {
                return Err(Failure::new("the server sent a line without an end"));
            }
        }
        match rest.is_empty() {
            true => Ok(()),
            false => each(String::from_utf8_lossy(&rest).as_ref()),
        }
    }

    /// A response of success, its body still to be read; otherwise the server's own words.
    async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Outcome<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let broken = |error: hyper::Error| Failure::new(format!("the admin socket broke off: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the response's body; what went wrong is said there.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "tidegate");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| Failure::new(format!("the request makes no sense: {error}")))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = collect(response).await?;
        Err(match serde_json::from_slice::<body::Failure>(&bytes) {
            Ok(said) => Failure { hint: said.hint, ..Failure::new(said.error) },
            Err(_) => Failure::new(format!("the server answered {status}")),
        })
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let place = self.socket.display();
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                Failure::new(format!("nothing answers on the admin socket {place}"))
                    .hint("is tidegate running? start it with tidegate serve --config FILE")
            }
            std::io::ErrorKind::PermissionDenied => {
                Failure::new(format!("the admin socket {place} may not be used by you"))
                    .hint("run this as the server's user or as root, or list your uid in [admin] uids")
            }
            _ => Failure::new(format!("the admin socket {place}: {error}")),
        }
    }
}

async fn collect(response: Response<Incoming>) -> Outcome<Bytes> {
    Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::new(format!("the server hung up: {error}")))
}

/// A path with the fields of `params` that are set as its query.
pub fn with_query(path: &str, params: &impl Serialize) -> String {
    let mut uri = path.to_owned();
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(params) else { return uri };
    let mut separator = '?';
    for (key, value) in fields {
        let value = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        uri.push(separator);
        uri += &format!("{key}={}", escape(&value));
        separator = '&';
    }
    uri
}

/// Percent-encodes everything that is not unreserved (RFC 3986, 2.3).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_hold_what_is_set_and_escape_it() {
        let params = body::SearchParams {
            text: Some("a&b=ü".to_owned()),
            limit: Some(5),
            ..body::SearchParams::default()
        };
        assert_eq!(with_query("/x", &params), "/x?limit=5&text=a%26b%3D%C3%BC");
        assert_eq!(with_query("/x", &body::SearchParams::default()), "/x");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_a_hint() {
        let client = Client::new("/nonexistent/admin.sock".into());
        let failure = client.get::<body::Status>("/v1/status").await.unwrap_err();
        assert!(failure.message.contains("/nonexistent/admin.sock"), "{failure}");
        assert!(failure.hint.unwrap().starts_with("is tidegate running?"));
    }
}
