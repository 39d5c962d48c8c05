//! The status socket: who may ask, what is told, and what is left.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        net::UnixListener,
    },
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tidegate_server::status::{StatusError, StatusSocket, reports};
use tidegate_service::Tasks;
use tokio::{io::AsyncReadExt as _, net::UnixStream};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Puts the socket of a process that is gone into the directory.
fn put_dead(directory: &Path, name: &str) {
    fs::create_dir_all(directory).unwrap();
    drop(UnixListener::bind(directory.join(name)).unwrap());
}

/// The number of a process that there was.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

async fn told(directory: &Path) -> Vec<String> {
    let answers = reports(directory).await.unwrap();
    answers.into_iter().map(|answer| answer.report.unwrap()).collect()
}

#[tokio::test]
async fn every_connection_is_given_one_report_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a/b");
    let socket = StatusSocket::bind(&directory).unwrap();
    let path = socket.path().to_owned();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
    assert_eq!(names(&directory).len(), 1);

    let (tasks, asked) = (Tasks::default(), AtomicUsize::new(0));
    let report = move || format!("report {}", asked.fetch_add(1, Ordering::Relaxed));
    socket.serve(Arc::new(report), &tasks);
    for count in 0..3 {
        assert_eq!(told(&directory).await, [format!("report {count}")]);
    }
    tasks.stop().await;
    assert_eq!((tasks.alive(), names(&directory)), (0, vec![]));
    assert!(told(&directory).await.is_empty());
}

#[tokio::test]
async fn proxies_in_one_directory_have_a_socket_each() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = [Tasks::default(), Tasks::default()];
    for (name, tasks) in ["one", "two"].into_iter().zip(&tasks) {
        let socket = StatusSocket::bind(folder.path()).unwrap();
        socket.serve(Arc::new(move || name.to_owned()), tasks);
    }
    let mut all = told(folder.path()).await;
    all.sort();
    assert_eq!(all, ["one", "two"]);
    let [first, second] = tasks;
    first.stop().await;
    assert_eq!(told(folder.path()).await, ["two"]);
    second.stop().await;
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn what_dead_proxies_left_is_passed_over_and_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, dead) = (folder.path(), dead_pid());
    let left = [format!("{dead}.sock"), format!("{dead}-7.sock"), format!("{dead}.sock.new")];
    // Its number was given to another process since, which is none of ours.
    let taken = "1.sock".to_owned();
    for name in left.iter().chain([&taken]) {
        put_dead(directory, name);
    }
    let foreign = ["ledger", "x.sock", "-1.sock", "0.sock"];
    for name in foreign {
        fs::write(directory.join(name), "").unwrap();
    }
    // A proxy in a container that shares the directory has numbers of its own.
    let elsewhere = format!("{}.sock", dead_pid());
    let living = UnixListener::bind(directory.join(&elsewhere)).unwrap();
    assert_eq!(names(directory).len(), 9);

    let socket = StatusSocket::bind(directory).unwrap();
    let ours = socket.path().file_name().unwrap().to_str().unwrap().to_owned();
    let mut expected: Vec<String> = foreign.map(str::to_owned).to_vec();
    expected.extend([taken, elsewhere, ours]);
    expected.sort();
    assert_eq!(names(directory), expected);
    drop(living);
    drop(socket);
    assert_eq!(names(directory).len(), 6);
    assert!(told(directory).await.is_empty());
}

#[tokio::test]
async fn a_directory_that_others_rule_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| match StatusSocket::bind(path).unwrap_err() {
        StatusError::Unsafe { why, .. } => why,
        error => panic!("{error:?}"),
    };
    let path = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let open = path("open");
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&open).starts_with("can be written to by others"));

    symlink(path("real"), folder.path().join("link")).unwrap();
    assert!(refused(&folder.path().join("link")).starts_with("is a link"));

    let theirs = path("theirs");
    // Only root can give a directory away; anybody else does not own the root directory.
    let given = chown(&theirs, Some(4001), None).is_ok();
    let theirs = if given { theirs } else { "/".into() };
    assert!(refused(&theirs).starts_with("belongs to another user"));

    fs::write(folder.path().join("file"), "").unwrap();
    let error = StatusSocket::bind(&folder.path().join("file")).unwrap_err();
    assert!(matches!(error, StatusError::Directory { .. }), "{error:?}");

    let long = folder.path().join("x".repeat(100));
    let error = StatusSocket::bind(&long).unwrap_err();
    assert!(matches!(error, StatusError::Bind { .. }), "{error:?}");
    assert!(names(&long).is_empty());
}

#[tokio::test]
async fn whoever_does_not_read_holds_up_neither_others_nor_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let socket = StatusSocket::bind(folder.path()).unwrap();
    let (path, tasks) = (socket.path().to_owned(), Tasks::default());
    // More than fits between the two ends.
    let report = "x".repeat(8 << 20);
    let length = report.len();
    socket.serve(Arc::new(move || report.clone()), &tasks);

    let mut lazy = Vec::new();
    for _ in 0..16 {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.read_u8().await.unwrap();
        lazy.push(stream);
    }
    let mut one_too_many = UnixStream::connect(&path).await.unwrap();
    assert_eq!(one_too_many.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    // Reading to the end gives one place back, soon: the end is seen before the place is free.
    let mut rest = Vec::new();
    lazy.pop().unwrap().read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), length - 1);
    while UnixStream::connect(&path).await.unwrap().read_u8().await.is_err() {}

    tasks.stop().await;
    assert_eq!((tasks.alive(), names(folder.path())), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_answer_is_not_waited_for_forever() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = UnixListener::bind(folder.path().join("4001.sock")).unwrap();
    let answers = reports(folder.path()).await.unwrap();
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(answer.report.as_ref().unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(stuck);
}

#[tokio::test]
async fn a_directory_that_does_not_exist_has_no_proxies() {
    assert!(reports(Path::new("/no/such/directory")).await.unwrap().is_empty());
    assert!(reports(Path::new("/etc/passwd")).await.is_err());
}
