//! Status of a page, with the time after which trying again makes sense: one rule for pages of problems and for refused forms.

use axum::http::{StatusCode, header};
use axum::response::Response;

use crate::control::ApiError;

/// Status of a page, with the number of seconds after which trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageStatus {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<u32>,
}

impl PageStatus {
    pub(super) const OK: Self = Self {
        status: StatusCode::OK,
        retry_after: None,
    };

    /// Returns the status of a page that shows an error, as the API answers it.
    pub(super) fn of(error: &ApiError) -> Self {
        Self {
            status: StatusCode::from_u16(error.problem().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            retry_after: error.retry_after(),
        }
    }

    /// Returns that of an answer.
    pub(super) fn of_answer(answer: &Response) -> Self {
        let seconds = answer.headers().get(header::RETRY_AFTER);
        Self {
            status: answer.status(),
            retry_after: seconds.and_then(|seconds| seconds.to_str().ok()?.parse().ok()),
        }
    }
}
