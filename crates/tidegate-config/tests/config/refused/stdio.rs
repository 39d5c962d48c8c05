//! `upstreams` with a command.

use super::{check, check_yaml};
use crate::world::World;

#[test]
fn commands() {
    check_yaml(
        "upstreams:
  text: { stdio: { command: npx -y server } }
  empty: { stdio: { command: [] } }
  blank: { stdio: { command: [\"\"] } }
  missing: { stdio: {} }
  gone: { stdio: { command: [no-such-program, -x] } }
  path: { stdio: { command: [./nowhere] } }
  plain: { stdio: { command: [./data.txt] } }
  folder: { stdio: { command: [./bin] } }
  number: { stdio: { command: [server, 5] } }
  cwd: { stdio: { command: [server], cwd: nowhere } }
  file: { stdio: { command: [server], cwd: data.txt } }
routes: [{ match: { path: / }, upstream: text }]
",
        &[
            "t.yaml:3:29: upstreams.text.stdio.command: a list is needed; found `npx -y server`",
            "write it as a list: [npx, -y, server]",
            "t.yaml:4:30: upstreams.empty.stdio.command: the command is empty; found a list",
            "write the program and its arguments, for example [npx, -y, some-server]",
            "t.yaml:5:31: upstreams.blank.stdio.command[0]: the command is empty; found ``",
            "write the program first",
            "t.yaml:6:14: upstreams.missing.stdio.command: the key is missing",
            "write the program and its arguments, for example [npx, -y, some-server]",
            "t.yaml:7:30: upstreams.gone.stdio.command[0]: no program `no-such-program` in the 1 \
             folders of PATH; found `no-such-program`",
            "install it, write its full path, or set `env.PATH` for the child",
            "t.yaml:8:30: upstreams.path.stdio.command[0]: cannot run ~/./nowhere: there is no such \
             file; found `./nowhere`",
            "give the path of an executable file",
            "t.yaml:9:31: upstreams.plain.stdio.command[0]: cannot run ~/./data.txt: it is not \
             executable; found `./data.txt`",
            "give the path of an executable file",
            "t.yaml:10:32: upstreams.folder.stdio.command[0]: cannot run ~/./bin: it is not a file; \
             found `./bin`",
            "give the path of an executable file",
            "t.yaml:11:40: upstreams.number.stdio.command[1]: text is needed, not a number; found \
             `5`",
            "put it in quotes",
            "t.yaml:12:43: upstreams.cwd.stdio.cwd: there is no such directory; found `nowhere`",
            "create ~/nowhere, or correct it",
            "t.yaml:13:44: upstreams.file.stdio.cwd: it is not a directory; found `data.txt`",
            "create ~/data.txt, or correct it",
        ],
    );
}

#[test]
fn environments_of_children() {
    check_yaml(
        "upstreams:
  a:
    stdio:
      command: [server]
      env: { PORT: 8080, TOKEN: \"${NOBODY}\", \"A=B\": x }
      clear_env: no
      inherit_env: [\"A=B\", HOME]
      stop_grace: -1s
      max_line: 1B
      max_in_flight: 0
",
        &[
            "t.yaml:6:20: upstreams.a.stdio.env.PORT: text is needed, not a number; found `8080`",
            "put it in quotes",
            "t.yaml:6:33: upstreams.a.stdio.env.TOKEN: the variable NOBODY is not set; found \
             <hidden>",
            "set NOBODY, or write $${NOBODY} if the text itself is meant",
            "t.yaml:6:46: upstreams.a.stdio.env.\"A=B\": not a name for a variable",
            "a name is not empty and has no = in it",
            "t.yaml:7:18: upstreams.a.stdio.clear_env: a truth value is needed; found `no`",
            "write true or false",
            "t.yaml:8:21: upstreams.a.stdio.inherit_env[0]: not a name for a variable; found `A=B`",
            "a name is not empty and has no = in it",
            "t.yaml:9:19: upstreams.a.stdio.stop_grace: not a duration; found `-1s`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:10:17: upstreams.a.stdio.max_line: it is too small; found `1B`",
            "write 1KiB to 1GiB",
            "t.yaml:11:22: upstreams.a.stdio.max_in_flight: it is too small; found `0`",
            "write 1 to 1000000",
        ],
    );
}

#[test]
fn processes_of_a_command() {
    check_yaml(
        "upstreams:
  a:
    stdio:
      command: [server]
      sharing: share
      max_processes: 0
      max_waiting: -1
      acquire_timeout: 0s
      min_idle: some
      idle_timeout: never
      max_age: 0s
      max_calls: 0
      max_rss: 100
      start_attempts: 1001
      down_for: off
      user: nobody-of-this-name
      group: 4294967295
      rlimits: { nofile: 15, as: 1MiB, cpu: 1500ms, core: 0 }
",
        &[
            "t.yaml:6:16: upstreams.a.stdio.sharing: not a way of sharing; found `share`",
            "did you mean shared? write session, shared or auto",
            "t.yaml:7:22: upstreams.a.stdio.max_processes: it is too small; found `0`",
            "write 1 to 100000",
            "t.yaml:8:20: upstreams.a.stdio.max_waiting: a whole number is needed; found `-1`",
            "write digits only, without quotes",
            "t.yaml:9:24: upstreams.a.stdio.acquire_timeout: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:10:17: upstreams.a.stdio.min_idle: a whole number is needed; found `some`",
            "write digits only, without quotes",
            "t.yaml:11:21: upstreams.a.stdio.idle_timeout: not a duration; found `never`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:12:16: upstreams.a.stdio.max_age: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; or off",
            "t.yaml:13:18: upstreams.a.stdio.max_calls: it is too small; found `0`",
            "write 1 to 1000000000000; or off",
            "t.yaml:14:16: upstreams.a.stdio.max_rss: a size needs a unit; found `100`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB; or off",
            "t.yaml:15:23: upstreams.a.stdio.start_attempts: it is too large; found `1001`",
            "write 1 to 1000",
            "t.yaml:16:17: upstreams.a.stdio.down_for: not a duration; found `off`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:17:13: upstreams.a.stdio.user: there is no user of this name; found \
             `nobody-of-this-name`",
            "create it, or write the name or number of another user",
            "t.yaml:18:14: upstreams.a.stdio.group: this number is too large; found `4294967295`",
            "write 0 to 4294967294",
            "t.yaml:19:26: upstreams.a.stdio.rlimits.nofile: it is too small; found `15`",
            "write 16 to 1073741824; or off",
            "t.yaml:19:34: upstreams.a.stdio.rlimits.as: it is too small; found `1MiB`",
            "write 16MiB to 65536GiB; or off",
            "t.yaml:19:45: upstreams.a.stdio.rlimits.cpu: the system counts whole seconds; found \
             `1500ms`",
            "write whole seconds, for example 60s; or off",
            "t.yaml:19:53: upstreams.a.stdio.rlimits.core: unknown key",
            "the keys here are nofile, as, cpu",
        ],
    );
}

#[test]
fn processes_of_a_command_in_the_wrong_notation() {
    check_yaml(
        "upstreams:
  b:
    stdio:
      command: [server]
      sharing: yes
      max_age: false
      max_calls: [1]
      max_rss:
      user: 1.5
      group: none-of-this-name
      rlimits: off
",
        &[
            "t.yaml:6:16: upstreams.b.stdio.sharing: not a way of sharing; found `yes`",
            "write session, shared or auto",
            "t.yaml:7:16: upstreams.b.stdio.max_age: not a duration; found `false`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:8:18: upstreams.b.stdio.max_calls: a single value is needed; found a list",
            "write one value after the colon; or off",
            "t.yaml:9:14: upstreams.b.stdio.max_rss: a size is needed; found nothing",
            "write a value after the colon, or leave the key out for its default; or off",
            "t.yaml:10:13: upstreams.b.stdio.user: not a name or number; found `1.5`",
            "write the name or the number of one",
            "t.yaml:11:14: upstreams.b.stdio.group: there is no group of this name; found \
             `none-of-this-name`",
            "create it, or write the name or number of another group",
            "t.yaml:12:16: upstreams.b.stdio.rlimits: a mapping is needed; found `off`",
            "write `key: value` pairs below it; the keys are nofile, as, cpu",
        ],
    );
}

#[test]
fn processes_that_contradict_each_other() {
    check_yaml(
        "upstreams:
  few: { stdio: { command: [server], max_processes: 4, min_idle: 5 } }
  shared: { stdio: { command: [server], sharing: shared, min_idle: 1 } }
  nobody: { stdio: { command: [server], user: 4294967 } }
routes: [{ match: { path: / }, upstream: few }]
",
        &[
            "t.yaml:3:66: upstreams.few.stdio.min_idle: it is larger than max_processes, which is 4; \
             found `5`",
            "lower min_idle or raise max_processes",
            "t.yaml:4:68: upstreams.shared.stdio.min_idle: spare processes serve sessions that have \
             a process each, and with `sharing: shared` none has; found `1`",
            "write 0, or `sharing: session`, or `sharing: auto`",
            "t.yaml:5:47: upstreams.nobody.stdio.user: the user is 4294967, and only root can start \
             a child as another than 1000; found `4294967`",
            "leave `user` and `group` out, or run the proxy as root; it is user 1000",
        ],
    );
    check(
        &World::with_yaml("upstreams: { a: { stdio: { command: [server], user: 4294967 } } }\n")
            .running_as(0, 0),
        &[
            "t.yaml:2:53: upstreams.a.stdio.user: no user has this number, so its group is not \
             known; found `4294967`",
            "set `group` too",
        ],
    );
}

#[test]
fn limits_that_the_system_would_not_take() {
    // One more than any Linux can be told to allow for open files.
    let yaml =
        "upstreams: { a: { stdio: { command: [server], rlimits: { nofile: 1073741824 } } } }\n";
    for (user, whose) in [(1000, ""), (0, "the system allows; found")] {
        let problems = World::with_yaml(yaml).running_as(user, user).problems();
        let place = "t.yaml:2:66: upstreams.a.stdio.rlimits.nofile: it is more than ";
        assert!(problems.starts_with(place) && problems.contains(whose), "{problems}");
        let help = "\n    lower it, or raise the limit before the proxy starts\n";
        assert!(problems.ends_with(help), "{problems}");
    }
}
