//! What a dead instance has left is ended by the next one, and nothing else is.

use std::{
    fs::{self, File},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    io::{ErrorKind, Read as _},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tidegate_process::{Recovered, Spawner};
use tidegate_testkit::procs;

use crate::rig::{eventually, settled, start};

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledgers");
    (folder, path)
}

fn ledgers(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A process of nobody's, which ends with its test.
struct Stranger(Child);

impl Stranger {
    fn id(&self) -> u32 {
        self.0.id()
    }

    fn is_running(&self) -> bool {
        procs::is_running(self.id())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A stranger with a cookie, if one is given.
fn stranger(cookie: Option<&str>) -> Stranger {
    let mut command = Command::new("sleep");
    command.arg("611").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(cookie) = cookie {
        command.env("TIDEGATE_PROCESS", cookie);
    }
    Stranger(command.spawn().unwrap())
}

fn start_of(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// The instance whose death a test has made up; another one for each test, since they end what
/// carries its cookie.
fn instance(folder: &Path) -> String {
    format!("ff.{:016x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(folder))
}

/// What an instance would leave that died with these lines in its ledger.
fn forge(folder: &Path, lines: &str) -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
    let header = format!("tidegate-process 1 {} {}", boot.trim(), namespace.display());
    write(folder, &format!("{header} {}\n{lines}", instance(folder)))
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join(format!("{}.ledger", instance(folder)));
    fs::write(&path, text).unwrap();
    path
}

fn line(pid: u32, start: u64) -> String {
    format!("{:>20} {pid:>10} {start:>20}\n", 1)
}

#[tokio::test]
async fn a_process_is_written_down_while_it_lives() {
    let (_guard, folder) = folder();
    let (spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered::default());
    let [file] = ledgers(&folder).try_into().unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let named = || {
        let text = fs::read_to_string(&file).unwrap();
        let pids =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
        pids.collect::<Vec<u32>>()
    };
    let (one, _) = start(&spawner, "echo $$; exec sleep 612", 1).await;
    let (two, _) = start(&spawner, "echo $$; exec sleep 612", 1).await;
    assert_eq!(named(), [one.pid(), two.pid()]);
    drop(one);
    eventually("one line less", || named() == [two.pid()]).await;
    let (three, _) = start(&spawner, "echo $$; exec sleep 612", 1).await;
    assert_eq!(named(), [three.pid(), two.pid()], "lines are used again");
    drop((two, three));
    settled(&spawner).await;
    assert_eq!(named(), [0; 0]);
    assert_eq!(spawner.stats().unrecorded, 0);
    drop(spawner);
    assert!(ledgers(&folder).is_empty(), "who leaves in order leaves nothing");
}

#[tokio::test]
async fn two_instances_in_one_folder_let_each_other_be() {
    let (_guard, folder) = folder();
    let (one, _) = Spawner::with_ledger(&folder).unwrap();
    let (process, pids) = start(&one, "echo $$; setsid sleep 613 & echo $!; wait", 2).await;
    let (two, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered::default());
    assert_eq!(ledgers(&folder).len(), 2);
    assert!(pids.iter().all(|pid| procs::is_running(*pid)));
    drop(two);
    assert!(pids.iter().all(|pid| procs::is_running(*pid)));
    drop(process);
    settled(&one).await;
}

#[test]
fn a_process_is_ended_if_number_and_start_match() {
    let (_guard, folder) = folder();
    drop(Spawner::with_ledger(&folder).unwrap());
    let left = stranger(None);
    forge(&folder, &line(left.id(), start_of(left.id())));
    let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered { ledgers: 1, killed: 1, ..Recovered::default() });
    assert!(!left.is_running());
    assert_eq!(ledgers(&folder).len(), 1, "only the own one is left");
}

#[test]
fn a_recycled_number_is_spared() {
    let (_guard, folder) = folder();
    drop(Spawner::with_ledger(&folder).unwrap());
    let stranger = stranger(None);
    forge(&folder, &line(stranger.id(), start_of(stranger.id()) - 1));
    let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered { ledgers: 1, recycled: 1, ..Recovered::default() });
    assert!(stranger.is_running());
}

#[test]
fn what_carries_the_cookie_of_a_dead_instance_is_ended_without_a_line() {
    let (_guard, folder) = folder();
    drop(Spawner::with_ledger(&folder).unwrap());
    let left = stranger(Some(&format!("{}-7", instance(&folder))));
    let others = [stranger(Some("fe.0123456789abcdef-7")), stranger(Some(&instance(&folder)))];
    forge(&folder, "");
    let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered { ledgers: 1, killed: 1, ..Recovered::default() });
    assert!(!left.is_running());
    for other in others {
        assert!(other.is_running());
    }
}

#[test]
fn lines_that_cannot_be_believed_end_nobody_and_are_counted() {
    let (_guard, folder) = folder();
    drop(Spawner::with_ledger(&folder).unwrap());
    let stranger = stranger(None);
    let good = line(stranger.id(), start_of(stranger.id()));
    for lines in [good.trim_end(), good.trim_start(), &good.replace(' ', "\t"), "\0\0\0\0"] {
        forge(&folder, lines);
        let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
        assert_eq!(recovered, Recovered { ledgers: 1, skipped: 1, ..Recovered::default() });
    }
    for (text, skipped) in [(good.clone(), 1), (format!("tidegate-process 2 x y z\n{good}"), 2)] {
        write(&folder, &text);
        let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
        assert_eq!(recovered, Recovered { ledgers: 1, skipped, ..Recovered::default() });
    }
    assert!(stranger.is_running());
}

#[test]
fn a_ledger_of_another_boot_or_namespace_ends_nobody() {
    let (_guard, folder) = folder();
    drop(Spawner::with_ledger(&folder).unwrap());
    let stranger = stranger(None);
    let file = forge(&folder, &line(stranger.id(), start_of(stranger.id())));
    let text = fs::read_to_string(&file).unwrap();
    let word = |n: usize| text.split(' ').nth(n).unwrap().to_owned();

    fs::write(&file, text.replace(&word(3), "pid:[1]")).unwrap();
    let (spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered { foreign: 1, ..Recovered::default() });
    assert!(file.exists(), "somebody there may need it");
    drop(spawner);

    fs::write(&file, text.replace(&word(2), "another")).unwrap();
    let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered { ledgers: 1, ..Recovered::default() });
    assert!(!file.exists());
    assert!(stranger.is_running());
}

