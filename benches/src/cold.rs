//! What a server that is slow to start costs whoever opens a session: with a warm spare and without.
//!
//! The server takes a fixed time before it reads anything. A caller who gets a spare should notice
//! none of it, and one who comes when the spare is taken should wait for one start and no more.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{
    runtime::LocalRuntime,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{Client, Target},
    peers::{self, Programs},
    plan::Cold,
    wire::Era,
};

const CALLERS_AT_ONCE: usize = 4;
/// What a new spare needs beyond twice its start to be there: a proxy may look only now and then
/// whether one is missing.
const MARGIN: Duration = Duration::from_millis(200);
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// Milliseconds from connecting to an open session, one value a session.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Opened {
    /// Without a spare, one after the other.
    pub cold_ms: Vec<f64>,
    /// With one spare, one after the other, each when the spare is there again.
    pub warm_ms: Vec<f64>,
    /// With one spare, for four callers who come at once.
    pub together_ms: Vec<f64>,
    /// Why there are no values, where the program does not know spares.
    pub refused: Option<String>,
}

/// Opens sessions on a `tidegate` of its own, twice: `min_idle` is 0, then 1.
///
/// # Errors
///
/// When the program does not start, unless it does not know spares, or a session cannot be opened.
pub fn run(cold: Cold, programs: &Programs, say: &mut dyn FnMut(&str)) -> anyhow::Result<Opened> {
    match measure(cold, programs, say) {
        Err(error) if format!("{error:#}").contains("min_idle") => {
            let reason = "this program does not know min_idle".to_owned();
            Ok(Opened { refused: Some(reason), ..Opened::default() })
        }
        result => result,
    }
}

fn measure(cold: Cold, programs: &Programs, say: &mut dyn FnMut(&str)) -> anyhow::Result<Opened> {
    let folder = TempDir::new()?;
    let stage = Stage { cold, programs, folder: folder.path() };
    let runtime = LocalRuntime::new()?;
    say("sessions of a slow server, no spare");
    let cold_ms = stage.with(0, |target| runtime.block_on(one_by_one(target, cold)))?;
    say("sessions of a slow server, one spare");
    let (warm_ms, together_ms) = stage.with(1, |target| {
        runtime.block_on(async {
            let alone = one_by_one(target, cold).await?;
            Ok((alone, together(target, cold).await?))
        })
    })?;
    Ok(Opened { cold_ms, warm_ms, together_ms, refused: None })
}

struct Stage<'a> {
    cold: Cold,
    programs: &'a Programs,
    folder: &'a Path,
}

impl Stage<'_> {
    /// Runs `measure` on a proxy that keeps so many spares.
    fn with<T>(
        &self,
        spares: usize,
        measure: impl FnOnce(&Target) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let starts = self.folder.join(format!("{spares}.starts"));
        let config = self.write_config(spares, &starts)?;
        let address = peers::free_address()?;
        let mut command = peers::tidegate(self.programs, None, address);
        command.arg("--config").arg(config);
        let log = self.folder.join(format!("{spares}.log"));
        let proxy = peers::polled(&mut command, address, &log)?;
        measure(&proxy.target)
    }

    fn write_config(&self, spares: usize, starts: &Path) -> anyhow::Result<PathBuf> {
        let mut command = self.programs.stdio_fixture(starts);
        command.extend(["--start-ms".into(), self.cold.start.as_millis().to_string().into()]);
        let words: Option<Vec<_>> =
            command.iter().map(|word| Some(format!("{:?}", word.to_str()?))).collect();
        let words = words.context("the path of the fixture is no text")?.join(", ");
        let text = format!(
            "version: 1\nupstreams: {{ slow: {{ stdio: {{ command: [{words}], sharing: session, \
             min_idle: {spares} }} }} }}\n"
        );
        let path = self.folder.join(format!("{spares}.yaml"));
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Opens sessions, each long enough after the one before has ended for a new spare to be there.
async fn one_by_one(target: &Target, cold: Cold) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..cold.sessions {
        sleep(cold.start * 2 + MARGIN).await;
        let (client, time) = open(target).await?;
        times.push(time);
        client.close().await?;
    }
    Ok(times)
}

async fn together(target: &Target, cold: Cold) -> anyhow::Result<Vec<f64>> {
    sleep(cold.start * 2 + MARGIN).await;
    let mut opening = JoinSet::new();
    for _ in 0..CALLERS_AT_ONCE {
        let target = target.clone();
        opening.spawn_local(async move { open(&target).await });
    }
    let mut times = Vec::new();
    for opened in opening.join_all().await {
        let (client, time) = opened?;
        times.push(time);
        client.close().await?;
    }
    Ok(times)
}

async fn open(target: &Target) -> anyhow::Result<(Client, f64)> {
    let start = Instant::now();
    let client = timeout(OPEN_WITHIN, Client::open(target, Era::Legacy, "echo")).await;
    let client = client.context("no session in time")??;
    Ok((client, start.elapsed().as_secs_f64() * 1000.0))
}
