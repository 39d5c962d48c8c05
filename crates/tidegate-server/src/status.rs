//! The status socket: whoever may reach it on this machine is told how the proxy is, and can change
//! nothing.
//!
//! A Unix socket and no path of the ops listener, because the report says more than a scraper needs
//! to know, and the permissions of a file are all the protection it takes. Each proxy has a socket
//! of its own, named after its process, in a directory that only its user may look into. A
//! connection is given one report, as JSON, and closed. [`reports`] is the other end of it.

use std::{
    fmt, fs,
    fs::Permissions,
    io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener as StdListener,
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, geteuid, test_kill_process};
use tidegate_service::{OnError, Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// How many may ask at once; others are hung up on.
const MAX_ASKING: usize = 16;
/// How long one end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the accept loop rests when the process is out of descriptors.
const REST: Duration = Duration::from_millis(100);
/// The longest report that is read. A proxy that says more is not one of ours.
const MAX_REPORT: u64 = 16 << 20;

const SUFFIX: &str = ".sock";
/// Of a socket that does not listen yet.
const UNFINISHED: &str = ".new";

/// Where a report comes from. It is asked for every connection and must not block.
pub type Report = Arc<dyn Fn() -> String + Send + Sync>;

/// Why there is no status socket.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The directory cannot be made or looked at.
    #[error("cannot use the directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could put a socket of theirs in place of ours.
    #[error("{} {why}", .path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The socket cannot be made. Too long a path is one reason.
    #[error("cannot listen on {}", .path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket that nobody has asked yet. Its file goes with it.
#[derive(Debug)]
pub struct StatusSocket {
    socket: UnixListener,
    file: SocketFile,
}

/// What a socket in the directory had to say.
#[derive(Debug)]
pub struct Answer {
    /// The socket.
    pub path: PathBuf,
    /// The report of the proxy behind it, or why it gave none.
    pub report: io::Result<String>,
}

/// Removes the file when dropped.
struct SocketFile(PathBuf);

impl StatusSocket {
    /// Makes a socket in `directory`, which is made too, for the eyes of this user only. What dead
    /// proxies left there is removed.
    ///
    /// # Errors
    ///
    /// [`StatusError`]; nothing of the socket is left then.
    pub fn bind(directory: &Path) -> Result<Self, StatusError> {
        prepare(directory)?;
        remove_dead(directory);
        let path = free_name(directory);
        match listen(&path) {
            Ok(socket) => Ok(Self { socket, file: SocketFile(path) }),
            Err(source) => Err(StatusError::Bind { path, source }),
        }
    }

    /// The socket's file.
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// Starts to answer, until the tasks are to stop.
    pub fn serve(self, report: Report, tasks: &Tasks) {
        let each = tasks.clone();
        tasks.spawn("status", OnError::Log, async move {
            let places = Arc::new(Semaphore::new(MAX_ASKING));
            while let Some(stream) = self.next(&each).await {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let (report, stopping) = (Arc::clone(&report), each.stopping().clone());
                each.spawn("tell status", OnError::Log, async move {
                    tokio::select! {
                        () = tell(stream, report()) => (),
                        () = stopping.cancelled() => (),
                    }
                    drop(place);
                    Ok(())
                });
            }
            Ok(())
        });
    }

    /// The next connection; `None` once the tasks are to stop.
    async fn next(&self, tasks: &Tasks) -> Option<UnixStream> {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = tasks.stopping().cancelled() => return None,
            };
            match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(error) => {
                    warn!(%error, "cannot accept on the status socket, resting");
                    tokio::select! {
                        () = sleep(REST) => (),
                        () = tasks.stopping().cancelled() => return None,
                    }
                }
            }
        }
    }
}

