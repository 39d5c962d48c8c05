//! What the system tells about processes, read from `/proc`. Where there is none, it tells nothing.
//!
//! A process that is not there is no error. What is one, say that no file descriptor is left, tells
//! nothing about any process, and must not be taken for its absence.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use rustix::io::Errno;

use crate::cookie;

/// How much of an environment is searched. Linux allows more, but nobody has it.
const MAX_ENVIRON: usize = 1 << 20;

/// How much is read at once.
const CHUNK: usize = 1 << 16;

/// One process, as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// It has ended, and is not reaped.
    pub(crate) ended: bool,
    /// When it started, in clock ticks since the machine did. With the pid it names a process for
    /// as long as the machine runs.
    pub(crate) start: u64,
    /// Its own processor time and that of the children it reaped, in clock ticks.
    pub(crate) cpu: u64,
    /// Resident pages.
    pub(crate) resident: u64,
}

/// What an environment says about its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark<'a> {
    Cookie(&'a [u8]),
    None,
    /// Nothing. Either there are no variables, or the process is in the middle of an `exec` and will
    /// have some in a moment.
    Empty,
}

/// Reads files of `/proc` into one buffer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn stat(&mut self, pid: u32) -> io::Result<Option<Stat>> {
        let text = if_there(self.read(format!("/proc/{pid}/stat"), 4096))?;
        Ok(text.and_then(|text| parse_stat(pid, text)))
    }

    /// What the environment of a process says.
    pub(crate) fn mark(&mut self, pid: u32) -> io::Result<Mark<'_>> {
        let environ = if_there(self.read(format!("/proc/{pid}/environ"), MAX_ENVIRON))?;
        Ok(match environ {
            Some([]) => Mark::Empty,
            Some(environ) => cookie::find(environ).map_or(Mark::None, Mark::Cookie),
            // It is gone, or not ours to read.
            None => Mark::None,
        })
    }

    /// The children that one thread of a process has, adopted ones included.
    pub(crate) fn children_of(&mut self, pid: u32, thread: u32) -> io::Result<Vec<u32>> {
        let path = format!("/proc/{pid}/task/{thread}/children");
        let children = if_there(self.read(path, MAX_ENVIRON))?;
        let text = String::from_utf8_lossy(children.unwrap_or_default());
        Ok(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// The children of a process.
    pub(crate) fn children(&mut self, pid: u32) -> io::Result<Vec<u32>> {
        let mut children = Vec::new();
        for thread in numbers(format!("/proc/{pid}/task"))? {
            children.extend(self.children_of(pid, thread)?);
        }
        Ok(children)
    }

    fn read(&mut self, path: impl AsRef<Path>, most: usize) -> io::Result<&[u8]> {
        let mut file = File::open(path)?;
        let mut length = 0;
        loop {
            if self.buffer.len() < length + CHUNK {
                self.buffer.resize(length + CHUNK, 0);
            }
            // One large read and not many small ones: the system shows an environment as it is at
            // each read, and halves of two do not make a whole.
            let read = file.read(self.buffer.get_mut(length..).unwrap_or_default())?;
            length += read;
            if read == 0 || length >= most {
                return Ok(self.buffer.get(..length).unwrap_or_default());
            }
        }
    }
}

/// Every process there is.
pub(crate) fn all() -> io::Result<Vec<u32>> {
    numbers("/proc")
}

pub(crate) fn stat(pid: u32) -> io::Result<Option<Stat>> {
    Reader::default().stat(pid)
}

/// What names the time since the machine started.
pub(crate) fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty() && !id.contains(' '))
}

/// What names the space of numbers that we and our children have.
pub(crate) fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()?.to_owned()).filter(|name| !name.is_empty() && !name.contains(' '))
}

/// The entries of a folder that are numbers.
fn numbers(folder: impl AsRef<Path>) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in if_there(fs::read_dir(folder))?.into_iter().flatten() {
        // A folder whose process ends meanwhile has no more entries.
        let Some(entry) = if_there(entry)? else { break };
        numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// What was read, or nothing if its process is not there, or not ours to look at.
fn if_there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::SRCH | Errno::NOTDIR | Errno::ACCESS | Errno::PERM) => {
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

fn parse_stat(pid: u32, text: &[u8]) -> Option<Stat> {
    // The second field is a name in parentheses that may hold anything.
    let after = text.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(text.get(after..)?).ok()?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // The first of them is the third of the file.
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: u32::try_from(number(4)?).ok()?,
        group: u32::try_from(number(5)?).ok()?,
        ended: matches!(fields.first(), Some(&("Z" | "X" | "x"))),
        start: number(22)?,
        cpu: (14..=17).filter_map(number).fold(0, u64::saturating_add),
        resident: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Stat, parse_stat};

    const TAIL: &str = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 1 0 4711 1000 99 0 0";

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["sh", "a b", ") R 1 (", "(((", "\n"] {
            let stat = parse_stat(7, format!("7 ({name}) S {TAIL}").as_bytes()).unwrap();
            let expected = Stat {
                pid: 7,
                parent: 1,
                group: 2,
                ended: false,
                start: 4711,
                cpu: 50,
                resident: 99,
            };
            assert_eq!(stat, expected, "{name}");
        }
        assert!(parse_stat(7, format!("7 (sh) Z {TAIL}").as_bytes()).unwrap().ended);
    }

    #[test]
    fn half_a_line_is_no_process() {
        for text in ["", "7 (sh", "7 (sh) S 1 2", "7 (sh) S a b c"] {
            assert_eq!(parse_stat(7, text.as_bytes()), None, "{text}");
        }
    }
}
