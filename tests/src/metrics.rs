//! What the ops listener says in numbers.

use std::net::SocketAddr;

use crate::http;

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics(String);

/// What a gauge's name says when it counts work that is under way, a word a line. When nobody wants
/// anything, all of these are zero; processes and connections that are kept for the next call may be
/// left. `cargo xtask leak-check` reads the file too.
const BUSY: &str = include_str!("busy.txt");

impl Metrics {
    /// Scrapes the ops listener at this address.
    pub async fn scrape(ops: SocketAddr) -> Self {
        let answer = http::get(ops, "/metrics", &[]).await;
        assert_eq!(answer.status, 200);
        Self(answer.text())
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The lines that are samples.
    pub fn samples(&self) -> impl Iterator<Item = &str> {
        self.0.lines().filter(|line| !line.starts_with('#'))
    }

    /// The sum of the samples of a family that have all of these labels.
    pub fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        self.samples()
            .filter(|line| line.split(['{', ' ']).next() == Some(family))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .fold(0.0, |sum, value| sum + value)
    }

    /// The sum as a count.
    pub fn count(&self, family: &str, labels: &[&str]) -> u64 {
        let sum = self.sum(family, labels);
        assert!(sum >= 0.0 && sum.fract() == 0.0, "{family} {labels:?}: {sum}");
        format!("{sum:.0}").parse().unwrap()
    }

    /// The samples that say that something is under way.
    pub fn busy(&self) -> Vec<&str> {
        let gauges: Vec<&str> = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"))
            .filter(|family| BUSY.lines().any(|word| family.contains(word)))
            .collect();
        assert!(gauges.len() >= 7, "the gauges have other names now: {gauges:?}");
        self.samples()
            .filter(|line| {
                gauges.iter().any(|family| line.split(['{', ' ']).next() == Some(family))
            })
            .filter(|line| !line.ends_with(" 0"))
            .collect()
    }
}
