//! The same traffic under valgrind: what was allocated and cannot be reached any more, and what can
//! be reached but grows with the number of visits.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::churn::Churn;
use super::proxy::{Bench, Proxy};
use crate::dice::Dice;
use crate::place::Place;
use crate::tools;

/// A valgrind run that found an error ends with this status.
pub(super) const LEAK_STATUS: i32 = 99;
/// What may differ between a short and a ten times longer run, in bytes: tables that have grown.
const REACHABLE_LIMIT: u64 = 1024;

/// What valgrind says at the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) definite: u64,
    pub(super) indirect: u64,
    pub(super) possible: u64,
    pub(super) reachable: u64,
    /// What `valgrind.supp` says is no leak. It has to stay the same, as what is reachable does.
    pub(super) suppressed: u64,
    /// Files that are open at the end, those that were inherited left out.
    pub(super) files: u64,
    pub(super) status: Option<i32>,
    /// Who allocated what is lost, in valgrind's words.
    pub(super) records: Vec<String>,
}

/// A run, and how many visits it saw.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) visits: usize,
    pub(super) memory: Memory,
    pub(super) seconds: u64,
}

/// The two runs, or why there are none.
pub(super) fn run(
    place: &Place,
    bench: &Bench,
    visits: usize,
    dice: &mut Dice,
) -> anyhow::Result<Result<[Run; 2], String>> {
    if let Err(error) = tools::valgrind(place) {
        return Ok(Err(format!("valgrind cannot be run here: {error:#}")));
    }
    let short = drive(place, bench, visits, dice)?;
    let long = drive(place, bench, visits * 10, dice)?;
    Ok(Ok([short, long]))
}

fn drive(place: &Place, bench: &Bench, visits: usize, dice: &mut Dice) -> anyhow::Result<Run> {
    let start = Instant::now();
    let name = format!("valgrind-{visits}");
    let log = place.log(&format!("{name}-report"));
    let proxy = Proxy::start(place, bench, &name, &wrapper(place, &log))?;
    Churn { address: proxy.address, clients: 4, visits }.run(dice)?;
    proxy.settle()?;
    let status = proxy.end()?;
    let report = fs::read_to_string(&log)?;
    let memory = Memory { status: status.code(), ..read(&report) };
    Ok(Run { visits, memory, seconds: start.elapsed().as_secs() })
}

