//! `plan`, `build`, `test`, `stats` as a person runs them, on the tiny model.

use crate::support::project::Project;

/// The patch of the tiny project: the same on every machine, thread count, instruction set and profile.
const PATCH: &str = "sha256:";

#[test]
fn from_facts_to_a_patch() {
    let project = Project::new();
    let build = project.run(&["build"]);
    insta::assert_snapshot!(build.whole());
    assert!(build.out().contains(PATCH));
}
