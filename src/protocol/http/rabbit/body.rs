//! Bodies, read as far as they reach beyond what the path names.

use crate::model::{Reach, limits};
use crate::protocol::http::Wrong;
use crate::protocol::http::json::{Json, Members};

/// What a route's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    None,
    Fields,
    Publish,
    Exchange,
    Policy,
    Definitions,
    Secrets,
}

/// What exchanges may be: each moves messages within its vhost and has nothing of anybody else's.
const EXCHANGES: [&str; 12] = [
    "direct",
    "fanout",
    "topic",
    "headers",
    "x-consistent-hash",
    "x-modulus-hash",
    "x-random",
    "x-local-random",
    "x-recent-history",
    "x-delayed-message",
    "x-jms-topic",
    "x-lvc",
];

/// What a policy may set: all of it is about queues and exchanges of the vhost. Federation brings messages from
/// elsewhere, with logins that somebody else has put there.
const POLICY: [&str; 31] = [
    "alternate-exchange",
    "consumer-timeout",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "dead-letter-strategy",
    "delivery-limit",
    "expires",
    "ha-mode",
    "ha-params",
    "ha-promote-on-failure",
    "ha-promote-on-shutdown",
    "ha-sync-batch-size",
    "ha-sync-mode",
    "initial-cluster-size",
    "max-age",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "max-length",
    "max-length-bytes",
    "max-segment-size-bytes",
    "message-ttl",
    "overflow",
    "queue-leader-locator",
    "queue-master-locator",
    "queue-mode",
    "queue-version",
    "quorum-initial-group-size",
    "shards-per-node",
    "stream-filter-size-bytes",
    "stream-max-segment-size-bytes",
    "target-group-size",
];

/// What definitions say of accounts.
pub(super) const ACCOUNTS: [&str; 3] = ["users", "permissions", "topic_permissions"];

/// A message to it goes to the channel that its rest stands for, in whatever vhost that is.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "fields" => Self::Fields,
            "publish" => Self::Publish,
            "exchange" => Self::Exchange,
            "policy" => Self::Policy,
            "definitions" => Self::Definitions,
            "secrets" => Self::Secrets,
            _ => return None,
        })
    }

    /// Shovels, federation and plugins are told the logins of other servers.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Definitions | Self::Secrets)
    }

    /// Adds what a whole body touches.
    pub fn walk(self, body: &[u8], reach: &mut Reach) -> Result<(), Wrong> {
        if self == Self::None || body.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let longest = match self {
            Self::Publish | Self::Definitions => limits::HTTP_BODY_BYTES_MAX,
            _ => limits::HTTP_QUERY_BYTES_MAX,
        };
        if body.len() > longest {
            return Err(Wrong::Bad("the body is longer than what the proxy reads for names"));
        }
        let Json::Object(members) = Json::parse(body).map_err(Wrong::Bad)? else {
            return Err(Wrong::Bad("the body must be a JSON object"));
        };
        match members.get("vhost") {
            None => {}
            Some(Json::Text(vhost)) => reach.add(vhost),
            Some(_) => return Err(Wrong::Bad("vhost must be a text")),
        }
        match self {
            Self::None | Self::Secrets => {}
            Self::Publish => publish(&members, reach),
            Self::Fields => dead_letters(&members, reach),
            Self::Exchange => {
                exchange(&members, reach);
                dead_letters(&members, reach);
            }
            Self::Policy => {
                policy(&members, reach);
                dead_letters(&members, reach);
            }
            Self::Definitions => definitions(&members)?,
        }
        Ok(())
    }
}

/// A routing key is what the message goes by, and so is each that its headers `CC` and `BCC` hold.
fn publish(members: &Members, reach: &mut Reach) {
    let properties = members.get("properties").and_then(Json::object);
    let headers = properties.and_then(|properties| properties.get("headers"));
    let replies = members.get("routing_key").into_iter().chain(headers).any(replies);
    if replies {
        reach.everything(REPLY);
    }
}

/// A key by which dead letters of a queue go on, as its arguments or a policy say, may be one for replies too.
fn dead_letters(members: &Members, reach: &mut Reach) {
    if members.values().any(replies) {
        reach.everything(REPLY);
    }
}

const REPLY: &str = "a reply to a channel, which may be of any vhost";

fn replies(value: &Json) -> bool {
    match value {
        Json::Other => false,
        Json::Text(text) => text.starts_with(REPLY_TO),
        Json::List(list) => list.iter().any(replies),
        Json::Object(members) => members.values().any(replies),
    }
}

fn exchange(members: &Members, reach: &mut Reach) {
    let known = |kind: &Json| kind.text().is_some_and(|kind| EXCHANGES.contains(&kind));
    if members.get("type").is_some_and(|kind| !known(kind)) {
        reach.everything("a kind of exchange that the proxy does not know");
    }
}

