//! What the kernel says about this process, from `/proc/self` on Linux.
//!
//! A number that cannot be read is left out; elsewhere than on Linux all of them are, except the
//! CPU time.

use std::{fmt, fs, sync::OnceLock, time::Duration};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use crate::{
    exposition::{Row, Value, write},
    names::Process,
};

/// Reads the numbers anew at every scrape.
#[derive(Debug, Default)]
pub(crate) struct ProcessCollector {
    /// Never changes, and costs two files to find out.
    start: OnceLock<Option<f64>>,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for &metric in Process::ALL {
            let value = match metric {
                Process::Cpu => cpu_seconds().map(Value::Real),
                Process::OpenFds => open_fds().map(Value::Count),
                Process::MaxFds => getrlimit(Resource::Nofile).current.map(Value::Count),
                Process::VirtualMemory => status_bytes(&status, "VmSize").map(Value::Count),
                Process::ResidentMemory => status_bytes(&status, "VmRSS").map(Value::Count),
                Process::Threads => status_number(&status, "Threads").map(Value::Count),
                Process::StartTime => self.start.get_or_init(start_time).map(Value::Real),
            };
            let row = value.map(|value| Row { labels: Vec::new(), value });
            write(&mut encoder, &metric.family(), row)?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    // The clock counts nanoseconds where /proc/self/stat counts hundredths of a second.
    let used = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()?;
    Some(used.as_secs_f64())
}

fn open_fds() -> Option<u64> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory that is being read.
    u64::try_from(listed).ok()?.checked_sub(1)
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let ticks = Duration::from_secs(start_ticks(&stat)?).as_secs_f64();
    let hertz = Duration::from_secs(clock_ticks_per_second()).as_secs_f64();
    Some(Duration::from_secs(boot_time(&boot)?).as_secs_f64() + ticks / hertz)
}

/// Field 22 of `/proc/PID/stat`, see proc_pid_stat(5). The name in field 2 may hold anything, so
/// fields are counted from its closing parenthesis.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The line `btime` of `/proc/stat`: when the system booted, in seconds of unix time.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A line such as `VmRSS:      1234 kB` of `/proc/PID/status`.
fn status_bytes(status: &str, key: &str) -> Option<u64> {
    status_number(status, key)?.checked_mul(1024)
}

fn status_number(status: &str, key: &str) -> Option<u64> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| *name == key)?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{boot_time, start_ticks, status_bytes, status_number};

    #[test]
    fn the_start_is_found_behind_a_hostile_process_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 7 3 0 0 20 0 5 0 98765 1000 1 2";
        assert_eq!(start_ticks(stat), Some(98_765));
        assert_eq!(start_ticks("42 (cut off) S 1"), None);
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn status_lines_are_read_by_their_whole_name() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmSize:\t  20 kB\nVmRSS:\t   3 kB\nThreads:\t5\n";
        assert_eq!(status_bytes(status, "VmSize"), Some(20 * 1024));
        assert_eq!(status_bytes(status, "VmRSS"), Some(3 * 1024));
        assert_eq!(status_number(status, "Threads"), Some(5));
        assert_eq!(status_number(status, "Thread"), None);
        assert_eq!(status_bytes("VmRSS: 99999999999999999999 kB", "VmRSS"), None);
    }

    #[test]
    fn the_boot_time_is_one_line_of_many() {
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\nprocesses 5\n"), Some(1_700_000_000));
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }
}
