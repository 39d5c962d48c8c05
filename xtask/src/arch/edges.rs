//! Who may depend on whom: the table of ARCHITECTURE.md section 2.

use super::workspace::{Package, Use};

/// Crates that know the seam and never each other.
const SIBLINGS: [&str; 15] = [
    "tidegate-auth",
    "tidegate-balance",
    "tidegate-bridge",
    "tidegate-federate",
    "tidegate-plugin",
    "tidegate-resilience",
    "tidegate-rules",
    "tidegate-server",
    "tidegate-session",
    "tidegate-tape",
    "tidegate-telemetry",
    "tidegate-upstream-grpc",
    "tidegate-upstream-http",
    "tidegate-upstream-sse",
    "tidegate-upstream-stdio",
];

/// Siblings that reach their server over HTTP.
const OVER_HTTP: [&str; 2] = ["tidegate-upstream-http", "tidegate-upstream-sse"];

/// Packages that only check the others, so they may know anything.
const FREE: [&str; 3] = ["tidegate-benches", "tidegate-tests", "xtask"];

/// Outside crates that would bring a runtime, a socket or a clock to a crate that has none.
const NO_RUNTIME: [(&str, &[&str]); 2] = [
    (
        "tidegate-protocol",
        &["hyper", "hyper-util", "mio", "rustls", "socket2", "tokio", "tokio-util"],
    ),
    (
        "tidegate-config",
        &["hyper", "hyper-util", "mio", "rustls", "socket2", "tokio", "tokio-util"],
    ),
];

/// Every edge that the table does not have, and every package without a row.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut violations = Vec::new();
    for package in packages {
        let Some(allowed) = allowed(&package.name) else {
            if !FREE.contains(&package.name.as_str()) {
                violations.push(format!("{} has no row in the edge table", package.name));
            }
            continue;
        };
        for edge in &package.dependencies {
            let known = ours.contains(&edge.name.as_str());
            let testing = edge.kind == Use::Dev && edge.name == "tidegate-testkit";
            if known
                && !testing
                && !allowed.contains(&edge.name.as_str())
                && edge.name != package.name
            {
                violations.push(format!("{} must not depend on {}", package.name, edge.name));
            }
            let banned = NO_RUNTIME.iter().filter(|(name, _)| *name == package.name);
            if edge.kind != Use::Dev
                && banned.clone().any(|(_, names)| names.contains(&edge.name.as_str()))
            {
                violations.push(format!(
                    "{} has no runtime, socket or clock: not {}",
                    package.name, edge.name
                ));
            }
        }
    }
    violations
}

/// The row of a crate; `None` for a crate that has none.
fn allowed(name: &str) -> Option<Vec<&'static str>> {
    const SEAM: [&str; 2] = ["tidegate-protocol", "tidegate-service"];
    let row = match name {
        "tidegate-protocol" | "tidegate-pool" | "tidegate-config" | "tidegate-preexec" => vec![],
        "tidegate-process" => vec!["tidegate-preexec"],
        "tidegate-upstream-stdio" => [&SEAM[..], &["tidegate-pool", "tidegate-process"]].concat(),
        "tidegate-service" => vec!["tidegate-protocol"],
        "tidegate-testkit" | "tidegate-demo" => SEAM.to_vec(),
        "tidegate-gateway" => {
            let rest = ["tidegate-pool", "tidegate-process", "tidegate-config"];
            [&SIBLINGS[..], &SEAM, &rest].concat()
        }
        "tidegate-cli" => {
            vec!["tidegate-gateway", "tidegate-config", "tidegate-demo", "tidegate-tape"]
        }
        "tidegate" => vec!["tidegate-cli"],
        "tidegate-http-client" => [&SEAM[..], &["tidegate-pool"]].concat(),
        over_http if OVER_HTTP.contains(&over_http) => {
            [&SEAM[..], &["tidegate-http-client", "tidegate-pool"]].concat()
        }
        sibling if SIBLINGS.contains(&sibling) => SEAM.to_vec(),
        _ => return None,
    };
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::super::workspace::{Edge, Package, Use};
    use super::check;

    fn package(name: &str, dependencies: &[(&str, Use)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Edge { name: (*name).to_owned(), kind: *kind })
            .collect();
        Package { name: name.to_owned(), dependencies, files: vec![] }
    }

    fn violations(name: &str, dependency: &str, kind: Use) -> Vec<String> {
        check(&[package(name, &[(dependency, kind)]), package(dependency, &[])])
            .into_iter()
            .filter(|violation| !violation.starts_with(&format!("{dependency} has no row")))
            .collect()
    }

    #[test]
    fn edges_of_the_table_pass() {
        for (from, to) in [
            ("tidegate-service", "tidegate-protocol"),
            ("tidegate-upstream-http", "tidegate-http-client"),
            ("tidegate-upstream-sse", "tidegate-http-client"),
            ("tidegate-http-client", "tidegate-pool"),
            ("tidegate-upstream-stdio", "tidegate-pool"),
            ("tidegate-upstream-stdio", "tidegate-process"),
            ("tidegate-process", "tidegate-preexec"),
            ("tidegate-gateway", "tidegate-telemetry"),
            ("tidegate-cli", "tidegate-demo"),
            ("tidegate", "tidegate-cli"),
        ] {
            assert!(violations(from, to, Use::Normal).is_empty(), "{from} -> {to}");
        }
        assert!(violations("tidegate-session", "tidegate-testkit", Use::Dev).is_empty());
        assert!(violations("tidegate-tests", "tidegate-gateway", Use::Normal).is_empty());
    }

    #[test]
    fn every_other_edge_fails() {
        for (from, to) in [
            ("tidegate-protocol", "tidegate-service"),
            ("tidegate-server", "tidegate-session"),
            ("tidegate-telemetry", "tidegate-pool"),
            ("tidegate-session", "tidegate-testkit"),
            ("tidegate-gateway", "tidegate-demo"),
            ("tidegate", "tidegate-gateway"),
            ("tidegate-upstream-http", "tidegate-process"),
            ("tidegate-upstream-sse", "tidegate-upstream-http"),
            ("tidegate-upstream-stdio", "tidegate-http-client"),
            ("tidegate-http-client", "tidegate-upstream-http"),
            ("tidegate-cli", "tidegate-process"),
            ("tidegate-upstream-stdio", "tidegate-preexec"),
        ] {
            assert_eq!(violations(from, to, Use::Normal).len(), 1, "{from} -> {to}");
        }
        assert_eq!(violations("tidegate-server", "tidegate-session", Use::Dev).len(), 1);
    }

    #[test]
    fn a_crate_without_a_runtime_gets_none() {
        for (kind, count) in [(Use::Normal, 1), (Use::Dev, 0)] {
            assert_eq!(check(&[package("tidegate-protocol", &[("tokio", kind)])]).len(), count);
        }
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        assert_eq!(
            check(&[package("tidegate-common", &[])]),
            ["tidegate-common has no row in the edge table"]
        );
    }
}
