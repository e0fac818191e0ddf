//! PLACEHOLDER, not committed.
pub fn describe(_: &crate::model::Parameters<'_>) -> Vec<serde_json::Value> {
    Vec::new()
}
