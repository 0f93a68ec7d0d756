//! `GET /v1/log`: records of the audit log as JSON Lines: the existing ones, the newest, the largest, or new ones as they are
//! written.
//!
//! Filtering and parsing are the reader's. Records are sent at the caller's pace, for as long as the caller may read the log.
//!
//! INVARIANT: who may not read the whole log reads the records of one grant, which they may watch, and nothing else of it.

use std::convert::Infallible;
use std::sync::Arc;

use super::authenticate::Call;
use super::long_poll::{LongPollLimiter, ReaderPool};
use super::model::{LogQuery, LogStatus, SearchExtent, UnreadableLine};
use super::problem::ApiError;
use super::renewal::Renewal;
use super::routes::query;
use crate::access::CallerStanding;
use crate::audit::{Filter, LogRecord, ReadError, RecordEncoder, RecordStream, follow};
use crate::model::ids::GrantId;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

/// Approximate size in bytes up to which available lines are sent together.
const CHUNK_BYTES: usize = 32 << 10;
/// Last line of an answer that ends early.
const ENDED_REASON: &str = "your right to read the log must be checked again, so this answer ends here; repeat the call";

#[utoipa::path(get, path = "/v1/log", tag = "log", summary = "Records of the audit log (operators, and with `read-log`; with `grant` those that may watch its sessions)", params(Filter, SearchExtent), responses((status = 200, description = "JSON Lines: one record per line, or the reason why a line cannot be read (`Unreadable`)", content_type = "application/x-ndjson", body = String)))]
pub(super) async fn records(call: Call, Extension(limiter): Extension<LongPollLimiter>, uri: Uri) -> Result<Response, ApiError> {
    let wanted = wanted(&uri)?;
    let reader = call
        .log_reader_of(&limiter, wanted.filter.grant.as_ref(), Renewal(false))
        .await?;
    let whole = reader.reads_all();
    let place = if wanted.extent.follow {
        Some(reader.pool().followers.enter(&call.caller)?)
    } else {
        None
    };
    let found = reader.find(&wanted)?;
    let standing = reader.standing;
    let chunks = futures_util::stream::unfold(Some((found, limiter, standing, place)), move |reading| async move {
        let (mut found, mut limiter, standing, place) = reading?;
        let lines = tokio::select! {
            lines = chunk(&mut found, whole) => Some(lines?),
            () = standing.over() => None,
            () = limiter.stopped() => return None,
        };
        Some(match lines.filter(|_| standing.holds()) {
            Some(lines) => (Ok::<_, Infallible>(lines), Some((found, limiter, standing, place))),
            None => (Ok(unreadable(ENDED_REASON.to_owned()).into()), None),
        })
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(chunks)).into_response())
}

/// Reader of the log for a caller who may read it, or the records of one grant.
pub struct LogReader<'c> {
    call: &'c Call,
    limiter: &'c LongPollLimiter,
    /// Grant that alone may be read about; `None`: all.
    only: Option<GrantId>,
    standing: CallerStanding,
}

impl Call {
    /// Returns a reader of the log if the caller may read it. The decision on a person is on record.
    pub async fn log_reader<'c>(&'c self, limiter: &'c LongPollLimiter) -> Result<LogReader<'c>, ApiError> {
        self.renewed_log_reader(limiter, Renewal(false)).await
    }

    async fn renewed_log_reader<'c>(&'c self, limiter: &'c LongPollLimiter, renewal: Renewal) -> Result<LogReader<'c>, ApiError> {
        let standing = self.gate.service.standing(&self.caller);
        self.gate.service.may_read_log(&self.caller, renewal.0).await?;
        Ok(LogReader {
            call: self,
            limiter,
            only: None,
            standing,
        })
    }

    /// Returns a reader of the log for a search in the records of `grant`, if there is one: also for those who may watch its
    /// sessions, and then of these records alone.
    pub async fn log_reader_of<'c>(
        &'c self,
        limiter: &'c LongPollLimiter,
        grant: Option<&GrantId>,
        renewal: Renewal,
    ) -> Result<LogReader<'c>, ApiError> {
        if let Some(grant) = grant
            && !self.gate.service.would_read_log(&self.caller)
            && let Some(reader) = self.reader_of_grant(limiter, grant, renewal).await?
        {
            return Ok(reader);
        }
        self.renewed_log_reader(limiter, renewal).await
    }

    /// Returns a reader of the records of one grant if the caller may watch its sessions, which is on record as any reading of the
    /// log is.
    pub async fn reader_of_grant<'c>(
        &'c self,
        limiter: &'c LongPollLimiter,
        grant: &GrantId,
        renewal: Renewal,
    ) -> Result<Option<LogReader<'c>>, ApiError> {
        let standing = self.gate.service.standing(&self.caller);
        let watches = self.gate.service.may_read_grant(&self.caller, grant, renewal.0).await?;
        Ok(watches.then(|| LogReader {
            call: self,
            limiter,
            only: Some(grant.clone()),
            standing,
        }))
    }
}

