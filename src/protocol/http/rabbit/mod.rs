//! RabbitMQ's management API: what it is asked is in `rabbit.routes`, and a grant's names are those of vhosts.
//!
//! ```text
//! request line --Path::parse--> Routed (rabbit.routes) --body, if it is read--> Touch --> Book::admit_request
//! answer of a request that named no vhost --Part::show--> what is of the vhosts that the grant covers
//! ```
//!
//! What holds: whatever vhost the server would touch or tell of for the request that is sent on is in its
//! [`Touch`](crate::model::Touch), or it is left out of what is shown, or the touch is everything. Within a vhost
//! nothing is told apart: the body of a request may name another queue than its path does, and the server takes that.

mod body;
mod part;
mod routes;

use serde_json::json;

use super::api::{Api, Routed};
use super::{Answer, ContentType, Path, Wrong};
use crate::model::{Refusal, Time};

pub(super) struct Rabbit;

impl Api for Rabbit {
    fn route(&self, method: &str, path: &Path) -> Result<Box<dyn Routed>, Wrong> {
        Ok(Box::new(routes::Routed::of(method, path)?))
    }

    fn dated(&self, _: &str, _: &Path, _: Time) -> Option<Result<Path, Wrong>> {
        None
    }

    /// The console asks for `name=`, and `name` is not it.
    fn render(&self, path: &Path) -> String {
        path.render_valued()
    }

    /// What the console asks before anybody has logged in. How one logs in: here by name and secret, whatever the
    /// server has besides; the members are those of all its releases. And whether it was loaded from another release
    /// than the server is of now (from 4.0 on): it loads itself anew then, again and again where it is told different
    /// things.
    fn said_to_anybody(&self, method: &str, path: &str) -> Option<&'static str> {
        match (method, path) {
            ("GET", "/api/auth") => {
                Some(r#"{"oauth_enabled":false,"enable_uaa":false,"uaa_client_id":"","uaa_location":""}"#)
            }
            ("GET", "/api/version") => Some("\"any\""),
            _ => None,
        }
    }

    fn answer(&self, refusal: &Refusal) -> Answer {
        answer(refusal)
    }

    fn has_aliases(&self) -> bool {
        false
    }

    /// The server takes every body for JSON, but for uploads of forms, whatever its kind is said to be: its console
    /// publishes and gets messages as plain text.
    fn reads(&self, content_type: &str) -> bool {
        let (kind, charset) = content_type.split_once(';').unwrap_or((content_type, ""));
        let is_plain = kind.trim().eq_ignore_ascii_case("text/plain")
            && ["", "charset=utf-8"].contains(&charset.trim().to_ascii_lowercase().as_str());
        is_plain || ContentType::parse(content_type) == Some(ContentType::Json)
    }

    /// Not `x-vhost`, which puts another vhost in the place of one that the path leaves out.
    fn sent_on(&self) -> &'static [&'static str] {
        &["accept", "accept-encoding", "content-type", "user-agent", "x-reason"]
    }

    fn told(&self) -> &'static [&'static str] {
        &[
            "content-type",
            "content-encoding",
            "content-length",
            "content-security-policy",
            "cache-control",
            "location",
            "vary",
            "x-content-type-options",
            "x-frame-options",
        ]
    }

    fn marks(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The root is a page that anybody gets.
    fn probe(&self) -> &'static str {
        "/api/whoami"
    }

    /// It says 401 for both.
    fn goes_on_with(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// It says 401 for both. The second reason is that of its release 4.
    fn says_login_failed(&self, body: &[u8]) -> bool {
        let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        said.is_none_or(|said| said["reason"] == "Login failed" || said["reason"] == "Not_Authorized")
    }
}

/// The words are the server's own, old and new: its console shows the reason for these alone.
fn answer(refusal: &Refusal) -> Answer {
    let Answer { status, retry_after, .. } = super::refusal::answer(refusal);
    let error = match status {
        401 | 403 => "not_authorised",
        400 => "bad_request",
        404 => "not_found",
        _ => "unavailable",
    };
    let body = json!({"error": error, "reason": format!("{refusal} [{}]", refusal.code())});
    Answer { status, body: body.to_string(), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_words() {
        let table: String = Refusal::every()
            .iter()
            .map(|refusal| {
                let answer = answer(refusal);
                format!("{} {} {}\n", refusal.code(), answer.status, answer.body)
            })
            .collect();
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_401_is_about_the_login_or_about_a_right() {
        let failed = |body: &str| Rabbit.says_login_failed(body.as_bytes());
        assert!(failed(r#"{"error":"not_authorized","reason":"Login failed"}"#));
        assert!(failed(""));
        assert!(failed(r#"{"error":"not_authorized","reason":"Not_Authorized"}"#));
        assert!(!failed(r#"{"error":"not_authorised","reason":"Access refused."}"#));
        assert!(!failed(
            r#"{"error":"not_authorised","reason":"User not authorised to access virtual host"}"#
        ));
    }

    #[test]
    fn bodies_are_json_or_called_text() {
        for read in
            ["application/json", "text/plain;charset=UTF-8", "Text/Plain", "text/plain; charset=utf-8"]
        {
            assert!(Rabbit.reads(read), "{read}");
        }
        for not in [
            "multipart/form-data; boundary=x",
            "text/plain; charset=utf-16",
            "text/plain; charset=utf-8; a=b",
            "text/html",
            "application/x-ndjson",
            "",
        ] {
            assert!(!Rabbit.reads(not), "{not}");
        }
    }

    #[test]
    fn how_one_logs_in_is_known_to_anybody_and_nothing_else() {
        let said = Rabbit.said_to_anybody("GET", "/api/auth").unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(said).unwrap()["enable_uaa"], false);
        assert_eq!(Rabbit.said_to_anybody("GET", "/api/version"), Some("\"any\""));
        for (method, path) in [
            ("POST", "/api/auth"),
            ("GET", "/api/version/x"),
            ("GET", "/api/auth/"),
            ("GET", "/api/whoami"),
            ("GET", "/"),
        ] {
            assert_eq!(Rabbit.said_to_anybody(method, path), None, "{method} {path}");
        }
    }
}
