//! Paths that people go on to after a sign-in: of this host, and no address of another.

/// Maximum length of the path to go on to, in bytes.
const MAX_NEXT_BYTES: usize = 2_000;

/// Returns the path to go on to after a sign-in, which is kept until then: of this host, and not too long.
pub(super) fn next_path(next: Option<&str>) -> &str {
    local_path(next.filter(|next| next.len() <= MAX_NEXT_BYTES).unwrap_or_default())
}

/// Returns a path if it is one of this host, and the root for everything else. Browsers take `//host` and `/\host` for another host,
/// and leave out tabs and line breaks (WHATWG URL: "basic URL parser").
#[must_use]
pub fn local_path(path: &str) -> &str {
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let local = path.starts_with('/') && !path.starts_with("//");
    if visible && local { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_on_to_this_host_only() {
        for good in ["/", "/requests/rq_4k2m9x0a7b", "/log?sql=a%20b&x=//y", "/a/../b#c"] {
            assert_eq!(next_path(Some(good)), good);
        }
        for bad in [
            "",
            "requests",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            " /",
            "/ü",
            "/a b",
        ] {
            assert_eq!(next_path(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(next_path(None), "/");
        assert_eq!(next_path(Some(&format!("/{}", "x".repeat(2_000)))), "/");
    }
}