impl LogReader<'_> {
    /// Begins a search, in a place among the readers of the log.
    pub fn find(&self, wanted: &LogQuery) -> Result<RecordStream, ApiError> {
        let LogQuery { filter, extent } = wanted;
        let filter = &Filter {
            grant: self.only.clone().or_else(|| filter.grant.clone()),
            ..filter.clone()
        };
        let checked = extent.check(filter);
        checked.map_err(|error| ApiError::Malformed(error.to_string()))?;
        let pool = self.pool();
        let place = pool.readings.enter(&self.call.caller)?;
        let found = follow(&self.call.gate.audit_dir, filter, *extent).map_err(|error| ApiError::Log(error.to_string()))?;
        Ok(found.sharing(Arc::clone(&pool.threads), place))
    }

    /// Runs another reading, in a place among the readers of the log.
    pub(super) async fn read<T: Send + 'static>(&self, reading: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        self.pool().read(&self.call.caller, reading).await
    }

    /// Returns the places that its readings take.
    fn pool(&self) -> &ReaderPool {
        match self.only {
            None => &self.limiter.log,
            Some(_) => &self.limiter.grants,
        }
    }

    /// Checks, before an answer goes out, that what allowed the reading is as it was when it began.
    pub fn still_allowed(&self) -> Result<(), ApiError> {
        self.standing.holds().then_some(()).ok_or(ApiError::RulesChanged)
    }

    /// Returns the state of the log.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        self.call.state_of_log()
    }

    /// Returns true if the caller may read the whole log.
    #[must_use]
    pub fn reads_all(&self) -> bool {
        self.only.is_none()
    }
}

/// Returns the reason why a line could not be read. A line may be of any grant, and the reason may have a part of it: who does not
/// read the whole log is told the fact alone.
#[must_use]
pub fn told(error: &ReadError, reads_all: bool) -> String {
    if reads_all {
        error.to_string()
    } else {
        "a line of the log cannot be read; ask those who may read the log".to_owned()
    }
}

/// Parses the query in two parts, since a flattened form would turn numbers into strings.
pub fn wanted(uri: &Uri) -> Result<LogQuery, ApiError> {
    let of_extent = |pair: &&str| matches!(pair.split('=').next(), Some("follow" | "last" | "sort" | "limit"));
    let (extent, filter): (Vec<_>, Vec<_>) = uri.query().unwrap_or_default().split('&').partition(of_extent);
    let part = |pairs: &[&str]| format!("/?{}", pairs.join("&")).parse::<Uri>().unwrap_or_default();
    Ok(LogQuery {
        filter: query(&part(&filter))?,
        extent: query(&part(&extent))?,
    })
}

/// Returns the next line, together with all lines that are available without waiting.
async fn chunk(found: &mut RecordStream, reads_all: bool) -> Option<Bytes> {
    let (mut lines, mut encoder) = (Vec::new(), RecordEncoder::default());
    let mut push = |lines: &mut Vec<u8>, item| push(lines, &mut encoder, item, reads_all);
    push(&mut lines, found.next().await?);
    while lines.len() < CHUNK_BYTES {
        match found.next().now_or_never() {
            Some(Some(item)) => push(&mut lines, item),
            _ => break,
        }
    }
    Some(lines.into())
}

/// Appends a record. A line that cannot be read becomes an error line instead of being left out, so that a part is never taken
/// for the whole.
fn push(lines: &mut Vec<u8>, encoder: &mut RecordEncoder, item: Result<LogRecord, ReadError>, reads_all: bool) {
    match item {
        Ok(record) => encoder.push(lines, &record),
        Err(error) => lines.extend_from_slice(unreadable(told(&error, reads_all)).as_bytes()),
    }
}

/// Returns the line that stands for an unreadable record.
fn unreadable(error: String) -> String {
    serde_json::to_string(&UnreadableLine { error }).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_filter_and_an_extent() {
        let query = |text: &str| wanted(&format!("/v1/log?{text}").parse().unwrap());
        let LogQuery { filter, extent } =
            query("follow=true&table=Shop.Customers&min_rows=7&class=update&group=qa&last=5").unwrap();
        assert!(extent.follow);
        assert_eq!(extent.last, Some(5));
        assert_eq!(filter.table.unwrap().to_string(), "shop.customers");
        assert_eq!(
            (filter.min_rows, filter.class),
            (Some(7), Some(crate::audit::sql_analysis::CommandClass::Update))
        );
        assert_eq!(filter.group.unwrap().as_str(), "qa");
        let LogQuery { filter, extent } = query("sort=rows&limit=3&profile=read-write&break_glass=true").unwrap();
        assert_eq!((extent.sort, extent.limit), (Some(crate::audit::SortKey::Rows), Some(3)));
        assert!(filter.break_glass && filter.profile.is_some());
        assert_eq!(wanted(&"/v1/log".parse().unwrap()).unwrap(), LogQuery::default());
        for text in [
            "follw=true",
            "min_rows=many",
            "follow=perhaps",
            "table=",
            "since=yesterday",
            "sort=size",
            "from=2026-01-01T00:00:00Z",
        ] {
            assert!(query(text).is_err(), "{text}");
        }
    }
}
