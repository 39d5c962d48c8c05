//! The user and group of a child: looked up when the configuration is read.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use tidegate_config::Upstream;

use crate::world::World;

fn world(keys: &str) -> World {
    World::with_yaml(&format!("upstreams: {{ a: {{ stdio: {{ command: [server], {keys} }} }} }}\n"))
}

/// The user and group that come of these keys, for root.
#[track_caller]
fn check(keys: &str, expected: (Option<u32>, Option<u32>)) {
    let config = world(keys).running_as(0, 0).config();
    let Upstream::Stdio(child) = &config.upstreams["a"] else { panic!("not stdio") };
    assert_eq!((child.user, child.group), expected, "{keys}");
}

/// Somebody on this machine whose group has another number: name, number, group, its name.
fn somebody() -> (String, u32, u32, String) {
    let lines = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| line.split(':').map(str::to_owned).collect());
        lines.collect::<Vec<Vec<String>>>()
    };
    let groups = lines("/etc/group");
    let found = lines("/etc/passwd").into_iter().find_map(|user| {
        let group = groups.iter().find(|group| group[2] == user[3] && user[2] != user[3])?;
        Some((
            user[0].clone(),
            user[2].parse().unwrap(),
            user[3].parse().unwrap(),
            group[0].clone(),
        ))
    });
    found.unwrap()
}

#[test]
fn names_and_numbers_are_resolved() {
    let (user, id, group_id, group) = somebody();
    let primary = (Some(id), Some(group_id));
    check("env: {}", (None, None));
    check(&format!("user: {user}"), primary);
    check(&format!("user: {id}"), primary);
    check(&format!("user: \"{id}\""), primary);
    check(&format!("user: {user}, group: 4002"), (Some(id), Some(4002)));
    check(&format!("user: 4001, group: {group}"), (Some(4001), Some(group_id)));
    check(&format!("group: {group}"), (None, Some(group_id)));
    check("group: \"4002\"", (None, Some(4002)));
}

#[test]
fn a_variable_can_name_a_user_and_a_number() {
    let (name, id, group, _) = somebody();
    for user in [name, id.to_string()] {
        let world = world("env: {}").running_as(0, 0);
        let config = world.var("TIDEGATE__UPSTREAMS__A__STDIO__USER", &user).config();
        let Upstream::Stdio(child) = &config.upstreams["a"] else { panic!("not stdio") };
        assert_eq!((child.user, child.group), (Some(id), Some(group)), "{user}");
    }
}

#[test]
fn whom_one_is_anyway_can_be_named_without_being_root() {
    let world = world("user: 4001, group: 4002").running_as(4001, 4002);
    let Upstream::Stdio(child) = world.config().upstreams["a"].clone() else { panic!("not stdio") };
    assert_eq!((child.user, child.group), (Some(4001), Some(4002)));
}

#[test]
fn only_root_can_name_others() {
    let problems = world("user: root, group: 4002").running_as(4001, 4001).problems();
    assert_eq!(
        problems,
        "t.yaml:2:53: upstreams.a.stdio.user: the user is 0, and only root can start a child as \
         another than 4001; found `root`\n    leave `user` and `group` out, or run the proxy as \
         root; it is user 4001\n\nt.yaml:2:66: upstreams.a.stdio.group: the group is 4002, and \
         only root can start a child as another than 4001; found `4002`\n    leave `user` and \
         `group` out, or run the proxy as root; it is user 4001\n"
    );
    let (user, id, group, _) = somebody();
    let problems = world(&format!("user: {user}")).running_as(id, group + 1).problems();
    let expected = format!("user: the primary group of this user is {group}, and only root can");
    assert!(problems.contains(&expected), "{problems}");
}
