//! Real clusters of one node: Elasticsearch's core, OpenSearch without security and with its security plugin. Each is
//! started once per run, and tests have indices of their own, by a prefix.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::http::{Answer, HttpClient};
use super::node::{Backend, Node, Options};
use super::server::{ROLE_PASSWORD, as_server, own};
use super::{block, janitor, runtime, tls, wait_until};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without security of its own.
    OpenSearch,
    /// With its security plugin: TLS, and a login for everything.
    Secured,
    /// 9.5, as much of it as its publisher gives out: no `GET /`, scripts, reindexing, x-pack.
    Elasticsearch,
}

/// A folder below what scripts/http.sh has fetched; a missing one fails the tests and never skips them.
pub fn fetched(name: &str) -> PathBuf {
    let variable = "TIDEGATE_TEST_HTTP_SERVERS";
    let Some(folder) = std::env::var_os(variable) else {
        panic!("{variable} does not say where the servers are: run these tests with scripts/test live");
    };
    let path = PathBuf::from(folder).join(name);
    assert!(path.exists(), "no {}: run scripts/setup", path.display());
    path
}

pub struct Cluster {
    pub kind: Kind,
    pub port: u16,
    /// Where it is spoken to in clear.
    pub clear: u16,
    /// Where nodes speak to each other.
    pub transport: u16,
    process: Mutex<Option<Child>>,
}

pub fn shared(kind: Kind) -> &'static Cluster {
    static CLUSTERS: [OnceLock<Cluster>; 3] = [const { OnceLock::new() }; 3];
    CLUSTERS[kind as usize].get_or_init(|| Cluster::start(kind))
}

const LOGGING: &str = "status = error\n\
    appender.console.type = Console\nappender.console.name = console\n\
    appender.console.layout.type = PatternLayout\nappender.console.layout.pattern = [%d][%p][%c{1.}] %m%n\n\
    rootLogger.level = warn\nrootLogger.appenderRef.console.ref = console\n";

const SECURITY: &str = "plugins.security.ssl.transport.enforce_hostname_verification: false\n\
    plugins.security.ssl.http.enabled: true\n\
    plugins.security.allow_default_init_securityindex: true\n\
    plugins.security.authcz.admin_dn: [\"CN=nobody\"]\n\
    plugins.security.nodes_dn: [\"CN=*\"]\n\
    plugins.security.restapi.roles_enabled: [\"all_access\"]\n";

impl Cluster {
    pub fn start(kind: Kind) -> Self {
        let (name, file) = match kind {
            Kind::OpenSearch => ("opensearch", "opensearch.yml"),
            Kind::Secured => ("opensearch-security", "opensearch.yml"),
            Kind::Elasticsearch => ("elasticsearch", "elasticsearch.yml"),
        };
        let home = fetched(name);
        let state = janitor::new_folder("http");
        let config = state.join("config");
        for folder in ["config", "data", "logs", "tmp"] {
            std::fs::create_dir(state.join(folder)).expect("a folder");
        }
        let [port, transport] = [(); 2].map(|()| janitor::free_port());
        let mut settings = format!(
            "cluster.name: tests\nnode.name: one\nnetwork.host: 127.0.0.1\nhttp.port: {port}\n\
             transport.port: {transport}\ndiscovery.type: single-node\n\
             cluster.routing.allocation.disk.threshold_enabled: false\n"
        );
        if kind == Kind::Secured {
            settings += &secured(&home, &config);
        }
        std::fs::write(config.join(file), settings).expect("the server's configuration");
        std::fs::write(config.join("log4j2.properties"), LOGGING).expect("the same");
        own_all(&state);
        let log = File::create(state.join("log")).expect("a log");
        let child = as_server(&home.join("server"))
            .arg(&state)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the server's program runs");
        janitor::watch(child.id());
        let clear = match kind {
            Kind::Secured => tls::tunnel(port, tls::Tunnel { alpn: &[], ..tls::Tunnel::default() }).0,
            _ => port,
        };
        let cluster = Self { kind, port, clear, transport, process: Mutex::new(Some(child)) };
        let log = state.join("log");
        let started = std::panic::catch_unwind(|| cluster.wait_ready());
        if let Err(panic) = started {
            eprintln!("--- {name} said\n{}", std::fs::read_to_string(log).unwrap_or_default());
            std::panic::resume_unwind(panic);
        }
        if kind == Kind::Secured {
            cluster.add_connectors();
        }
        cluster
    }

    fn wait_ready(&self) {
        wait_until("the cluster answers", Duration::from_secs(240), || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self.ask("GET /_cluster/health", "").status == 200
        });
    }

    /// Each with what docs/elasticsearch.md says that it needs.
    fn add_connectors(&self) {
        const READ: &str = r#""read", "indices_monitor", "indices:admin/get", "indices:admin/mappings/get",
            "indices:admin/mappings/fields/get", "indices:admin/validate/query", "indices:admin/analyze*",
            "indices:admin/resolve/index""#;
        for (level, actions) in
            [("read", READ), ("read_write", "\"indices_all\""), ("admin", "\"indices_all\"")]
        {
            let role = format!(
                r#"{{"cluster_permissions": ["cluster_composite_ops", "cluster_monitor", "cluster:admin/tasks/cancel",
                     "cluster:admin/reindex/rethrottle"],
                   "index_permissions": [{{"index_patterns": ["*"],
                     "allowed_actions": [{actions}, "indices:admin/aliases/get"]}}]}}"#
            );
            self.done(&format!("PUT /_plugins/_security/api/roles/connector-{level}"), &role);
            let user = format!(
                r#"{{"password": "{ROLE_PASSWORD}", "opendistro_security_roles": ["connector-{level}"]}}"#
            );
            self.done(&format!("PUT /_plugins/_security/api/internalusers/connector-{level}"), &user);
        }
    }

    /// Its own superuser, where it has one.
    pub fn proof(&self) -> String {
        match self.kind {
            Kind::Secured => format!("Basic {}", STANDARD.encode("admin:admin")),
            _ => String::new(),
        }
    }

    /// A connection around the proxy.
    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.clear)
    }

    /// A request around the proxy. `line`: method and target.
    pub fn ask(&self, line: &str, body: &str) -> Answer {
        self.client().ask(&self.proof(), line, body)
    }

    /// The same, must succeed; its body.
    #[track_caller]
    pub fn done(&self, line: &str, body: &str) -> Value {
        let answer = self.ask(line, body);
        assert!((200..300).contains(&answer.status), "{line}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    /// One that is not shared need not stay until the end of the run.
    pub fn stop(&self) {
        if let Some(mut child) = self.process.lock().expect("whole").take() {
            let _ = child.kill();
            let _ = child.wait();
            janitor::forget(child.id());
        }
    }
}

fn own_all(path: &Path) {
    own(path);
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => own_all(&entry.path()),
            false => own(&entry.path()),
        }
    }
}

