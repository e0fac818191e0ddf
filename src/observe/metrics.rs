//! Every Prometheus metric of the node, registered once. Labels are set here and nowhere else; what goes
//! up and comes down again is a value that gives back what it took when it is dropped.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::trail::Trail;
use crate::model::{AccessLevel, Name, Refusal};

/// Every Prometheus metric of the node, registered once.
pub struct Metrics {
    pub registry: Registry,
    sessions: IntGaugeVec,
    parked: IntGaugeVec,
    pinned: IntGaugeVec,
    statements: IntCounterVec,
    bytes: IntCounterVec,
    logins: IntCounterVec,
    proxy_headers: IntCounterVec,
    login_seconds: Histogram,
    cancels: IntCounterVec,
    cuts: IntCounterVec,
    revocation_seconds: Histogram,
    pool: IntGaugeVec,
    lease_wait_seconds: Histogram,
    connects: IntCounterVec,
    resets: IntCounterVec,
}

/// One more of something, until it is dropped.
#[derive(Debug)]
#[must_use = "the gauge goes down again when this is dropped"]
pub struct Raised(IntGauge);

impl Raised {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What one session counts. Its labels are looked up once, not per statement.
#[derive(Debug)]
pub struct SessionMeter {
    _live: Raised,
    statements: IntCounter,
    bytes_up: IntCounter,
    bytes_down: IntCounter,
}

impl SessionMeter {
    pub fn statements(&self, count: u64) {
        self.statements.inc_by(count);
    }
    /// From the client to the server.
    pub fn bytes_up(&self, count: u64) {
        self.bytes_up.inc_by(count);
    }
    /// From the server to the client.
    pub fn bytes_down(&self, count: u64) {
        self.bytes_down.inc_by(count);
    }
}

/// The gauges of one pool: of one target at one level.
#[derive(Debug, Clone)]
pub struct PoolMeter {
    size: IntGauge,
    idle: IntGauge,
    waiting: IntGauge,
}

impl PoolMeter {
    /// How it stands now: connections in all, the idle of them, and sessions in line.
    pub fn show(&self, size: u32, idle: usize, waiting: usize) {
        self.size.set(size.into());
        self.idle.set(idle as i64);
        self.waiting.set(waiting as i64);
    }
}

impl Metrics {
    /// # Errors
    /// None in practice: a name or label that Prometheus does not allow, which the test below would find.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let own = &registry;
        Ok(Self {
            sessions: gauges(own, "tidegate_sessions", "Live sessions.", &["target"])?,
            parked: gauges(
                own,
                "tidegate_sessions_parked",
                "Live sessions that have given their connection back and are lent another at their next statement.",
                &["target"],
            )?,
            pinned: gauges(
                own,
                "tidegate_sessions_pinned",
                "Sessions that were idle for long enough and could not give their connection back, and why.",
                &["reason"],
            )?,
            statements: counters(
                own,
                "tidegate_statements_total",
                "Statements sent to targets.",
                &["target"],
            )?,
            bytes: counters(
                own,
                "tidegate_bytes_total",
                "Bytes relayed; up is towards the target.",
                &["target", "direction"],
            )?,
            logins: counters(
                own,
                "tidegate_logins_total",
                "Logins; the code is that of the refusal, or ok.",
                &["code"],
            )?,
            proxy_headers: counters(
                own,
                "tidegate_proxy_headers_refused_total",
                "Connections closed because their PROXY header was missing, wrong or late.",
                &["listener"],
            )?,
            login_seconds: histogram(
                own,
                "tidegate_login_seconds",
                "From the accepted connection to the end of the login, when it is let in.",
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0],
            )?,
            cancels: counters(
                own,
                "tidegate_cancels_total",
                "Cancel requests of clients, and whether one was passed on.",
                &["sent"],
            )?,
            cuts: counters(own, "tidegate_cuts_total", "Sessions ended by the proxy.", &["code"])?,
            revocation_seconds: histogram(
                own,
                "tidegate_revocation_seconds",
                "From the end of a grant to the moment its session's statement has stopped at the target.",
                &FINE,
            )?,
            pool: gauges(
                own,
                "tidegate_pool_connections",
                "Connections of a pool (size, and the idle of them) and sessions that wait for one.",
                &["target", "level", "state"],
            )?,
            lease_wait_seconds: histogram(
                own,
                "tidegate_lease_wait_seconds",
                "How long a session waited for its connection.",
                &[
                    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                    10.0, 30.0,
                ],
            )?,
            connects: counters(
                own,
                "tidegate_upstream_connects_total",
                "Attempts to connect and log in to a target.",
                &["target", "result"],
            )?,
            resets: counters(
                own,
                "tidegate_resets_total",
                "Connections that were reset after a session; one that failed is closed.",
                &["target", "result"],
            )?,
            registry,
        })
    }

    /// A session of this target, for as long as it is live.
    pub fn session(&self, target: &Name) -> SessionMeter {
        let target = target.as_str();
        SessionMeter {
            _live: Raised::new(&self.sessions.with_label_values(&[target])),
            statements: self.statements.with_label_values(&[target]),
            bytes_up: self.bytes.with_label_values(&[target, "up"]),
            bytes_down: self.bytes.with_label_values(&[target, "down"]),
        }
    }

    /// A session of this target that is parked, until it is dropped.
    pub fn parked(&self, target: &Name) -> Raised {
        Raised::new(&self.parked.with_label_values(&[target.as_str()]))
    }

    /// A session that could not be parked for this reason, which is one of a few.
    pub fn pinned(&self, reason: &'static str) -> Raised {
        Raised::new(&self.pinned.with_label_values(&[reason]))
    }

    pub fn pool(&self, target: &Name, level: &AccessLevel) -> PoolMeter {
        let gauge = |state| self.pool.with_label_values(&[target.as_str(), level.as_str(), state]);
        PoolMeter { size: gauge("size"), idle: gauge("idle"), waiting: gauge("waiting") }
    }

    pub fn login_accepted(&self, took: Duration) {
        self.logins.with_label_values(&["ok"]).inc();
        self.login_seconds.observe(took.as_secs_f64());
    }

    pub fn login_refused(&self, refusal: &Refusal) {
        self.logins.with_label_values(&[refusal.code()]).inc();
    }

    /// A connection that had to bring a PROXY header and did not bring a right one.
    pub fn proxy_header_refused(&self, listener: &str) {
        self.proxy_headers.with_label_values(&[listener]).inc();
    }

    pub fn cancel(&self, sent: bool) {
        self.cancels.with_label_values(&[if sent { "yes" } else { "no" }]).inc();
    }

    pub fn cut(&self, refusal: &Refusal) {
        self.cuts.with_label_values(&[refusal.code()]).inc();
    }

    /// From the end of a grant to the moment its session's statement has stopped at the target.
    pub fn revoked(&self, took: Duration) {
        self.revocation_seconds.observe(took.as_secs_f64());
    }

    pub fn leased(&self, waited: Duration) {
        self.lease_wait_seconds.observe(waited.as_secs_f64());
    }

    pub fn connected(&self, target: &Name) {
        self.connects.with_label_values(&[target.as_str(), "ok"]).inc();
    }

    pub fn connect_failed(&self, target: &Name) {
        self.connects.with_label_values(&[target.as_str(), "failed"]).inc();
    }

    pub fn reset(&self, target: &Name, clean: bool) {
        let result = if clean { "ok" } else { "failed" };
        self.resets.with_label_values(&[target.as_str(), result]).inc();
    }

    /// A target that is no more: its series end.
    pub fn forget(&self, target: &Name, levels: &[AccessLevel]) {
        let target = target.as_str();
        // A series that never began cannot be removed, and need not be.
        let _ = self.sessions.remove_label_values(&[target]);
        let _ = self.parked.remove_label_values(&[target]);
        let _ = self.statements.remove_label_values(&[target]);
        for direction in ["up", "down"] {
            let _ = self.bytes.remove_label_values(&[target, direction]);
        }
        for result in ["ok", "failed"] {
            let _ = self.connects.remove_label_values(&[target, result]);
            let _ = self.resets.remove_label_values(&[target, result]);
        }
        for level in levels {
            for state in ["size", "idle", "waiting"] {
                let _ = self.pool.remove_label_values(&[target, level.as_str(), state]);
            }
        }
    }

    /// Shows what the trail counts, too.
    ///
    /// # Errors
    /// A trail is shown already.
    pub fn show_trail(&self, trail: &Trail) -> Result<(), Error> {
        let TrailMeters { records, lines, bytes, dropped, unlabelled, backlog, lag } = trail.meters().clone();
        for counter in [records, lines, bytes, dropped, unlabelled] {
            self.registry.register(Box::new(counter))?;
        }
        self.registry.register(Box::new(backlog))?;
        self.registry.register(Box::new(lag))
    }

    /// Everything in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics have no text form");
        }
        text
    }
}

