//! Text of an error with all its causes, on one line.
//!
//! It does not choose the reader: the text is for operators and their logs.

use std::error::Error;

/// Returns the error and its causes, separated by colons; a cause that the text so far ends with is not repeated.
#[must_use]
pub fn display_chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    for cause in std::iter::successors(error.source(), |&error| error.source()) {
        let cause = cause.to_string();
        if !line.ends_with(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read")]
    struct Unreadable(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no key: {0}")]
    struct Told(#[source] Unreadable);

    #[test]
    fn the_last_cause_stands_last() {
        let error = Unreadable(std::io::Error::other("the disk is gone"));
        assert_eq!(display_chain(&error), "the file cannot be read: the disk is gone");
        let told = Told(error);
        assert_eq!(display_chain(&told), "no key: the file cannot be read: the disk is gone");
    }
}
