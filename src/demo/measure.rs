//! Measurement of the deadline, by the demo's own clock and by the gate's log, against the promised limits.
//!
//! It ends no session. It observes the database directly, not through the gate.

use std::time::Duration;

use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::approval::{ApprovalLags, ChangeLag};
use super::env::DemoEnv;
use super::screen::DemoScreen;

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

/// Prints the figures; returns an error if one breaks its promise.
pub(super) async fn report(
    screen: &DemoScreen,
    env: &DemoEnv,
    moments: &DeadlineMoments,
    steps: Option<&ApprovalLags>,
    left: usize,
) -> anyhow::Result<()> {
    let mut all_good = true;
    let mut finding = |good: bool, what: &str, figure: &str| {
        all_good &= good;
        screen.finding(good, what, figure)
    };
    let (grant, until, backends) = (&moments.grant, &moments.until, &moments.backends);
    finding(
        moments.first_row <= MAX_FIRST_ROW_DELAY,
        "from the wish to the first row: request, rule, login, query",
        &milliseconds(moments.first_row),
    )?;
    for (what, good, figure) in steps.map(changes).unwrap_or_default() {
        finding(good, what, &figure)?;
    }
    let deadline = until.strftime("%H:%M:%S%.3f UTC");
    screen.note(&format!("and at the deadline of the first grant, {deadline}:"))?;
    let expected = i64::try_from(SESSION_COUNT)?;
    let found = format!("{} of {expected}", backends.before);
    finding(
        backends.before == expected,
        "0.1 s before it, the tester's backends in the database",
        &found,
    )?;
    for (what, at) in [
        ("after it, until the client inside a query had its FATAL", moments.psql_told),
        ("after it, until the idle client had its FATAL", moments.driver_told),
        (
            "after it, until pg_stat_activity had none of its backends left",
            backends.gone,
        ),
    ] {
        let (good, figure) = judge(*until, at, MAX_OVERSHOOT);
        finding(good, what, &figure)?;
    }
    let ended = ended(env, grant).await?;
    let overshoots: Vec<u64> = ended
        .iter()
        .filter_map(|record| record.get("overshoot_us")?.as_u64())
        .collect();
    let longest = overshoots.iter().max().copied().map(Duration::from_micros);
    let good = overshoots.len() == SESSION_COUNT && longest.is_some_and(|longest| longest <= MAX_OVERSHOOT);
    let figure = longest.map_or_else(|| "not known".to_owned(), milliseconds);
    finding(good, "the same by the gate's own log (the later of both sessions)", &figure)?;
    let statements = env.records(grant, "statement").await?.len();
    finding(
        statements >= MIN_STATEMENTS,
        "statements on record, each before it was forwarded",
        &statements.to_string(),
    )?;
    finding(
        (moments.roles, left) == (1, 0),
        "roles of grants in the database: while she worked, and left now",
        &format!("{}, {left}", moments.roles),
    )?;
    if !all_good {
        bail!("the promise was not kept; the gate's own log says:\n{}", env.gate.log());
    }
    Ok(())
}

/// Returns the delay of each change, compared with its limit.
fn changes(steps: &ApprovalLags) -> Vec<(&'static str, bool, String)> {
    let judged = |what, lag: &ChangeLag, limit| {
        let (good, figure) = judge(lag.from, lag.to, limit);
        (what, good, figure)
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

/// Returns true if the time is neither before `from` nor later than the limit, and the figure.
fn judge(from: Timestamp, at: Option<Timestamp>, limit: Duration) -> (bool, String) {
    let Some(at) = at else {
        return (false, "never".to_owned());
    };
    let after = at.duration_since(from);
    let good = !after.is_negative() && after.unsigned_abs() <= limit;
    let sign = if after.is_negative() { "-" } else { "" };
    (good, format!("{sign}{}", milliseconds(after.unsigned_abs())))
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_late_and_never_are_bad() {
        let until = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        let after = |millis| judge(until, Some(until + SignedDuration::from_millis(millis)), MAX_OVERSHOOT);
        assert_eq!(after(12), (true, "12.0 ms".to_owned()));
        assert_eq!(after(-3), (false, "-3.0 ms".to_owned()));
        assert_eq!(after(251), (false, "251.0 ms".to_owned()));
        assert_eq!(judge(until, None, MAX_OVERSHOOT), (false, "never".to_owned()));
    }
}