/// What the trail counts; shown by [`Metrics::show_trail`].
#[derive(Debug, Clone)]
pub(super) struct TrailMeters {
    pub records: IntCounter,
    pub lines: IntCounter,
    pub bytes: IntCounter,
    pub dropped: IntCounter,
    pub unlabelled: IntCounter,
    pub backlog: IntGauge,
    pub lag: Histogram,
}

impl TrailMeters {
    pub fn new() -> Result<Self, Error> {
        let counter = |name: &str, help: &str| IntCounter::with_opts(Opts::new(name, help));
        Ok(Self {
            records: counter("tidegate_audit_records_total", "Journal records that are in the audit file.")?,
            lines: counter("tidegate_audit_lines_total", "Audit lines of those records.")?,
            bytes: counter("tidegate_audit_bytes_total", "Journal bytes of those records.")?,
            dropped: counter(
                "tidegate_audit_dropped_total",
                "Facts that are in no audit line because the trail had failed and was told to continue.",
            )?,
            unlabelled: counter(
                "tidegate_audit_unlabelled_total",
                "Statements that were written down without a label because the writer was busy.",
            )?,
            backlog: IntGauge::with_opts(Opts::new(
                "tidegate_audit_backlog_bytes",
                "Journal bytes that are not yet safe in the audit file.",
            ))?,
            lag: Histogram::with_opts(
                HistogramOpts::new(
                    "tidegate_audit_lag_seconds",
                    "How old the oldest fact of each batch was when the batch was synced.",
                )
                .buckets(FINE.to_vec()),
            )?,
        })
    }
}

