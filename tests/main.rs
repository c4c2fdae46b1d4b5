//! The only integration-test binary: one module per verb or topic.
#![expect(unreachable_pub, reason = "a test binary has no outside")]

mod bench;
mod build;
mod chat;
mod check;
mod documents;
mod elsewhere;
mod exports;
mod families;
mod found;
mod history;
#[cfg(unix)]
mod hostile;
mod hub;
mod import;
mod init;
mod kept;
mod layers;
mod model;
mod models;
mod places;
mod policy;
mod published;
mod readme;
mod refine;
mod refusals;
mod review;
mod rome;
mod sinks;
mod statistics;
mod store;
mod stored;
mod story;
mod support;
mod tokens;
mod trace;
mod verify;
mod withdrawn;
mod workflow;
