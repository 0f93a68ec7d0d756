//! Metrics of the gate's own process, under the names that Prometheus' client libraries use ("Writing client libraries",
//! process metrics).
//!
//! They come from `/proc`; metrics that cannot be read there are left out.

use std::sync::atomic::AtomicU64;

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, WithCurrentSystemInfo as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Returns the metrics of the process, and the program's version.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("tidegate_build", "Version of the program", version);
    // Without /proc there are no process metrics.
    let _ = register(&mut registry);
    registry
}

fn register(registry: &mut Registry) -> ProcResult<()> {
    let process = Process::myself()?;
    let (stat, limits) = (process.stat()?, process.limits()?);
    let ticks = f64::from(u32::try_from(procfs::ticks_per_second()).unwrap_or(u32::MAX));
    let seconds = |ticks_since: u64| u32::try_from(ticks_since).map_or(f64::MAX, f64::from) / ticks;
    let cpu: Counter<f64, AtomicU64> = Counter::default();
    cpu.inc_by(seconds(stat.utime.saturating_add(stat.stime)));
    registry.register_with_unit("process_cpu", "User and system CPU time", Unit::Seconds, cpu);
    let started: Gauge<f64, AtomicU64> = Gauge::default();
    let booted = u32::try_from(procfs::boot_time_secs()?).map_or(f64::MAX, f64::from);
    started.set(booted + seconds(stat.starttime));
    registry.register_with_unit("process_start_time", "Start, since the Unix epoch", Unit::Seconds, started);
    let max_fds = match limits.max_open_files.soft_limit {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Value(most) => most,
    };
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory", stat.rss_bytes().get()),
        ("process_virtual_memory_bytes", "Virtual memory", stat.vsize),
        (
            "process_open_fds",
            "Open file descriptors",
            u64::try_from(process.fd_count()?).unwrap_or(u64::MAX),
        ),
        ("process_max_fds", "Soft limit of open file descriptors", max_fds),
        (
            "process_threads",
            "Threads",
            u64::try_from(stat.num_threads).unwrap_or_default(),
        ),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    Ok(())
}
