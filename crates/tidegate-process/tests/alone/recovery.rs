//! A recovery trusts the number of a group no longer than its leader is there.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _, stdin, stdout},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::process::{Pid, getpgid, setpgid, test_kill_process};
use tidegate_process::Spawner;

use crate::{Case, alone};

pub(crate) const CASES: &[Case] =
    &[("a group whose leader is gone is nobody's in a recovery", group)];

pub(crate) const ROLES: &[Case] = &[("bystander", bystander)];

/// How many strangers there are after the end of the leader.
const STRANGERS: usize = 50;

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn start_of(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// Joins the group of a leader that is younger, so that the group outlives its leader as one does
/// whose number is given out anew; and starts strangers in it, before its end and after. Says how
/// many of the latter were killed.
///
/// Beside each there is one in a group of its own that has no environment: that keeps a recovery
/// looking, since it is in doubt about them.
fn bystander() {
    let say = |what: usize| {
        let mut out = stdout();
        writeln!(out, "{what}").unwrap();
    };
    say(0);
    let leader = stdin().lines().next().unwrap().unwrap().parse().unwrap();
    let leader = Pid::from_raw(leader).unwrap();
    setpgid(None, Some(leader)).unwrap();
    let sleep = || {
        let mut command = Command::new("/bin/sleep");
        quiet(command.arg("0.3").env_clear());
        command
    };
    let (mut before, mut after, mut others) = (Vec::new(), Vec::new(), Vec::new());
    while after.len() < STRANGERS {
        let gone = test_kill_process(leader).is_err();
        others.push(sleep().process_group(0).spawn().unwrap());
        let strangers = if gone { &mut after } else { &mut before };
        strangers.push(sleep().spawn().unwrap());
        if others.len() == 1 {
            say(1);
        }
        // Less than the doubts about one last.
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        rustix::event::poll(&mut [], Some(&pause)).unwrap();
    }
    let wait = |mut child: Child| child.wait().unwrap();
    before.into_iter().chain(others).map(wait).for_each(drop);
    say(after.into_iter().map(wait).filter(|status| status.signal().is_some()).count());
}

/// What an instance would leave that died with this leader in its ledger.
fn forge(folder: &Path, pid: u32) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
    let instance = "fd.0123456789abcdef";
    let (boot, namespace) = (boot.trim(), namespace.display());
    let line = format!("{:>20} {pid:>10} {:>20}\n", 1, start_of(pid));
    let text = format!("tidegate-process 1 {boot} {namespace} {instance}\n{line}");
    fs::write(folder.join(format!("{instance}.ledger")), text).unwrap();
}

fn group() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("ledgers");
    drop(Spawner::with_ledger(&folder).unwrap());

    let mut role = alone("bystander");
    let mut bystander = role.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(bystander.stdout.take().unwrap()).lines();
    let mut next = move || said.next().unwrap().unwrap().parse::<usize>().unwrap();
    assert_eq!(next(), 0);
    // A leader that is younger by the clock of the process table.
    let mut leader = loop {
        let mut leader =
            quiet(Command::new("/bin/sleep").arg("681").process_group(0)).spawn().unwrap();
        if start_of(leader.id()) > start_of(bystander.id()) {
            break leader;
        }
        leader.kill().unwrap();
        leader.wait().unwrap();
    };
    let pid = leader.id();
    writeln!(bystander.stdin.as_mut().unwrap(), "{pid}").unwrap();
    assert_eq!(next(), 1);
    let group = getpgid(Pid::from_raw(bystander.id().cast_signed())).unwrap();
    assert_eq!(group.as_raw_nonzero().get(), pid.cast_signed(), "it has joined");

    forge(&folder, pid);
    // Somebody has to reap it, or it is there.
    let reaper = thread::spawn(move || leader.wait().unwrap());
    let (_spawner, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(reaper.join().unwrap().signal(), Some(9));
    assert_eq!((recovered.ledgers, recovered.left), (1, 0), "{recovered:?}");
    assert_eq!(next(), 0, "so many strangers were killed");
    assert!(bystander.wait().unwrap().success());
}
