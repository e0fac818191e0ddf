//! The API as a client meets it, on a real store, trail and ledger.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::admin::{Admin, public, router};
use crate::credential::Keys;
use crate::identity::Ledger;
use crate::model::{Actor, Name, Time};
use crate::observe::{Metrics, Trail, TrailSettings};
use crate::proxy::{
    BoxFuture, ListenerStatus, ListenerTlsStatus, NodeControl, NodeStatus, Registry, TargetChecks,
};
use crate::store::Store;

struct FakeNode;

impl NodeControl for FakeNode {
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async { Err("the certificate cannot be read".to_owned()) })
    }
    fn check_target(&self, _: &Name) -> BoxFuture<'_, Result<TargetChecks, String>> {
        Box::pin(async { Ok(TargetChecks::default()) })
    }
    fn status(&self) -> NodeStatus {
        NodeStatus {
            version: "0".to_owned(),
            started_at: Time::UNIX_EPOCH,
            listeners: vec![ListenerStatus {
                name: "pg".to_owned(),
                address: "127.0.0.1:6432".parse().unwrap(),
                protocol: "postgres".to_owned(),
                target: None,
                tls: ListenerTlsStatus::Off,
            }],
            certificate: None,
            troubles: Vec::new(),
            problems: vec!["a listener is gone".to_owned()],
        }
    }
    fn draining(&self) -> bool {
        true
    }
}

struct Rig {
    admin: Arc<Admin>,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("sqlite:tidegate.db", folder.path()).await.unwrap();
        let audit_directory = folder.path().join("audit");
        let trail = Trail::open(TrailSettings {
            directory: audit_directory.clone(),
            sync: Duration::from_millis(10),
            lag_bytes_max: 1 << 20,
            segment_bytes: 1 << 20,
            shards: 1,
            continue_on_failure: false,
        })
        .unwrap();
        let keys = Arc::new(Keys::new(&[7; 32]));
        let ledger = Ledger::open(store, trail.clone(), keys.clone()).await.unwrap();
        let admin = Arc::new(Admin {
            ledger,
            keys,
            registry: Arc::new(Registry::default()),
            trail,
            audit_directory,
            metrics: Arc::new(Metrics::new().unwrap()),
            node: Arc::new(FakeNode),
        });
        Self { admin, folder }
    }

    /// With the resources that the tests need.
    async fn filled() -> Self {
        let rig = Self::new().await;
        let (status, said) = rig.ask("POST", "/v1/apply", &json!({"resources": resources(20)})).await;
        assert_eq!(status, 200, "{said}");
        rig
    }

    async fn raw(&self, router: axum::Router, method: &str, path: &str, body: &str) -> (u16, String) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let service = TowerToHyperService::new(router);
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service),
        );
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        ours.write_all((head + body).as_bytes()).await.unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), unchunked(head, body))
    }

    async fn text(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let actor = Actor::Local { uid: 4711, name: Some("carol".to_owned()) };
        let router = router::api(self.admin.clone()).layer(Extension(actor));
        self.raw(router, method, path, body).await
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.text(method, path, &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask("GET", path, &json!({})).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }
}

fn unchunked(head: &str, body: &str) -> String {
    if !head.contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut text, mut rest) = (String::new(), body);
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text += &tail[..size];
        rest = &tail[size + 2..];
    }
    text
}

fn resources(size: u32) -> Value {
    json!({
        "targets": [{"name": "orders", "protocol": "postgres", "address": "127.0.0.1:5432", "database": "shop", "tls": "disable",
            "pool": {"size_max": size}, "connectors": {"read": {"secret": "file:orders-read.json"}}}],
        "users": [{"name": "alice", "groups": ["backend"]}, {"name": "bob"}],
    })
}

#[tokio::test]
async fn resources_are_shown_then_applied_then_unchanged() {
    let rig = Rig::new().await;
    let mut request = json!({"resources": resources(20), "dry_run": true});
    let (_, shown) = rig.ask("POST", "/v1/apply", &request).await;
    assert_eq!((shown["changes"].as_array().unwrap().len(), &shown["applied"]), (3, &json!(false)));
    assert_eq!(rig.get("/v1/users").await, json!([]), "a dry run changes nothing");
    request["dry_run"] = json!(false);
    let (_, applied) = rig.ask("POST", "/v1/apply", &request).await;
    assert_eq!((&applied["changes"], &applied["applied"]), (&shown["changes"], &json!(true)));
    let (_, again) = rig.ask("POST", "/v1/apply", &request).await;
    assert_eq!(again["changes"], json!([]));
    request["resources"] = resources(5);
    let (_, changed) = rig.ask("POST", "/v1/apply", &request).await;
    let field = json!({"field": "pool.size_max", "before": 20, "after": 5});
    assert_eq!(changed["changes"][0]["fields"], json!([field]));
    let exported = rig.get("/v1/export").await;
    let (_, same) = rig.ask("POST", "/v1/apply", &json!({"resources": exported, "prune": true})).await;
    assert_eq!(same["changes"], json!([]), "what is exported applies to itself");
    let bad = json!({"resources": {"targets": [], "user": []}});
    assert_eq!(rig.ask("POST", "/v1/apply", &bad).await.0, 400);
}

