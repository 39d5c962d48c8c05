//! `limits` and `timeouts`.

use super::check_after_good;

#[test]
fn sizes_durations_and_counts() {
    check_after_good(
        "limits:
  max_body: 16
  max_uri: 4KB2
  max_header_bytes: 1KiB
  max_batch: -1
  max_depth: 1000
  max_sessions: 99999999999999999999
  body_budget: true
timeouts: { drain: 10, headers: 10 sec, body_idle: 0s, keep_alive: 366d, first_byte: 0.5 }
",
        &[
            "t.yaml:5:13: limits.max_body: a size needs a unit; found `16`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB",
            "t.yaml:6:12: limits.max_uri: not a size; found `4KB2`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB",
            "t.yaml:7:21: limits.max_header_bytes: it is too small; found `1KiB`",
            "write 8KiB to 1MiB",
            "t.yaml:8:14: limits.max_batch: a whole number is needed; found `-1`",
            "write digits only, without quotes",
            "t.yaml:9:14: limits.max_depth: it is too large; found `1000`",
            "write 1 to 128",
            "t.yaml:10:17: limits.max_sessions: this number is too large; found \
             `99999999999999999999`",
            "write a smaller whole number",
            "t.yaml:11:16: limits.body_budget: not a size; found `true`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB",
            "t.yaml:12:20: timeouts.drain: a duration needs a unit; found `10`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:12:33: timeouts.headers: not a duration; found `10 sec`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:12:52: timeouts.body_idle: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:12:68: timeouts.keep_alive: the duration is too long; found `366d`",
            "write at most 365d",
            "t.yaml:12:86: timeouts.first_byte: not a duration; found `0.5`",
            "write a whole number and ms, s, m, h or d, for example 30s",
        ],
    );
}

#[test]
fn limits_that_contradict_each_other() {
    check_after_good(
        "limits: { max_body: 300MiB, max_header_value: 64KiB, max_uri: 60KiB }\n",
        &[
            "t.yaml:4:21: limits.max_body: it is larger than body_budget, which is 256MiB; found \
             `300MiB`",
            "lower max_body or raise body_budget",
            "t.yaml:4:47: limits.max_header_value: it is larger than max_header_bytes, which is \
             32KiB; found `64KiB`",
            "lower max_header_value or raise max_header_bytes",
            "t.yaml:4:63: limits.max_uri: it is larger than max_header_bytes, which is 32KiB; \
             found `60KiB`",
            "lower max_uri or raise max_header_bytes",
        ],
    );
}
