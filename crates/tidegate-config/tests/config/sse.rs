//! The paths of HTTP+SSE: short forms, defaults, and that nobody else has them.

use crate::world::World;

/// The paths of the only route, which matches this path.
#[track_caller]
fn check(path: &str, sse: &str, expected: Option<(&str, &str)>) {
    let routes = format!("routes: [{{ match: {{ path: \"{path}\" }}, upstream: a{sse} }}]\n");
    let world =
        World::with_yaml(&format!("upstreams: {{ a: {{ url: \"http://a/\" }} }}\n{routes}"));
    let config = world.var("P", "/from-p").config();
    let paths = config.routes.first().and_then(|route| route.sse.as_ref());
    let paths = paths.map(|paths| (paths.path.as_str(), paths.messages.as_str()));
    assert_eq!(paths, expected, "{sse}");
}

#[test]
fn paths_are_below_the_route_unless_given() {
    check("/a", "", None);
    check("/a", ", sse: off", None);
    check("/a", ", sse: false", None);
    check("/a", ", sse: true", Some(("/a/sse", "/a/messages")));
    check("/a", ", sse: {}", Some(("/a/sse", "/a/messages")));
    check("/", ", sse: true", Some(("/sse", "/messages")));
    check("/a", ", sse: { path: /a }", Some(("/a", "/a/messages")));
    check("/a", ", sse: { path: /s, messages: /m }", Some(("/s", "/m")));
    check("/a", ", sse: { messages: \"${P}\" }", Some(("/a/sse", "/from-p")));
    check("${P}", ", sse: true", Some(("/from-p/sse", "/from-p/messages")));
}

#[test]
fn a_path_leads_to_one_thing() {
    let world = World::with_yaml(
        "upstreams: { a: { url: \"http://a/\" } }
routes:
  - { match: { path: /a }, upstream: a, sse: { path: /b, messages: /a } }
  - { match: { path: /b }, upstream: a, sse: { path: /x/, messages: /x%41 } }
  - { match: { path: /c }, upstream: a, sse: { path: /b, messages: /m } }
  - { match: { path: /d }, upstream: a, sse: { path: /m, message: /n } }
  - { match: { path: /e }, upstream: a, sse: 1 }
",
    );
    let problems = world.problems();
    let problems: Vec<&str> = problems.lines().filter(|line| line.starts_with("t.yaml")).collect();
    let expected = [
        "t.yaml:4:54: routes[0].sse.path: the path is taken by routes[1].match.path; found `/b`",
        "t.yaml:4:68: routes[0].sse.messages: the path is taken by routes[0].match.path; found `/a`",
        "t.yaml:5:54: routes[1].sse.path: the path ends with /; found `/x/`",
        "t.yaml:5:69: routes[1].sse.messages: the path has a % in it; found `/x%41`",
        "t.yaml:6:54: routes[2].sse.path: the path is taken by routes[1].match.path; found `/b`",
        "t.yaml:7:54: routes[3].sse.path: the path is taken by routes[2].sse.messages; found `/m`",
        "t.yaml:7:58: routes[3].sse.message: unknown key",
        "t.yaml:8:46: routes[4].sse: a mapping is needed; found `1`",
    ];
    assert_eq!(problems, expected);
}