#[tokio::test]
async fn a_grant_lives_once() {
    let rig = Rig::filled().await;
    let request = json!({"user": "alice", "target": "orders", "level": "read", "for_seconds": 120});
    let (status, grant) = rig.ask("POST", "/v1/grants", &request).await;
    assert_eq!((status, &grant["state"], &grant["created_by"]), (200, &json!("open"), &json!("carol")));
    let path = format!("/v1/grants/{}", grant["id"].as_str().unwrap());
    assert_eq!(rig.get(&path).await, grant);
    let explained = json!({"user": "alice", "target": "orders"});
    let (_, said) = rig.ask("POST", "/v1/explain", &explained).await;
    assert_eq!((&said["allowed"], &said["grant"]), (&json!(true), &grant["id"]));
    let (_, longer) = rig.ask("POST", &format!("{path}/extend"), &json!({"for_seconds": 60})).await;
    let end = |grant: &Value| grant["window"]["end"].as_str().unwrap().parse::<Time>().unwrap();
    assert_eq!(end(&longer).duration_since(end(&grant)).as_secs(), 60);
    let revoke = format!("{path}/revoke");
    assert_eq!(rig.ask("POST", &revoke, &json!({"reason": "done"})).await.0, 200);
    let (status, refused) = rig.ask("POST", &revoke, &json!({})).await;
    let said_why = refused["error"].as_str().unwrap();
    assert_eq!(status, 409);
    assert!(said_why.contains("ended already") && said_why.contains("revoked (done)"), "{said_why}");
    assert_eq!(rig.ask("POST", &format!("{path}/extend"), &json!({"for_seconds": 60})).await.0, 409);
    assert_eq!(rig.get("/v1/grants").await, json!([]));
    assert_eq!(rig.get("/v1/grants?all=true").await[0]["state"], "ended");
    let (_, said) = rig.ask("POST", "/v1/explain", &explained).await;
    assert_eq!(said["allowed"], false);
    for (field, value, status) in
        [("user", "carol", 409), ("target", "x", 409), ("level", "admin", 409), ("level", "Bad", 400)]
    {
        let mut wrong = request.clone();
        wrong[field] = json!(value);
        let (found, said) = rig.ask("POST", "/v1/grants", &wrong).await;
        assert_eq!(found, status, "{said}");
    }
    assert_eq!(rig.ask("GET", "/v1/grants/g-0000000000000", &json!({})).await.0, 404);
}

#[tokio::test]
async fn a_secret_is_in_its_answer_and_nowhere_else() {
    let rig = Rig::filled().await;
    let (status, issued) =
        rig.ask("POST", "/v1/credentials", &json!({"user": "alice", "for_seconds": 60})).await;
    assert_eq!(status, 200);
    let secret = issued["secret"].as_str().unwrap();
    assert!(secret.starts_with("tg_") && secret.len() > 28, "{}", secret.len());
    let listed = rig.text("GET", "/v1/credentials", "").await.1;
    assert!(listed.contains(issued["id"].as_str().unwrap()));
    assert!(!listed.contains("verifiers") && !listed.contains("scram") && !listed.contains(secret));
    let trail = rig.text("GET", "/v1/audit/search", "").await.1;
    assert!(trail.contains("credential.issue") && !trail.contains("scram"), "{trail}");
    rig.admin.trail.flush().await.unwrap();
    let mut files = vec![rig.folder.path().to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the secret is in {}", path.display());
    }
    let path = format!("/v1/credentials/{}/revoke", issued["id"].as_str().unwrap());
    assert_eq!(rig.text("POST", &path, "").await.0, 200);
    assert_eq!(rig.text("POST", &path, "").await.0, 409);
    assert_eq!(rig.get("/v1/users/alice").await["credentials"], 0);
    let nobody = json!({"user": "carol", "for_seconds": 60});
    assert_eq!(rig.ask("POST", "/v1/credentials", &nobody).await.0, 404);
}

#[tokio::test]
async fn users_and_targets_change_as_they_are_told() {
    let rig = Rig::filled().await;
    let carol = json!({"name": "carol", "groups": ["data"]});
    assert_eq!(rig.ask("POST", "/v1/users", &carol).await.0, 200);
    assert_eq!(rig.ask("POST", "/v1/users", &carol).await.0, 409);
    assert_eq!(rig.text("DELETE", "/v1/users/carol", "").await.0, 200);
    assert_eq!(rig.text("DELETE", "/v1/users/carol", "").await.0, 404);
    assert_eq!(rig.text("POST", "/v1/targets/orders/suspend", "{}").await.0, 400, "it needs a reason");
    let why = json!({"reason": "maintenance"});
    assert_eq!(rig.ask("POST", "/v1/targets/orders/suspend", &why).await.0, 200);
    assert_eq!(rig.get("/v1/targets/orders").await["suspended"], "maintenance");
    assert_eq!(rig.ask("POST", "/v1/targets/orders/suspend", &why).await.0, 409);
    assert_eq!(rig.text("POST", "/v1/targets/orders/resume", "").await.0, 200);
    assert_eq!(rig.text("POST", "/v1/targets/orders/resume", "").await.0, 409);
    assert_eq!(rig.text("GET", "/v1/targets/x", "").await.0, 404);
}

