//! An error with all that it comes from, as one line of text.
//!
//! It does not choose who may read that: it is for operators and their logs.

use std::error::Error;

/// `error`, then what caused it, then what caused that, with colons between.
#[must_use]
pub fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read")]
    struct Unreadable(#[source] std::io::Error);

    #[test]
    fn the_last_cause_stands_last() {
        let error = Unreadable(std::io::Error::other("the disk is gone"));
        assert_eq!(in_one_line(&error), "the file cannot be read: the disk is gone");
    }
}