/// The words before the program.
pub(super) fn wrapper(place: &Place, log: &Path) -> Vec<String> {
    [
        "valgrind",
        "--leak-check=full",
        "--show-leak-kinds=definite,indirect,possible",
        "--errors-for-leak-kinds=definite",
        &format!("--error-exitcode={LEAK_STATUS}"),
        "--track-fds=yes",
        "--num-callers=25",
        // A child between fork and exec is still the proxy, and has its heap.
        "--child-silent-after-fork=yes",
        &format!("--suppressions={}", place.root.join("xtask/valgrind.supp").display()),
        &format!("--log-file={}", log.display()),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Reads the report. Without a leak there is one line instead of the sums.
pub(super) fn read(report: &str) -> Memory {
    let bytes = |kind: &str| {
        let line = report.lines().rev().find_map(|line| text(line).trim_start().strip_prefix(kind));
        let number = line.and_then(|rest| rest.trim_start().split(' ').next());
        number.and_then(|number| number.replace(',', "").parse().ok()).unwrap_or_default()
    };
    let mut lines = report.lines().peekable();
    let mut files = 0;
    while let Some(line) = lines.next() {
        if line.contains("Open ") && !line.contains("FILE DESCRIPTORS") {
            let is_inherited = lines.peek().is_some_and(|next| next.contains("inherited"));
            files += u64::from(!is_inherited);
        }
    }
    Memory {
        definite: bytes("definitely lost:"),
        indirect: bytes("indirectly lost:"),
        possible: bytes("possibly lost:"),
        reachable: bytes("still reachable:"),
        suppressed: bytes("suppressed:"),
        files,
        status: None,
        records: records(report),
    }
}

/// The records of what is lost: what and how much, then the stack that allocated it.
fn records(report: &str) -> Vec<String> {
    let mut lines = report.lines().map(text);
    let mut records = Vec::new();
    while let Some(head) = lines.find(|line| line.contains(" lost in loss record ")) {
        let stack = lines.by_ref().take_while(|line| !line.is_empty());
        records.push(stack.fold(head.to_owned(), |record, line| format!("{record}\n{line}")));
    }
    records
}

/// A line without the number of the process at its begin: `==7== `.
fn text(line: &str) -> &str {
    line.split_once("== ").map_or("", |(_, text)| text.trim_end())
}

/// What is wrong with the two runs.
pub(super) fn judge(short: &Memory, long: &Memory) -> Vec<String> {
    let mut findings = Vec::new();
    for memory in [short, long] {
        for (kind, bytes) in [
            ("definitely", memory.definite),
            ("indirectly", memory.indirect),
            ("possibly", memory.possible),
        ] {
            if bytes > 0 {
                findings.push(format!("{bytes} bytes {kind} lost"));
            }
        }
        if memory.status != Some(0) {
            findings.push(format!("valgrind ended with {:?}", memory.status));
        }
        findings.extend(memory.records.iter().cloned());
    }
    for (what, short, long) in [
        ("still reachable", short.reachable, long.reachable),
        ("suppressed", short.suppressed, long.suppressed),
    ] {
        if short.abs_diff(long) > REACHABLE_LIMIT {
            findings.push(format!(
                "{what}: {short} bytes after few visits, {long} after ten times as many"
            ));
        }
    }
    if long.files > short.files {
        findings.push(format!(
            "files open at the end: {} after few visits, {} after ten times as many",
            short.files, long.files
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{Memory, judge, read};

    const REPORT: &str = "\
==7== FILE DESCRIPTORS: 5 open (3 std) at exit.
==7== Open AF_UNIX socket 9: <unknown>
==7==    at 0x4A: socketpair (syscall-template.S:120)
==7==    by 0x4B: new (net.rs:78)
==7== 
==7== Open file descriptor 5: /tmp/log
==7==    <inherited from parent>
==7== 
==7== HEAP SUMMARY:
==7==     in use at exit: 91,984 bytes in 93 blocks
==7== 
==7== 8 bytes in 1 blocks are possibly lost in loss record 1 of 9
==7==    at 0x4A: malloc (in /usr/lib/vgpreload_memcheck.so)
==7==    by 0x4C: alloc (unix.rs:14)
==7== 
==7== 65,536 (61,440 direct, 4,096 indirect) bytes in 16 blocks are definitely lost in loss record 9 of 9
==7==    at 0x4A: malloc (in /usr/lib/vgpreload_memcheck.so)
==7== 
==7== LEAK SUMMARY:
==7==    definitely lost: 65,536 bytes in 16 blocks
==7==    indirectly lost: 0 bytes in 0 blocks
==7==      possibly lost: 8 bytes in 1 blocks
==7==    still reachable: 26,440 bytes in 76 blocks
==7==         suppressed: 48 bytes in 1 blocks
==7== ERROR SUMMARY: 2 errors from 2 contexts (suppressed: 1 from 1)
";

    #[test]
    fn the_report_is_read() {
        let expected = Memory {
            definite: 65_536,
            indirect: 0,
            possible: 8,
            reachable: 26_440,
            suppressed: 48,
            files: 1,
            status: None,
            records: vec![
                "8 bytes in 1 blocks are possibly lost in loss record 1 of 9\n   \
                 at 0x4A: malloc (in /usr/lib/vgpreload_memcheck.so)\n   \
                 by 0x4C: alloc (unix.rs:14)"
                    .to_owned(),
                "65,536 (61,440 direct, 4,096 indirect) bytes in 16 blocks are definitely lost in \
                 loss record 9 of 9\n   at 0x4A: malloc (in /usr/lib/vgpreload_memcheck.so)"
                    .to_owned(),
            ],
        };
        assert_eq!(read(REPORT), expected);
        let nothing = "==7== All heap blocks were freed -- no leaks are possible\n";
        assert_eq!(read(nothing), Memory::default());
    }

    #[test]
    fn each_kind_of_loss_is_found_and_what_stays_the_same_is_none() {
        let fine = Memory { reachable: 26_440, files: 2, status: Some(0), ..Memory::default() };
        assert_eq!(judge(&fine, &fine), [""; 0]);
        let grown = Memory { reachable: 27_464, ..fine.clone() };
        assert_eq!(judge(&fine, &grown), [""; 0], "within a KiB");
        for bad in [
            Memory { definite: 1, ..fine.clone() },
            Memory { indirect: 1, ..fine.clone() },
            Memory { possible: 1, ..fine.clone() },
            Memory { reachable: 27_465, ..fine.clone() },
            Memory { suppressed: 1_025, ..fine.clone() },
            Memory { records: vec!["who lost it".to_owned()], ..fine.clone() },
            Memory { files: 3, ..fine.clone() },
            Memory { status: Some(99), ..fine.clone() },
            Memory { status: None, ..fine.clone() },
        ] {
            assert_eq!(judge(&fine, &bad).len(), 1, "{bad:?}");
        }
    }
}
