//! The only integration-test binary: one module per verb or topic.
#![expect(unreachable_pub, reason = "a test binary has no outside")]

mod bad_input;
mod behaviour_cache;
mod bench;
mod build;
mod chat;
mod check;
mod consequences;
mod decoder;
mod documents;
mod dtypes;
mod empty_set;
mod exports;
mod families;
mod history;
#[cfg(unix)]
mod hostile;
mod hub;
mod import;
mod init;
mod layers;
mod models;
mod plan_base;
mod policy;
mod project_discovery;
mod readme;
mod refine;
mod regressions;
mod review;
mod rome;
mod said;
mod sinks;
mod statistics;
mod stats_import;
mod store;
mod story;
mod support;
mod tasks;
mod tokens;
mod trace;
mod trained_editors;
mod verify;
mod workflow;