/// Asks every proxy that has its socket in `directory`, in the order of their names. Sockets that
/// dead proxies left behind are passed over, as is a directory that does not exist.
///
/// # Errors
///
/// When the directory cannot be looked into.
///
/// # Cancel safety
///
/// Nothing is left behind.
pub async fn reports(directory: &Path) -> io::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut sockets: Vec<PathBuf> = match names(directory) {
        Ok(names) => {
            names.filter(|(_, name)| owner(name).is_some()).map(|(path, _)| path).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    sockets.sort();
    for path in sockets {
        let asked = timeout(PATIENCE, ask(&path)).await;
        let report =
            asked.unwrap_or_else(|late| Err(io::Error::new(io::ErrorKind::TimedOut, late)));
        let gone =
            |kind| matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        if !report.as_ref().is_err_and(|error| gone(error.kind())) {
            answers.push(Answer { path, report });
        }
    }
    Ok(answers)
}

async fn ask(path: &Path) -> io::Result<String> {
    let mut report = String::new();
    UnixStream::connect(path).await?.take(MAX_REPORT).read_to_string(&mut report).await?;
    match report.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up without a word")),
        false => Ok(report),
    }
}

async fn tell(mut stream: UnixStream, report: String) {
    let told = async {
        stream.write_all(report.as_bytes()).await?;
        stream.shutdown().await
    };
    match timeout(PATIENCE, told).await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => debug!(%error, "whoever asked for status is gone"),
        Err(_) => debug!("whoever asked for status does not read"),
    }
}

/// Makes the directory, or makes sure that only we decide what is in it: in a directory for
/// temporary files anybody could have made it before us.
fn prepare(directory: &Path) -> Result<(), StatusError> {
    let path = directory.to_owned();
    let looked = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| fs::symlink_metadata(directory));
    let found = match looked {
        Ok(found) => found,
        Err(source) => return Err(StatusError::Directory { path, source }),
    };
    let why = if !found.is_dir() {
        "is a link; name the directory itself"
    } else if found.uid() != geteuid().as_raw() {
        "belongs to another user; choose another directory"
    } else if found.mode() & 0o022 != 0 {
        "can be written to by others; take that right from them"
    } else {
        return Ok(());
    };
    Err(StatusError::Unsafe { path, why })
}

/// Removes what proxies left whose process is gone.
fn remove_dead(directory: &Path) {
    let Ok(names) = names(directory) else { return };
    for (path, name) in names {
        let Some(pid) = owner(name.strip_suffix(UNFINISHED).unwrap_or(&name)) else { continue };
        // Asked twice: the process may live where its number means nothing here, in a container
        // that shares the directory.
        if !is_alive(pid) && !answers(&path) {
            let removed = fs::remove_file(&path);
            debug!(path = %path.display(), ?removed, "removed the socket of a dead proxy");
        }
    }
}

/// A name that no living proxy uses. Several may live in one process, in tests.
fn free_name(directory: &Path) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let pid = std::process::id();
    loop {
        let path = directory.join(match NEXT.fetch_add(1, Ordering::Relaxed) {
            0 => format!("{pid}{SUFFIX}"),
            more => format!("{pid}-{more}{SUFFIX}"),
        });
        if !answers(&path) {
            return path;
        }
    }
}

/// A listening socket at `path`, from the first moment on: one that refuses is dead for sure.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let unfinished = SocketFile(PathBuf::from(format!("{}{UNFINISHED}", path.display())));
    drop(fs::remove_file(&unfinished.0));
    let socket = StdListener::bind(&unfinished.0)?;
    fs::set_permissions(&unfinished.0, Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    let socket = UnixListener::from_std(socket)?;
    fs::rename(&unfinished.0, path)?;
    Ok(socket)
}

/// The process that a name of ours belongs to.
fn owner(name: &str) -> Option<Pid> {
    let name = name.strip_suffix(SUFFIX)?;
    let (pid, count) = name.split_once('-').unwrap_or((name, "0"));
    count.parse::<usize>().ok()?;
    Pid::from_raw(pid.parse().ok()?)
}

fn is_alive(pid: Pid) -> bool {
    // Not being allowed to ask is an answer too.
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

fn answers(path: &Path) -> bool {
    StdStream::connect(path).is_ok()
}

fn names(directory: &Path) -> io::Result<impl Iterator<Item = (PathBuf, String)>> {
    let entries = fs::read_dir(directory)?.filter_map(Result::ok);
    Ok(entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?))))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It is gone already where it was renamed, or somebody tidied up.
        drop(fs::remove_file(&self.0));
    }
}

impl fmt::Debug for SocketFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
