//! `cargo xtask test`: every check, in an order that finds cheap mistakes first.
//!
//! A step writes its output to a log; a failure prints the end of it. The table and the line
//! `N passed, N failed` come last.

mod steps;

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::place::Place;
use crate::table;
use steps::{STEPS, Step};

#[derive(Args)]
pub(crate) struct Options {
    /// Only these steps.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// All but these steps.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,
    /// Name the steps and stop.
    #[arg(long)]
    list: bool,
}

/// How a step ended.
pub(crate) enum Outcome {
    Passed(String),
    Failed(String),
    /// It cannot be done here, for this reason.
    Skipped(String),
}

/// True when every chosen step passed.
pub(crate) fn run(place: &Place, options: &Options) -> anyhow::Result<bool> {
    let steps = choose(options)?;
    if options.list {
        let rows: Vec<Vec<String>> =
            steps.iter().map(|step| vec![step.name.to_owned(), step.about.to_owned()]).collect();
        print!("{}", table::render(&["step", "checks"], &rows));
        return Ok(true);
    }
    println!("build output: {}", place.target.display());
    println!("tools cache:  {}", place.tools.display());
    println!("logs:         {}", place.logs.display());
    let start = Instant::now();
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    let mut skipped = 0;
    for (number, step) in (1..).zip(&steps) {
        println!("\n[{number}/{}] {}: {}", steps.len(), step.name, step.about);
        let step_start = Instant::now();
        let outcome = perform(place, step, &failed);
        let seconds = whole_seconds(step_start.elapsed());
        let (verdict, detail) = match outcome {
            Outcome::Passed(detail) => ("ok", detail),
            Outcome::Failed(detail) => {
                failed.push(step.name);
                ("FAILED", detail)
            }
            Outcome::Skipped(reason) => {
                skipped += 1;
                ("skipped", reason)
            }
        };
        println!("{verdict}: {} in {seconds}. {detail}", step.name);
        // A table cell is one line, whatever the failure has to say.
        let short: String = detail.lines().next().unwrap_or_default().chars().take(100).collect();
        rows.push(vec![step.name.to_owned(), verdict.to_owned(), seconds, short]);
    }
    println!("\n{}", table::render(&["step", "result", "time", "detail"], &rows));
    println!("total time: {}", whole_seconds(start.elapsed()));
    let passed = steps.len() - failed.len() - skipped;
    let tail = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    println!("{passed} passed, {} failed{tail}", failed.len());
    Ok(failed.is_empty())
}

fn perform(place: &Place, step: &Step, failed: &[&str]) -> Outcome {
    // Running what was not built would only repeat the build's complaint.
    if let Some(needed) = step.needs.filter(|needed| failed.contains(needed)) {
        return Outcome::Failed(format!("not run, because {needed} failed"));
    }
    (step.run)(place).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
}

fn choose(options: &Options) -> anyhow::Result<Vec<&'static Step>> {
    for name in options.only.iter().chain(&options.skip) {
        let known = STEPS.iter().any(|step| step.name == name);
        ensure!(known, "there is no step {name}; `cargo xtask test --list` names them");
    }
    let chosen = |step: &&Step| {
        let name = step.name.to_owned();
        (options.only.is_empty() || options.only.contains(&name)) && !options.skip.contains(&name)
    };
    let steps: Vec<&'static Step> = STEPS.iter().filter(chosen).collect();
    ensure!(!steps.is_empty(), "no step is left to run");
    Ok(steps)
}

fn whole_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, choose};

    fn names(only: &[&str], skip: &[&str]) -> Result<Vec<&'static str>, String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let options = Options { only: owned(only), skip: owned(skip), list: false };
        let steps = choose(&options).map_err(|error| error.to_string())?;
        Ok(steps.into_iter().map(|step| step.name).collect())
    }

    #[test]
    fn only_and_skip_choose_in_the_order_of_the_run() {
        assert_eq!(names(&["arch", "fmt"], &[]).unwrap(), ["fmt", "arch"]);
        assert_eq!(names(&["arch", "fmt"], &["fmt"]).unwrap(), ["arch"]);
        assert!(names(&[], &["fmt"]).unwrap().len() > 5);
    }

    #[test]
    fn an_unknown_step_and_an_empty_run_are_mistakes() {
        assert!(names(&["fnt"], &[]).unwrap_err().contains("fnt"));
        assert!(names(&["fmt"], &["fmt"]).is_err());
    }
}
