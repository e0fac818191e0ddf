/// Every Prometheus metric of the node, registered once.
pub struct Metrics {
    pub registry: prometheus::Registry,
}
