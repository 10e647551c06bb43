//! The operating system, where std does not reach: memory in huge pages, mapped files, affinity, quotas,
//! Ctrl-C, and what the processor says of itself.
//!
//! Linux is asked through its C library by declarations written here. Elsewhere the answers are "unknown",
//! memory is plain, and Ctrl-C ends the process as always.
#![allow(unsafe_code)] // calls of the C library, and memory that it hands out

use std::sync::atomic::{AtomicBool, Ordering};

pub mod memory;
pub mod processor;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[path = "sys/linux.rs"]
mod system;
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
#[path = "sys/other.rs"]
mod system;

pub use system::{affinity, catch_interrupt, page_size, pin};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C was pressed since [`catch_interrupt`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Processors' worth of time that the cgroup of this process may use: `1.5` for 150 ms in 100 ms. `None`
/// without a limit.
pub fn quota() -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        match controllers {
            "" => lowest("/sys/fs/cgroup", path, |folder| {
                parse_quota(&std::fs::read_to_string(format!("{folder}/cpu.max")).ok()?)
            }),
            c if c.split(',').any(|c| c == "cpu") => lowest("/sys/fs/cgroup/cpu", path, |folder| {
                let read = |name| std::fs::read_to_string(format!("{folder}/cpu.cfs_{name}_us")).ok();
                parse_quota(&format!("{} {}", read("quota")?.trim(), read("period")?))
            }),
            _ => None,
        }
    });
    limits.min_by(f64::total_cmp)
}

/// The most memory in bytes that this process has had resident so far, where the system says.
pub fn peak_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit of a cgroup and those around it. Inside a container the path may not exist: then the
/// root stands for it.
fn lowest(root: &str, path: &str, limit: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let mut path = path.trim_end_matches('/');
    let mut lowest = None;
    loop {
        lowest = limit(&format!("{root}{path}")).into_iter().chain(lowest).min_by(f64::total_cmp);
        let Some((parent, _)) = path.rsplit_once('/') else { return lowest };
        path = parent;
    }
}

/// `150000 100000` is 1.5; `max 100000` (cgroup 2) and `-1 100000` (cgroup 1) are no limit.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_of_both_kinds_of_cgroups() {
        let cases = [
            ("150000 100000\n", Some(1.5)),
            ("max 100000\n", None),
            ("-1 100000", None),
            ("", None),
            ("1 0", None),
        ];
        for (text, quota) in cases {
            assert_eq!(parse_quota(text), quota, "{text:?}");
        }
    }

    #[test]
    fn the_tightest_group_counts() {
        let limit = |folder: &str| match folder {
            "/r/a/b" => Some(4.0),
            "/r/a" => Some(2.0),
            "/r" => None,
            _ => panic!("{folder}"),
        };
        assert_eq!(lowest("/r", "/a/b", limit), Some(2.0));
        assert_eq!(lowest("/r", "/", |folder| (folder == "/r").then_some(3.0)), Some(3.0));
    }

    #[test]
    fn a_thread_can_be_pinned() {
        let Some(allowed) = affinity() else { return };
        let last = *allowed.last().expect("a thread runs somewhere");
        std::thread::spawn(move || {
            pin(last).expect("an allowed processor");
            assert_eq!(affinity(), Some(vec![last]));
        })
        .join()
        .expect("no panic");
        assert_eq!(affinity(), Some(allowed), "other threads keep theirs");
    }
}
