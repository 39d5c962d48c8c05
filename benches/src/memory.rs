//! Resident memory of a process, from `/proc`.

use std::fs;

use anyhow::Context as _;

/// What a process has in memory, in KiB. The kernel adds it up page by page for this question; the
/// number in `status` lags behind by what each processor has not yet reported.
///
/// # Errors
///
/// When there is no such process.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("memory of process {pid}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss")?;
    line.trim().trim_end_matches("kB").trim().parse().context("Rss")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_counts() {
        let own = std::process::id();
        let before = resident_kib(own).unwrap();
        let touched = std::hint::black_box(vec![1_u8; 32 << 20]);
        assert!(resident_kib(own).unwrap() >= before + (31 << 10));
        drop(touched);
        assert!(resident_kib(u32::MAX).is_err());
    }
}
