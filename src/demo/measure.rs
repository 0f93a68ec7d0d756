//! Measurement of the deadline, by the demo's own clock and by the gate's log, against the promised limits.
//!
//! It ends no session. It observes the database directly, not through the gate.

use std::time::Duration;

use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::approval::{ApprovalLags, ChangeLag};
use super::env::DemoEnv;
use super::screen::{DemoScreen, FigureVerdict};

/// Factor by which a busy machine may exceed a time limit before the promise counts as broken.
const MAX_SLOWDOWN: u32 = 20;

/// Limit from a request that a rule approves to its first row.
const MAX_FIRST_ROW_DELAY: Duration = Duration::from_millis(300);
/// Limit from an approval to the waiting client's prompt.
const MAX_PROMPT_DELAY: Duration = Duration::from_millis(200);
/// Limit from a change of a grant to its sessions.
const MAX_CHANGE_DELAY: Duration = Duration::from_millis(100);
/// Limit from the deadline to the end of the sessions; promised for 200 sessions, so two must be well within it.
const MAX_OVERSHOOT: Duration = Duration::from_millis(250);
/// Interval between two queries to the database.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Time before the deadline at which all backends must still be there.
const CHECK_LEAD: SignedDuration = SignedDuration::from_millis(100);
/// Number of the tester's sessions.
const SESSION_COUNT: usize = 2;

/// Smallest number of the tester's statements; the log may also count the preparation of one.
const MIN_STATEMENTS: usize = 4;

/// Measured times of the tester's scene.
pub(super) struct DeadlineMoments {
    pub(super) grant: String,
    /// Time from the request to the first row.
    pub(super) first_row: Duration,
    pub(super) until: Timestamp,
    /// Time of the FATAL error at the client in the middle of a query.
    pub(super) psql_told: Option<Timestamp>,
    /// Time of the FATAL error at the idle client.
    pub(super) driver_told: Option<Timestamp>,
    pub(super) backends: TesterBackends,
    /// Number of grants that had a role in the database meanwhile.
    pub(super) roles: usize,
}

/// Backends of the tester in the database.
pub(super) struct TesterBackends {
    /// Number of backends shortly before the deadline.
    before: i64,
    /// Time at which none was left; absent if some never ended.
    gone: Option<Timestamp>,
}

