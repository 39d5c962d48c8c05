//! `listeners`, `ops`, `security` and `log`.

use super::check_after_good;

#[test]
fn addresses() {
    check_after_good(
        "listeners:
  - address: 127.0.0.1:8080
  - { address: \":9000\" }
  - address: 127.0.0.1
  - {}
  - address: 127.0.0.1:8080
  - address: 0.0.0.0:8080
ops: { address: 127.0.0.1:8081, path: /x }
",
        &[
            "t.yaml:6:16: listeners[1].address: not an IP address with a port; found `:9000`",
            "write 127.0.0.1:9000, or 0.0.0.0:9000 for all",
            "t.yaml:7:14: listeners[2].address: not an IP address with a port; found `127.0.0.1`",
            "write a port behind it, IP:PORT",
            "t.yaml:8:5: listeners[3].address: the key is missing",
            "write IP:PORT, for example 127.0.0.1:8080 or [::1]:8080",
            "t.yaml:9:14: listeners[4].address: the address is taken by listeners[0].address; \
             found `127.0.0.1:8080`",
            "give each its own port, or remove one",
            "t.yaml:10:14: listeners[5].address: the address is taken by listeners[0].address; \
             found `0.0.0.0:8080`",
            "give each its own port, or remove one",
            "t.yaml:11:33: ops.path: unknown key",
            "the keys here are address",
        ],
    );
    check_after_good(
        "ops: { address: 127.0.0.1:8080 }\n",
        &[
            "t.yaml:4:17: ops.address: the address is taken by listeners[0].address; found \
             `127.0.0.1:8080`",
            "give each its own port, or remove one",
        ],
    );
    check_after_good(
        "listeners: []\n",
        &[
            "t.yaml:4:12: listeners: there is no listener; found a list",
            "write at least one address",
        ],
    );
}

#[test]
fn hosts_and_origins() {
    check_after_good(
        "security:
  allowed_hosts: [\"*\", mcp.example, \"http://x\"]
  allowed_origins: [\"https://ok.example\", app.example]
",
        &[
            "t.yaml:5:19: security.allowed_hosts[0]: not a host name; found `*`",
            "write the name alone or with a port, for example mcp.example or mcp.example:8443",
            "t.yaml:5:37: security.allowed_hosts[2]: not a host name; found `http://x`",
            "write the name alone or with a port, for example mcp.example or mcp.example:8443",
            "t.yaml:6:43: security.allowed_origins[1]: not an origin; found `app.example`",
            "write scheme and host as browsers do, for example https://app.example, without a \
             path and a slash at the end",
        ],
    );
}

#[test]
fn logs() {
    check_after_good(
        "log: { level: verbos, format: xml }\n",
        &[
            "t.yaml:4:15: log.level: not a log level; found `verbos`",
            "write off, error, warn, info, debug or trace, or several parts such as \
             info,tidegate_gateway=debug",
            "t.yaml:4:31: log.format: not a format; found `xml`",
            "write text or json",
        ],
    );
}
