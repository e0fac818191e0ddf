//! The product on real servers, with real clients. Run by `scripts/test live`, which installs PostgreSQL
//! and says where it is; without it the tests fail and are never skipped.

// Helpers of tests are tests, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin;
mod audit;
mod cancel;
mod clients;
mod connectors;
mod conversation;
mod crossing;
mod cve;
mod doors;
mod ending;
mod faults;
mod hard_cuts;
mod harness;
mod http;
mod http2;
mod http_attacks;
mod http_audit;
mod http_bypasses;
mod http_clients;
mod http_coverage;
mod http_dates;
mod http_dev_tools;
mod http_differential;
mod http_ids;
mod http_languages;
mod http_names;
mod http_nodes;
mod http_stopping;
mod http_tasks;
mod http_touched;
mod labels;
mod lease;
mod login;
mod moving;
mod mysql_audit;
mod mysql_change_user;
mod mysql_conversation;
mod mysql_harness;
mod mysql_login;
mod mysql_upstream;
mod mysql_variables;
mod parking;
mod rabbitmq;
mod startup;
mod suites;
mod support;
mod upstream;
mod ways;
