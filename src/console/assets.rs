//! Style sheet and script of the pages: part of the program, each under a name with the hash of its content.
//!
//! INVARIANT: a name stands for one content for ever, so that browsers may keep it.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::control::ApiError;

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
/// Number of hexadecimal digits of the hash in a name.
const HASH_DIGITS: usize = 16;

static STYLE_NAME: LazyLock<String> = LazyLock::new(|| name(STYLE, "css"));
static SCRIPT_NAME: LazyLock<String> = LazyLock::new(|| name(SCRIPT, "js"));

fn name(content: &str, extension: &str) -> String {
    let hash = HEXLOWER.encode(&Sha256::digest(content));
    format!("console-{}.{extension}", hash.get(..HASH_DIGITS).unwrap_or(&hash))
}

/// Returns the path of the style sheet.
pub(super) fn style() -> String {
    format!("/assets/{}", *STYLE_NAME)
}

/// Returns the path of the script.
pub(super) fn script() -> String {
    format!("/assets/{}", *SCRIPT_NAME)
}

/// Answers with a file; with an old or wrong name there is none.
pub(super) async fn file(Path(file): Path<String>) -> Result<Response, ApiError> {
    let (kind, content) = match file {
        _ if file == *STYLE_NAME => ("text/css; charset=utf-8", STYLE),
        _ if file == *SCRIPT_NAME => ("text/javascript; charset=utf-8", SCRIPT),
        _ => return Err(ApiError::NoSuchPath(format!("/assets/{file}"))),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, content).into_response())
}
