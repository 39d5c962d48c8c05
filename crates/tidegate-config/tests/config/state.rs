//! Where state is kept, and how others find out.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use tidegate_config::state_dir_in;

use crate::world::World;

const GOOD: &str = "upstreams: { a: { url: http://127.0.0.1:9/ } }\n";

/// What serving and asking agree on.
#[track_caller]
fn check(world: &World, expected: Option<PathBuf>) {
    assert_eq!(world.config().state_dir, expected);
    assert_eq!(state_dir_in(&world.flags, &world.around()).unwrap(), expected);
}

#[test]
fn by_default_it_is_where_the_system_keeps_such_things() {
    let text = |path: PathBuf| path.display().to_string();
    let plain = World::with_yaml(GOOD).running_as(7, 7);
    check(&plain, Some("/tmp/tidegate-7".into()));

    let world = World::with_yaml(GOOD);
    let folder = text(world.folder().to_owned());
    let world = world.var("TMPDIR", &folder);
    check(&world, Some(world.path("tidegate-1000")));

    let runtime = text(world.path("bin"));
    let world = world.var("XDG_RUNTIME_DIR", &runtime);
    check(&world, Some(world.path("bin/tidegate")));
}

#[test]
fn a_runtime_directory_that_does_not_exist_is_not_used() {
    for directory in ["/no/such/directory", "bin", ""] {
        let world = World::with_yaml(GOOD).var("XDG_RUNTIME_DIR", directory);
        check(&world, Some("/tmp/tidegate-1000".into()));
    }
}

#[test]
fn it_can_be_anywhere_or_off() {
    let world = World::with_file("conf/t.yaml", &format!("version: 1\nstate_dir: here\n{GOOD}"));
    check(&world, Some(world.path("conf/here")));
    let world = world.var("TIDEGATE__STATE_DIR", "there");
    check(&world, Some(world.path("there")));
    check(&World::with_yaml(&format!("state_dir: /a/b\n{GOOD}")), Some("/a/b".into()));
    check(&World::with_yaml(&format!("state_dir: off\n{GOOD}")), None);
    check(&World::with_yaml(GOOD).var("TIDEGATE__STATE_DIR", "off"), None);
}

#[test]
fn who_asks_for_it_need_not_be_able_to_serve() {
    let broken =
        World::with_yaml("state_dir: x\nlimit: 5\nupstreams: { a: { url: \"${GONE}\" } }\n");
    assert!(broken.load().is_err());
    assert_eq!(state_dir_in(&broken.flags, &broken.around()).unwrap(), Some(broken.path("x")));
    let nothing = World::new();
    let found = state_dir_in(&nothing.flags, &nothing.around()).unwrap();
    assert_eq!(found, Some("/tmp/tidegate-1000".into()));
}

#[test]
fn what_cannot_be_a_directory_is_refused() {
    for (value, expected) in [
        ("data.txt", "it is not a directory; found `data.txt`"),
        ("\"\"", "not a path; found ``"),
        ("5", "text is needed, not a number; found `5`"),
        ("false", "text is needed, not a truth value; found `false`"),
    ] {
        let world = World::with_yaml(&format!("state_dir: {value}\nlimits: 1\n{GOOD}"));
        let report = state_dir_in(&world.flags, &world.around()).unwrap_err().to_string();
        let (_, problem) = report.split_once("\n\n").unwrap();
        let line = format!("t.yaml:2:12: state_dir: {expected}\n    ");
        assert!(problem.starts_with(&line) && problem.ends_with("; or off\n"), "{report}");
        assert!(world.problems().contains(problem.trim_end()), "{}", world.problems());
    }
    let mut gone = World::new();
    gone.flags.config = Some("gone.yaml".into());
    let report = state_dir_in(&gone.flags, &gone.around()).unwrap_err().to_string();
    assert!(report.contains("gone.yaml: cannot read this file"), "{report}");
}