fn secured(home: &Path, config: &Path) -> String {
    tls::authority().write_certificate(config, "node", tls::HOSTS);
    std::fs::write(config.join("ca.pem"), &tls::authority().pem).expect("the authority");
    let own = config.join("opensearch-security");
    std::fs::create_dir(&own).expect("a folder");
    let files = std::fs::read_dir(home.join("plugins/opensearch-security/config")).expect("the plugin's");
    for file in files.flatten() {
        std::fs::copy(file.path(), own.join(file.file_name())).expect("a copy");
    }
    let files: String = ["transport", "http"]
        .iter()
        .map(|part| {
            format!(
                "plugins.security.ssl.{part}.pemcert_filepath: node.pem\n\
                 plugins.security.ssl.{part}.pemkey_filepath: node.key\n\
                 plugins.security.ssl.{part}.pemtrustedcas_filepath: ca.pem\n"
            )
        })
        .collect();
    format!("{SECURITY}{files}")
}

/// What lies between the proxy and a cluster: passes everything on, and keeps what was asked.
pub struct Tap {
    port: u16,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn new(to: u16) -> Self {
        let listener = block(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        runtime().spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let (mut near_read, mut near_write) = near.into_split();
                    let (mut far_read, mut far_write) = far.into_split();
                    let back = tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut far_read, &mut near_write).await;
                    });
                    let mut part = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = near_read.read(&mut part).await {
                        kept.lock().expect("whole").extend_from_slice(&part[..count]);
                        if far_write.write_all(&part[..count]).await.is_err() {
                            break;
                        }
                    }
                    let _ = far_write.shutdown().await;
                    let _ = back.await;
                });
            }
        });
        Self { port, sent }
    }

    pub fn forget(&self) {
        self.sent.lock().expect("whole").clear();
    }

    /// The first lines of the requests that came for clients: the proxy's own questions are left out.
    pub fn asked(&self) -> Vec<String> {
        let sent = self.sent.lock().expect("whole");
        let text = String::from_utf8_lossy(&sent);
        let lines = text.split("\r\n").filter_map(|line| line.strip_suffix(" HTTP/1.1"));
        // A body may stand before it on the same line.
        let lines = lines.map(|line| {
            let start =
                ["GET /", "HEAD /", "PUT /", "POST /", "DELETE /"].iter().filter_map(|word| line.rfind(word));
            line[start.max().unwrap_or(0)..].to_owned()
        });
        let own = ["GET /_alias", "GET /_resolve/index/*?expand_wildcards=all"];
        lines.filter(|line| !own.contains(&line.as_str())).collect()
    }
}

/// One test's part of a cluster.
pub struct ClusterPlace {
    pub cluster: &'static Cluster,
    pub tap: Tap,
    /// Indices of this test begin so.
    pub prefix: String,
    pattern: String,
}

impl Backend for ClusterPlace {
    const PROTOCOL: &'static str = "opensearch";

    fn port(&self) -> u16 {
        match self.cluster.kind {
            // What is inside of TLS cannot be looked at.
            Kind::Secured => self.cluster.port,
            _ => self.tap.port,
        }
    }

    fn database(&self) -> &str {
        &self.pattern
    }

    fn role(&self, level: &str) -> String {
        format!("connector-{level}")
    }
}

impl ClusterPlace {
    pub fn new(cluster: &'static Cluster, prefix: &str) -> Self {
        let pattern = format!("{prefix}logs-*");
        Self { cluster, tap: Tap::new(cluster.port), prefix: prefix.to_owned(), pattern }
    }

    /// A name of this test's own.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Node<ClusterPlace> {
    /// In front of a cluster that all tests share: this one's indices begin with a prefix.
    pub fn cluster(kind: Kind) -> Self {
        Self::cluster_with(kind, "")
    }

    /// `target`: more lines of the target.
    pub fn cluster_with(kind: Kind, target: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let prefix = format!("t{}-", COUNT.fetch_add(1, Ordering::Relaxed));
        Self::in_front_of(shared(kind), &prefix, target)
    }

    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.port)
    }

    /// `target`: more lines of the target.
    pub fn in_front_of(cluster: &'static Cluster, prefix: &str, target: &str) -> Self {
        let place = ClusterPlace::new(cluster, prefix);
        let tls = if cluster.kind == Kind::Secured { "" } else { "tls = \"disable\"\n" };
        let target = format!("{tls}{target}");
        let target = target.as_str();
        Self::with(
            place,
            Options { target, pool: "size_max = 20\nwait_seconds_max = 30", ..Options::default() },
        )
    }
}