fn policy(members: &Members, reach: &mut Reach) {
    let known = |definition: &Json| {
        definition.object().is_some_and(|keys| keys.keys().all(|key| POLICY.contains(&key.as_ref())))
    };
    if members.get("definition").is_some_and(|definition| !known(definition)) {
        reach.everything("something in a policy that the proxy does not know");
    }
}

fn definitions(members: &Members) -> Result<(), Wrong> {
    match members.keys().any(|name| ACCOUNTS.contains(&name.as_ref())) {
        true => Err(Wrong::Denied("the cluster's own accounts are not changed through the proxy")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, body: &str) -> Result<Reach, Wrong> {
        let mut reach = Reach::nothing();
        Kind::named(kind).unwrap().walk(body.as_bytes(), &mut reach).map(|()| reach)
    }

    #[test]
    fn a_vhost_in_a_body_is_touched() {
        let mut team = Reach::nothing();
        team.add("te am/1");
        for kind in ["fields", "publish", "exchange", "policy", "definitions"] {
            assert_eq!(of(kind, r#"{"name":"q","vhost":"te am/1"}"#), Ok(team.clone()), "{kind}");
            assert_eq!(of(kind, r#"{"v\u0068ost":"te am\/1"}"#), Ok(team.clone()), "{kind}");
            assert_eq!(of(kind, " \n"), Ok(Reach::nothing()), "{kind}");
            for bad in
                [r#"{"vhost":["a"]}"#, r#"{"vhost":null}"#, r#"{"vhost":"a","vhost":"b"}"#, "[]", "{", "{}{}"]
            {
                assert!(matches!(of(kind, bad), Err(Wrong::Bad(_))), "{kind} {bad}");
            }
        }
    }

    #[test]
    fn what_reaches_beyond_the_vhost_takes_a_grant_for_everything() {
        for (kind, body) in [
            ("publish", r#"{"properties":{},"routing_key":"amq.rabbitmq.reply-to.g1.x","payload":"a"}"#),
            (
                "publish",
                r#"{"properties":{"headers":{"CC":["amq.rabbitmq.reply-to.g1.x"]}},"routing_key":"a"}"#,
            ),
            ("publish", r#"{"properties":{"headers":{"BCC":["a","amq.rabbitmq.reply-to.g1.x"]}}}"#),
            (
                "fields",
                r#"{"arguments":{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"amq.rabbitmq.reply-to.g1.x"}}"#,
            ),
            ("fields", r#"{"arguments":[{"x":["amq.rabbitmq.reply-to.g1.x"]}]}"#),
            ("exchange", r#"{"arguments":{"x":"amq.rabbitmq.reply-to.g1.x"}}"#),
            (
                "policy",
                r#"{"pattern":"^","definition":{"dead-letter-exchange":"","dead-letter-routing-key":"amq.rabbitmq.reply-to.x"}}"#,
            ),
            ("exchange", r#"{"type":"x-federation-upstream"}"#),
            ("exchange", r#"{"type":["direct"]}"#),
            ("policy", r#"{"pattern":"^","definition":{"federation-upstream-set":"all"}}"#),
            ("policy", r#"{"pattern":"^","definition":{"expires":1,"federation-upstream":"u"}}"#),
            ("policy", r#"{"pattern":"^","definition":["expires"]}"#),
        ] {
            assert!(matches!(of(kind, body), Ok(Reach::Everything(_))), "{kind} {body}");
        }
        for (kind, body) in [
            (
                "publish",
                r#"{"properties":{"headers":{"a":1},"reply_to":"q"},"routing_key":"k","payload":"amq.rabbitmq.reply-to"}"#,
            ),
            ("exchange", r#"{"type":"topic","durable":true,"arguments":{"alternate-exchange":"a"}}"#),
            ("exchange", "{}"),
            (
                "policy",
                r#"{"pattern":"^q","definition":{"max-length":10,"overflow":"reject-publish"},"priority":1}"#,
            ),
        ] {
            assert_eq!(of(kind, body), Ok(Reach::nothing()), "{kind} {body}");
        }
        for body in [r#"{"users":[]}"#, r#"{"queues":[],"permissions":[]}"#, r#"{"topic_permissions":[]}"#] {
            assert!(matches!(of("definitions", body), Err(Wrong::Denied(_))), "{body}");
        }
        assert_eq!(of("definitions", r#"{"queues":[],"vhosts":[{"name":"a"}]}"#), Ok(Reach::nothing()));
    }

    #[test]
    fn bodies_are_bounded() {
        let long = format!("{{\"payload\":\"{}\"}}", "a".repeat(limits::HTTP_QUERY_BYTES_MAX));
        assert!(of("fields", &long).is_err());
        assert!(of("publish", &long).is_ok());
    }
}