#[test]
fn a_locked_ledger_is_alive() {
    let (_guard, folder) = folder();
    drop(Spawner::with_ledger(&folder).unwrap());
    let stranger = stranger(None);
    let file = forge(&folder, &line(stranger.id(), start_of(stranger.id())));
    let lock = File::open(&file).unwrap();
    lock.lock().unwrap();
    let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(recovered, Recovered::default());
    assert!(stranger.is_running() && file.exists());
}

#[test]
fn a_folder_that_is_not_ours_alone_is_refused() {
    let (guard, folder) = folder();
    fs::create_dir(&folder).unwrap();
    let refused = |path: &Path| Spawner::with_ledger(path).unwrap_err().kind();
    for mode in [0o755, 0o770, 0o701] {
        fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(refused(&folder), ErrorKind::PermissionDenied, "{mode:o}");
    }
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    let link = guard.path().join("link");
    symlink(&folder, &link).unwrap();
    assert_ne!(refused(&link), ErrorKind::NotFound);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
        assert_eq!(refused(&folder), ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_link_or_a_pipe_in_the_place_of_a_ledger_is_not_followed() {
    let (guard, folder) = folder();
    drop(Spawner::with_ledger(&folder).unwrap());
    let stranger = stranger(None);
    let real = forge(guard.path(), &line(stranger.id(), start_of(stranger.id())));
    let place = folder.join(real.file_name().unwrap());
    let check = |what: &str| {
        let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
        assert_eq!(recovered, Recovered { skipped: 1, ..Recovered::default() }, "{what}");
        assert!(stranger.is_running() && real.exists(), "{what}");
        fs::remove_file(&place).unwrap();
    };
    symlink(&real, &place).unwrap();
    check("a link");
    fs::hard_link(&real, &place).unwrap();
    check("a second name");
    assert!(Command::new("mkfifo").arg(&place).status().unwrap().success());
    check("a pipe");
    let mut text = String::new();
    File::open(&real).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.ends_with(&line(stranger.id(), start_of(stranger.id()))), "nobody wrote to it");
}