/// 1 ms to 10 s.
const FINE: [f64; 20] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0,
    5.0, 10.0,
];

fn registered<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> Result<T, Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, Histogram::with_opts(options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EndCause;

    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.render();
        let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    #[test]
    fn gauges_come_down_with_what_they_count() {
        let metrics = Metrics::new().unwrap();
        let target: Name = "orders".parse().unwrap();
        let session = metrics.session(&target);
        session.statements(2);
        session.bytes_up(10);
        session.bytes_down(20);
        let other = metrics.session(&target);
        let pool = metrics.pool(&target, &AccessLevel::Read);
        pool.show(1, 1, 0);
        let live = "tidegate_sessions{target=\"orders\"}";
        assert_eq!(value(&metrics, live), Some(2.0));
        let of = |state: &str| {
            format!("tidegate_pool_connections{{level=\"read\",state=\"{state}\",target=\"orders\"}}")
        };
        assert_eq!(value(&metrics, &of("idle")), Some(1.0));
        pool.show(1, 0, 0);
        drop(session);
        assert_eq!(value(&metrics, live), Some(1.0));
        assert_eq!(value(&metrics, &of("idle")), Some(0.0));
        assert_eq!(value(&metrics, &of("size")), Some(1.0));
        drop(other);
        assert_eq!(value(&metrics, live), Some(0.0));
        assert_eq!(value(&metrics, "tidegate_statements_total{target=\"orders\"}"), Some(2.0));
        let bytes = "tidegate_bytes_total{direction=\"down\",target=\"orders\"}";
        assert_eq!(value(&metrics, bytes), Some(20.0));
        metrics.forget(&target, &[AccessLevel::Read]);
        assert!(!metrics.render().contains("orders"));
    }

    #[test]
    fn everything_is_counted_under_its_own_label() {
        let metrics = Metrics::new().unwrap();
        let target: Name = "orders".parse().unwrap();
        metrics.login_accepted(Duration::from_millis(3));
        metrics.login_refused(&Refusal::BadCredentials);
        metrics.cut(&Refusal::Ended(EndCause::Revoked));
        metrics.cancel(true);
        metrics.proxy_header_refused("pg");
        metrics.revoked(Duration::from_millis(12));
        metrics.leased(Duration::from_millis(1));
        metrics.connected(&target);
        metrics.connect_failed(&target);
        metrics.reset(&target, false);
        for series in [
            "tidegate_logins_total{code=\"ok\"}",
            "tidegate_logins_total{code=\"TG001\"}",
            "tidegate_login_seconds_bucket{le=\"0.005\"}",
            "tidegate_cuts_total{code=\"TG004\"}",
            "tidegate_cancels_total{sent=\"yes\"}",
            "tidegate_proxy_headers_refused_total{listener=\"pg\"}",
            "tidegate_revocation_seconds_bucket{le=\"0.02\"}",
            "tidegate_lease_wait_seconds_count",
            "tidegate_upstream_connects_total{result=\"ok\",target=\"orders\"}",
            "tidegate_upstream_connects_total{result=\"failed\",target=\"orders\"}",
            "tidegate_resets_total{result=\"failed\",target=\"orders\"}",
        ] {
            assert_eq!(value(&metrics, series), Some(1.0), "{series}");
        }
        assert_eq!(value(&metrics, "tidegate_revocation_seconds_bucket{le=\"0.01\"}"), Some(0.0));
    }
}