/// Watches `pg_stat_activity` from shortly before the deadline until the tester's backends are gone.
pub(super) async fn watch_backends(env: &DemoEnv, grant: &str, until: Timestamp) -> anyhow::Result<TesterBackends> {
    env.clock.sleep_until(until - CHECK_LEAD - CHECK_LEAD).await;
    let started = env.records(grant, "session_started").await?;
    let pids: Vec<i32> = started.iter().filter_map(backend).collect();
    env.clock.sleep_until(until - CHECK_LEAD).await;
    let before = count(env, &pids).await?;
    env.clock.sleep_until(until).await;
    let mut gone = None;
    while gone.is_none() && env.clock.now() < until + SignedDuration::from_secs(10) {
        let left = count(env, &pids).await?;
        gone = (left == 0).then(|| env.clock.now());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(TesterBackends { before, gone })
}

/// Waits for the records of the sessions' ends, which are written after the backends are gone.
pub(super) async fn ended(env: &DemoEnv, grant: &str) -> anyhow::Result<Vec<Value>> {
    let mut records = Vec::new();
    for _ in 0..50 {
        records = env.records(grant, "session_ended").await?;
        if records.len() >= SESSION_COUNT {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(records)
}

fn backend(record: &Value) -> Option<i32> {
    record.get("backend_pid")?.as_i64()?.try_into().ok()
}

async fn count(env: &DemoEnv, pids: &[i32]) -> anyhow::Result<i64> {
    let row = env
        .admin
        .query_one("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)", &[&pids])
        .await?;
    Ok(row.get(0))
}

/// Prints the figures; returns an error if one breaks its promise, and a word on the machine if one is only slow.
pub(super) async fn report(
    screen: &DemoScreen,
    env: &DemoEnv,
    moments: &DeadlineMoments,
    steps: Option<&ApprovalLags>,
    left: usize,
) -> anyhow::Result<()> {
    let mut verdicts = Vec::new();
    let mut finding = |verdict: FigureVerdict, what: &str, figure: &str| {
        verdicts.push(verdict);
        screen.finding(verdict, what, figure)
    };
    let (grant, backends) = (&moments.grant, &moments.backends);
    finding(
        FigureVerdict::of_delay(moments.first_row, MAX_FIRST_ROW_DELAY),
        "from the wish to the first row: request, rule, login, query",
        &milliseconds(moments.first_row),
    )?;
    for (what, verdict, figure) in steps.map(changes).unwrap_or_default() {
        finding(verdict, what, &figure)?;
    }
    let deadline = moments.until.strftime("%H:%M:%S%.3f UTC");
    screen.note(&format!("and at the deadline of the first grant, {deadline}:"))?;
    let expected = i64::try_from(SESSION_COUNT)?;
    let found = format!("{} of {expected}", backends.before);
    finding(
        FigureVerdict::of(backends.before == expected),
        "0.1 s before it, the tester's backends in the database",
        &found,
    )?;
    for (what, verdict, figure) in delays(moments) {
        finding(verdict, what, &figure)?;
    }
    let ended = ended(env, grant).await?;
    let (verdict, figure) = overshoot(&ended);
    finding(
        verdict,
        "the same by the gate's own log (the later of both sessions)",
        &figure,
    )?;
    let statements = env.records(grant, "statement").await?.len();
    finding(
        FigureVerdict::of(statements >= MIN_STATEMENTS),
        "statements on record, each before it was forwarded",
        &statements.to_string(),
    )?;
    finding(
        FigureVerdict::of((moments.roles, left) == (1, 0)),
        "roles of grants in the database: while she worked, and left now",
        &format!("{}, {left}", moments.roles),
    )?;
    if verdicts.contains(&FigureVerdict::Broken) {
        bail!("the promise was not kept; the gate's own log says:\n{}", env.gate.log());
    }
    if verdicts.contains(&FigureVerdict::Slow) {
        screen.note("SLOW: later than on a machine with nothing else to do. If yours has: please report it.")?;
    }
    Ok(())
}

impl FigureVerdict {
    fn of(good: bool) -> Self {
        if good { Self::Kept } else { Self::Broken }
    }

    fn of_delay(delay: Duration, limit: Duration) -> Self {
        if delay <= limit {
            Self::Kept
        } else if delay <= limit * MAX_SLOWDOWN {
            Self::Slow
        } else {
            Self::Broken
        }
    }
}

/// Returns the delay of each effect of the deadline, compared with its limit.
fn delays(moments: &DeadlineMoments) -> [(&'static str, FigureVerdict, String); 3] {
    [
        ("after it, until the client inside a query had its FATAL", moments.psql_told),
        ("after it, until the idle client had its FATAL", moments.driver_told),
        (
            "after it, until pg_stat_activity had none of its backends left",
            moments.backends.gone,
        ),
    ]
    .map(|(what, at)| {
        let (verdict, figure) = judge(moments.until, at, MAX_OVERSHOOT);
        (what, verdict, figure)
    })
}

/// Returns the longest overshoot by the records of the ends, compared with its limit.
fn overshoot(ended: &[Value]) -> (FigureVerdict, String) {
    let overshoots = ended.iter().filter_map(|record| record.get("overshoot_us")?.as_u64());
    let overshoots: Vec<_> = overshoots.map(Duration::from_micros).collect();
    match overshoots.iter().max() {
        Some(longest) if overshoots.len() == SESSION_COUNT => {
            (FigureVerdict::of_delay(*longest, MAX_OVERSHOOT), milliseconds(*longest))
        }
        _ => (FigureVerdict::Broken, "not known".to_owned()),
    }
}

/// Returns the delay of each change, compared with its limit.
fn changes(steps: &ApprovalLags) -> Vec<(&'static str, FigureVerdict, String)> {
    let judged = |what, lag: &ChangeLag, limit| {
        let (verdict, figure) = judge(lag.from, lag.to, limit);
        (what, verdict, figure)
    };
    vec![
        judged(
            "from the approval to the waiting psql's prompt",
            &steps.approved,
            MAX_PROMPT_DELAY,
        ),
        judged(
            "from the extension to its NOTICE in the open session",
            &steps.extended,
            MAX_CHANGE_DELAY,
        ),
        judged(
            "from the revocation to the FATAL inside a running query",
            &steps.revoked,
            MAX_CHANGE_DELAY,
        ),
    ]
}

/// Returns the verdict on a time, which must not be before `from` nor much later than the limit, and the figure.
fn judge(from: Timestamp, at: Option<Timestamp>, limit: Duration) -> (FigureVerdict, String) {
    let Some(at) = at else {
        return (FigureVerdict::Broken, "never".to_owned());
    };
    let after = at.duration_since(from);
    let figure = milliseconds(after.unsigned_abs());
    if after.is_negative() {
        return (FigureVerdict::Broken, format!("-{figure}"));
    }
    (FigureVerdict::of_delay(after.unsigned_abs(), limit), figure)
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_much_too_late_and_never_are_broken() {
        let until = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        let after = |millis| judge(until, Some(until + SignedDuration::from_millis(millis)), MAX_OVERSHOOT);
        assert_eq!(after(12), (FigureVerdict::Kept, "12.0 ms".to_owned()));
        assert_eq!(after(251), (FigureVerdict::Slow, "251.0 ms".to_owned()));
        assert_eq!(after(-3), (FigureVerdict::Broken, "-3.0 ms".to_owned()));
        assert_eq!(after(5_001), (FigureVerdict::Broken, "5001.0 ms".to_owned()));
        assert_eq!(judge(until, None, MAX_OVERSHOOT), (FigureVerdict::Broken, "never".to_owned()));
    }
}