#[tokio::test]
async fn every_change_is_in_the_trail_with_who_made_it() {
    let rig = Rig::filled().await;
    let request = json!({"group": "backend", "target": "orders", "level": "read", "for_seconds": 60});
    rig.ask("POST", "/v1/grants", &request).await;
    rig.text("POST", "/v1/targets/orders/check", "").await;
    let (status, said) = rig.ask("POST", "/v1/reload", &json!({})).await;
    assert_eq!((status, &said["error"]), (409, &json!("the certificate cannot be read")));
    let (status, found) = rig.text("GET", "/v1/audit/search?event=admin&limit=3", "").await;
    assert_eq!(status, 200);
    let lines: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["grant.create", "target.check", "node.reload"]);
    assert!(lines.iter().all(|line| line["actor"]["local"]["name"] == "carol"));
    let tailed = rig.text("GET", "/v1/audit/tail?lines=3", "").await.1;
    assert_eq!(tailed, found);
    let verified = rig.get("/v1/audit/verify").await;
    assert!(verified["lines"].as_u64().unwrap() >= 6, "{verified}");
    assert_eq!(rig.text("GET", "/v1/audit/search?session=nonsense", "").await.0, 400);
    assert_eq!(rig.text("GET", "/v1/audit/search?nonsense=1", "").await.0, 400);
}

#[tokio::test]
async fn what_comes_later_is_followed() {
    let rig = Rig::filled().await;
    let actor = Actor::Proxy;
    let router = router::api(rig.admin.clone()).layer(Extension(actor));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let service = TowerToHyperService::new(router);
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service));
    ours.write_all(b"GET /v1/audit/tail?lines=1&follow=true HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    let mut until = async |words: &str| {
        while !seen.contains(words) {
            let count = ours.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the stream ended: {seen}");
            seen += std::str::from_utf8(&buffer[..count]).unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), until("\"chain\"")).await.unwrap();
    rig.text("POST", "/v1/targets/orders/check", "").await;
    tokio::time::timeout(Duration::from_secs(10), until("target.check")).await.unwrap();
}

#[tokio::test]
async fn backups_are_absolute_and_new() {
    let rig = Rig::filled().await;
    let file = rig.folder.path().join("copy.db");
    assert_eq!(rig.ask("POST", "/v1/backup", &json!({"file": file})).await.0, 200);
    assert!(file.exists());
    assert_ne!(rig.ask("POST", "/v1/backup", &json!({"file": file})).await.0, 200);
    assert_eq!(rig.ask("POST", "/v1/backup", &json!({"file": "copy.db"})).await.0, 400);
}

#[tokio::test]
async fn sessions_that_are_not_there_are_not_killed() {
    let rig = Rig::filled().await;
    assert_eq!(rig.get("/v1/sessions?all=true").await, json!([]));
    assert_eq!(rig.text("POST", "/v1/sessions/s-0000000000001/kill", "").await.0, 404);
    assert_eq!(rig.text("GET", "/v1/sessions/s-0000000000001", "").await.0, 404);
    assert_eq!(rig.text("GET", "/v1/sessions/nonsense", "").await.0, 400);
}

#[tokio::test]
async fn the_way_to_a_target_is_known() {
    let rig = Rig::filled().await;
    let way = rig.get("/v1/connect?target=orders").await;
    assert_eq!(way["doors"][0]["host"], "127.0.0.1");
    assert_eq!(
        (&way["doors"][0]["name_target"], &way["doors"][0]["sslmode"]),
        (&json!(true), &json!("disable"))
    );
    assert_eq!(rig.text("GET", "/v1/connect?target=x", "").await.0, 404);
}

#[tokio::test]
async fn the_public_address_tells_health_and_metrics_only() {
    let rig = Rig::new().await;
    let public = || public::router(rig.admin.clone());
    let (status, text) = rig.raw(public(), "GET", "/health", "").await;
    assert_eq!(status, 503);
    assert!(text.contains("draining") && text.contains("a listener is gone"), "{text}");
    let (status, text) = rig.raw(public(), "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(text.contains("# TYPE tidegate_"), "{text}");
    for (method, path, expected) in
        [("GET", "/v1/status", 404), ("POST", "/v1/grants", 404), ("POST", "/health", 405), ("GET", "/", 404)]
    {
        assert_eq!(rig.raw(public(), method, path, "").await.0, expected, "{method} {path}");
    }
}
