//! `GET /v1/log`: records of the audit log as JSON Lines: those there are, the newest, the largest, those that come.
//!
//! It filters and parses nothing itself; it hands on what the reader finds, at the caller's pace, as long as the caller may read
//! the log.

use std::convert::Infallible;
use std::sync::Arc;

use super::Gate;
use super::caller::{Caller, Standing};
use super::hold::Hold;
use super::model::{Extent, LogQuery, Unreadable};
use super::problem::ApiError;
use super::routes::query;
use crate::audit::{Filter, Follow, ReadError, Record, follow};
use crate::policy::Action;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

/// Lines that are there at once are sent together, up to about this many bytes.
const CHUNK: usize = 32 << 10;
/// Said last where the answer does not go on to its end.
const ENDED: &str = "whether you may read the log is to be settled anew, so this answer ends here: ask again";

#[utoipa::path(get, path = "/v1/log", tag = "log", summary = "Records of the audit log (operators, and with `read-log`)", params(Filter, Extent), responses((status = 200, description = "JSON Lines: a record each; where a line cannot be read, why (`Unreadable`)", content_type = "application/x-ndjson", body = String)))]
pub(super) async fn records(
    State(gate): State<Arc<Gate>>,
    Extension(hold): Extension<Hold>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    let standing = Standing::of(&caller, &gate);
    caller.may(&gate, Action::ReadLog).await?;
    let LogQuery { filter, extent } = wanted(&uri)?;
    extent
        .check(&filter)
        .map_err(|error| ApiError::Malformed(error.to_string()))?;
    let place = if extent.follow { Some(hold.subscribe(&caller)?) } else { None };
    let reading = hold.read(&caller)?;
    let found = follow(&gate.audit_dir, &filter, extent).map_err(|error| ApiError::Log(error.to_string()))?;
    let found = found.sharing(hold.reading_threads(), reading);
    let chunks = futures_util::stream::unfold(Some((found, hold, standing, place)), |reading| async {
        let (mut found, mut hold, standing, place) = reading?;
        let lines = tokio::select! {
            lines = chunk(&mut found) => Some(lines?),
            () = standing.over() => None,
            () = hold.stopped() => return None,
        };
        Some(match lines.filter(|_| standing.holds()) {
            Some(lines) => (Ok::<_, Infallible>(lines), Some((found, hold, standing, place))),
            None => (Ok(unreadable(ENDED.to_owned()).into()), None),
        })
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(chunks)).into_response())
}

/// The query, in its two parts: a form cannot be flattened without its numbers becoming texts.
fn wanted(uri: &Uri) -> Result<LogQuery, ApiError> {
    let of_extent = |pair: &&str| matches!(pair.split('=').next(), Some("follow" | "last" | "sort" | "limit"));
    let (extent, filter): (Vec<_>, Vec<_>) = uri.query().unwrap_or_default().split('&').partition(of_extent);
    let part = |pairs: &[&str]| format!("/?{}", pairs.join("&")).parse::<Uri>().unwrap_or_default();
    Ok(LogQuery {
        filter: query(&part(&filter))?,
        extent: query(&part(&extent))?,
    })
}

/// The next line, and what else is there without waiting.
async fn chunk(found: &mut Follow) -> Option<Bytes> {
    let mut lines = String::new();
    push(&mut lines, found.next().await?);
    while lines.len() < CHUNK {
        match found.next().now_or_never() {
            Some(Some(item)) => push(&mut lines, item),
            _ => break,
        }
    }
    Some(lines.into())
}

/// A line that cannot be read is said, not left out: whoever reads the log must not take a part for the whole.
fn push(lines: &mut String, item: Result<Record, ReadError>) {
    match item {
        Ok(record) => lines.push_str(&record.json()),
        Err(error) => return lines.push_str(&unreadable(error.to_string())),
    }
    lines.push('\n');
}

/// Why there is no record, as a line.
fn unreadable(error: String) -> String {
    serde_json::to_string(&Unreadable { error }).unwrap_or_default() + "\n"
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
            (Some(7), Some(crate::audit::reading::Class::Update))
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
