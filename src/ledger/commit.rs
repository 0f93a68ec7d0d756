//! Order of a change that gives rights: record, then store; if it cannot be stored, its record is taken back. Its caller has
//! checked it and holds its turn, and publishes it afterwards.
//!
//! This module does not know the change. One that takes rights away goes to [`super::restrict`].

use rusqlite::Connection;

use super::sqlite::together;
use super::{LedgerError, LedgerInner, StoreError};
use crate::audit::event::Event;
use crate::base::secret::Secret;

/// Number of characters of a secret: 32 × 5 = 160 random bits, in an alphabet that needs no quoting in shells and URLs.
const SECRET_LETTERS: usize = 32;
const SECRET_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl LedgerInner {
    /// Puts a change on record and stores it. If that fails, `undone` returns the event that takes back each record; the last
    /// one is taken back first.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        records: &[Event<'_>],
        undone: impl FnOnce() -> Vec<Event<'static>>,
        store: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let mut recorded = 0;
        let done = async {
            for record in records {
                self.recorder.record(record).await?;
                recorded += 1;
            }
            Ok::<_, LedgerError>(self.store.call(move |connection| together(connection, store)).await?)
        };
        let done = done.await;
        if done.is_err() {
            for event in undone().iter().take(recorded).rev() {
                self.recorder.take_back(event).await;
            }
        }
        done
    }
}

/// Returns `prefix` followed by 160 random bits in letters.
pub(super) fn random_letters(prefix: &str) -> Result<Secret<String>, getrandom::Error> {
    random_text::<SECRET_LETTERS>(prefix)
}

/// Returns `prefix` followed by this number of random letters, of five bits each.
pub(super) fn random_text<const LETTERS: usize>(prefix: &str) -> Result<Secret<String>, getrandom::Error> {
    let mut random = [0; LETTERS];
    getrandom::fill(&mut random)?;
    let letters = random.iter().filter_map(|byte| SECRET_ALPHABET.get(usize::from(byte & 31)));
    Ok(Secret::new(prefix.chars().chain(letters.copied().map(char::from)).collect()))
}

/// Runs a commit to its end even if the caller has gone away (a client that hangs up, an operator's Ctrl-C), because it may
/// already be on record.
pub(super) async fn to_the_end<T, E>(commit: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<LedgerError> + Send + 'static,
{
    match tokio::spawn(commit).await {
        Ok(result) => result,
        // The runtime is shutting down.
        Err(_) => Err(LedgerError::from(StoreError::Stopped).into()),
    }
}
