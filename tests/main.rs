//! The only integration-test binary: one module per verb or theme.
