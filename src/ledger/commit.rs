//! Creates and changes grants, and issues their logins. A change that gives rights follows the ledger's order: check, audit,
//! store, publish; one that takes rights away goes to [`super::restrict`].
//!
//! This module does not check the rights of the caller.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::pending::{PendingChange, SubjectKey};
use super::record::ChangeInfo;
use super::{ChangedSubject, GrantEntry, GrantLogin, GrantView, Ledger, LedgerError, LedgerInner, StoreError, row};
use crate::audit::event::GrantChangeKind;
use crate::base::secret::Secret;
use crate::model::grant::{self, ChangeError, Grant, GrantChange, Terms};
use crate::model::ids::GrantId;
use crate::protocol::scram::Verifier;

/// Number of characters of a grant's secret: 32 × 5 = 160 random bits, in an alphabet that needs no quoting in shells and URLs.
const SECRET_LETTERS: usize = 32;
const SECRET_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Number of SCRAM iterations. Guessing 160 random bits is hopeless with any number, so the usual one (RFC 7677 section 4)
/// suffices.
const ITERATIONS: u32 = 4096;
const SALT_BYTES: usize = 16;

impl Ledger {
    /// Creates a grant. Only this call returns the secret: the ledger keeps its verifier only.
    pub async fn create(&self, terms: Terms, by: &str) -> Result<(Grant, Secret<String>), LedgerError> {
        let ledger = self.clone();
        let by = by.to_owned();
        to_the_end(async move { ledger.0.create(terms, &by).await }).await
    }

    /// Moves the end of the window to a later time; live sessions get the new end at once.
    pub async fn extend(&self, id: &GrantId, length: Duration, by: &str, reason: Option<&str>) -> Result<GrantView, LedgerError> {
        self.change(id, GrantChange::Extend(length), by, reason).await
    }

    /// Moves the end of the window nearer by `length`, at most to now, which ends the grant and its sessions.
    pub async fn shorten_by(
        &self,
        id: &GrantId,
        length: Duration,
        by: &str,
        reason: Option<&str>,
    ) -> Result<GrantView, LedgerError> {
        self.change(id, GrantChange::ShortenBy(length), by, reason).await
    }

    /// Moves the end of the window to an earlier time; a time in the past ends the grant and its sessions now.
    pub async fn shorten_to(
        &self,
        id: &GrantId,
        to: Timestamp,
        by: &str,
        reason: Option<&str>,
    ) -> Result<GrantView, LedgerError> {
        self.change(id, GrantChange::ShortenTo(to), by, reason).await
    }

    /// Ends the grant and its sessions.
    pub async fn revoke(&self, id: &GrantId, by: &str, reason: Option<&str>) -> Result<GrantView, LedgerError> {
        let change = GrantChange::Revoke {
            by: by.to_owned(),
            reason: reason.map(str::to_owned),
        };
        self.change(id, change, by, reason).await
    }

    /// Makes any change to a grant.
    pub async fn change(
        &self,
        id: &GrantId,
        change: GrantChange,
        by: &str,
        reason: Option<&str>,
    ) -> Result<GrantView, LedgerError> {
        let Some(entry) = self.0.entry(id) else {
            // It is not in memory: it never existed, or ended long ago. `grant` tells the two apart for the caller.
            let view = self.grant(id).await?;
            let now = self.0.clock.now();
            return Err(ChangeError::Ended(view.grant.standing(now)).into());
        };
        let info = ChangeInfo {
            change: kind(&change),
            by: by.to_owned(),
            reason: reason.map(str::to_owned),
        };
        if change.takes_away() {
            return Ok(self.0.restrict(&entry, &change, &info).await?);
        }
        let ledger = self.clone();
        to_the_end(async move {
            ledger.0.is_settled(&entry).await?;
            let _turn = entry.committing.lock().await;
            let now = ledger.0.clock.now();
            let seen = entry.restrictions.count();
            let next = grant::apply(&entry.current(), &change, now)?;
            ledger
                .0
                .commit(
                    &entry,
                    GrantingChange {
                        change,
                        next,
                        at: now,
                        seen,
                    },
                    &info,
                )
                .await?;
            Ok(entry.view(now))
        })
        .await
    }

    /// Opens the window, if `admissible` still accepts the grant when its turn comes.
    pub(super) async fn activate<E, F>(&self, entry: &Arc<GrantEntry>, admissible: F) -> Result<(), E>
    where
        E: From<LedgerError> + Send + 'static,
        F: FnOnce(&Grant, Timestamp) -> Result<(), E> + Send + 'static,
    {
        let ledger = self.clone();
        let entry = entry.clone();
        to_the_end(async move {
            ledger.0.is_settled(&entry).await?;
            let _turn = entry.committing.lock().await;
            let now = ledger.0.clock.now();
            let seen = entry.restrictions.count();
            let current = entry.current();
            // Many connections of one grant may come at once: another one has opened the window, or it has ended since.
            let Ok(next) = grant::apply(&current, &GrantChange::Activate, now) else {
                return Ok(());
            };
            admissible(&next, now)?;
            let info = ChangeInfo {
                change: kind(&GrantChange::Activate),
                by: current.identity().to_string(),
                reason: None,
            };
            let change = GrantChange::Activate;
            Ok(ledger
                .0
                .commit(
                    &entry,
                    GrantingChange {
                        change,
                        next,
                        at: now,
                        seen,
                    },
                    &info,
                )
                .await?)
        })
        .await
    }

    /// Issues a new login of a grant; its other logins stay valid (up to 32, then the oldest is dropped).
    pub async fn issue_login(&self, grant: &GrantId, by: &str) -> Result<GrantLogin, LedgerError> {
        let Some(entry) = self.0.entry(grant) else {
            let view = self.grant(grant).await?;
            let now = self.0.clock.now();
            return Err(ChangeError::Ended(view.grant.standing(now)).into());
        };
        let ledger = self.clone();
        let by = by.to_owned();
        to_the_end(async move { ledger.issue(&entry, by).await }).await
    }

    async fn issue(&self, entry: &Arc<GrantEntry>, by: String) -> Result<GrantLogin, LedgerError> {
        let (secret, verifier) = fresh_secret().await?;
        self.0.is_settled(entry).await?;
        let _turn = entry.committing.lock().await;
        let grant = entry.current();
        let now = self.0.clock.now();
        if grant.status(now).ended() {
            return Err(ChangeError::Ended(grant.standing(now)).into());
        }
        let user = entry.fresh_name()?;
        let dropped = entry.logins.lock().next_out().map(str::to_owned);
        let info = ChangeInfo {
            change: GrantChangeKind::LoginIssued,
            by,
            reason: None,
        };
        self.0.recorder.record(&info.event(&grant)).await?;
        let (id, name, text) = (grant.id().clone(), user.clone(), verifier.to_string());
        let stored = self
            .0
            .store
            .call(move |connection| row::logins::insert(connection, &id, (&name, &text), dropped.as_deref()))
            .await;
        self.0.settle(stored, &grant, &info).await?;
        entry.logins.lock().add(user.clone(), verifier);
        Ok(GrantLogin { user, secret })
    }
}

/// Change that gives rights, before it is stored.
struct GrantingChange {
    change: GrantChange,
    next: Grant,
    /// Time of the decision.
    at: Timestamp,
    /// Number of restrictions of the grant at that time.
    seen: u64,
}

impl LedgerInner {
    async fn create(self: &Arc<Self>, terms: Terms, by: &str) -> Result<(Grant, Secret<String>), LedgerError> {
        let _let_in = self.let_in(&terms.identity).await?;
        let now = self.clock.now();
        let grant = grant::create(self.fresh_id().await?, terms, by, now)?;
        let (secret, verifier) = fresh_secret().await?;
        let info = ChangeInfo {
            change: GrantChangeKind::Created,
            by: by.to_owned(),
            reason: grant.reason().map(str::to_owned),
        };
        self.recorder.record(&info.event(&grant)).await?;
        let stored = (grant.clone(), verifier.to_string());
        let stored = self
            .store
            .call(move |connection| row::insert(connection, &stored.0, &stored.1))
            .await;
        self.settle(stored, &grant, &info).await?;
        self.publish_new(grant.clone(), Some(verifier), now);
        self.end_if_shut_out(grant.identity())?;
        Ok((grant, secret))
    }

    /// Publishes a grant that is stored.
    pub(super) fn publish_new(&self, grant: Grant, verifier: Option<Verifier>, now: Timestamp) {
        let view = GrantView::of(&grant, now, 0);
        self.cache.lock().add(grant, verifier, now);
        self.tell(|| ChangedSubject::Grant(Box::new(view)));
    }

    /// Reports whether all restrictions of the grant are stored and on record. Until then it is given nothing.
    pub(super) async fn is_settled(&self, entry: &GrantEntry) -> Result<(), LedgerError> {
        let key = SubjectKey::Grant(entry.current().id().clone());
        if self.pending.is_settled(&key).await {
            Ok(())
        } else {
            Err(LedgerError::Unsettled)
        }
    }

    /// Audits, stores and publishes. The caller has checked the change and holds the grant's turn.
    async fn commit(
        self: &Arc<Self>,
        entry: &Arc<GrantEntry>,
        given: GrantingChange,
        info: &ChangeInfo,
    ) -> Result<(), LedgerError> {
        self.recorder.record(&info.event(&given.next)).await?;
        let (row, asked, seen) = (given.next.clone(), Arc::clone(entry), given.seen);
        let store = move |connection: &mut rusqlite::Connection| {
            if asked.restrictions.count() != seen {
                return Err(StoreError::Overtaken);
            }
            row::update(connection, &row)
        };
        let stored = self.store.call(store).await;
        self.settle(stored, &entry.current(), info).await?;
        self.publish(entry, given, info)?;
        self.tell(|| ChangedSubject::Grant(Box::new(entry.view(self.clock.now()))));
        Ok(())
    }

    /// Publishes a change that is stored, unless it comes too late. Sessions decide about their end by the same value and the
    /// same clock: a session whose time was up has ended, and one that lives gets the new end.
    fn publish(self: &Arc<Self>, entry: &Arc<GrantEntry>, given: GrantingChange, info: &ChangeInfo) -> Result<(), LedgerError> {
        let moment = self.clock.moment();
        let GrantingChange { change, next, at, seen } = given;
        let (mut late, mut behind) = (None, None);
        entry.grant.send_if_modified(|grant| {
            let overtaken = entry.restrictions.count() != seen;
            // The first connect came in time, however long the disk took; restrictions made since then apply to it.
            let next = match change {
                GrantChange::Activate if overtaken => grant::apply(grant, &change, at).map_err(LedgerError::from),
                GrantChange::Activate => Ok(next),
                _ if overtaken => Err(StoreError::Overtaken.into()),
                _ => {
                    let now = self.clock.now();
                    let ended = grant.status(now).ended().then_some(ChangeError::Ended(grant.standing(now)));
                    ended.map_or(Ok(next), |ended| Err(ended.into()))
                }
            };
            // The store has more than that, so it is corrected there.
            if overtaken || next.is_err() {
                let less = next.as_ref().map_or_else(|_| Grant::clone(grant), Grant::clone);
                let event = if next.is_ok() {
                    info.event(&less)
                } else {
                    info.undone().event(&less)
                };
                let item = PendingChange::about_grant(entry, less, event, moment.instant);
                self.queue_pending(Arc::clone(&item));
                behind = Some(item);
            }
            let changed = next.is_ok();
            match next {
                Ok(next) => *grant = Arc::new(next),
                Err(error) => late = Some(error),
            }
            changed
        });
        if behind.is_some() {
            self.pursue();
        }
        late.map_or(Ok(()), Err)
    }

    /// Takes back the record of a change if that change was then not stored.
    pub(super) async fn settle(
        &self,
        stored: Result<(), StoreError>,
        unchanged: &Grant,
        info: &ChangeInfo,
    ) -> Result<(), LedgerError> {
        let Err(error) = stored else { return Ok(()) };
        self.recorder.take_back(&info.undone().event(unchanged)).await;
        Err(error.into())
    }

    pub(super) async fn fresh_id(&self) -> Result<GrantId, LedgerError> {
        loop {
            let mut random = [0; 10];
            getrandom::fill(&mut random)?;
            let id = GrantId::from_random(random);
            let wanted = id.clone();
            let taken = self
                .store
                .call(move |connection| row::find(connection, &wanted))
                .await?
                .is_some();
            if !taken {
                return Ok(id);
            }
        }
    }
}

pub(super) fn kind(change: &GrantChange) -> GrantChangeKind {
    match change {
        GrantChange::Activate => GrantChangeKind::Activated,
        GrantChange::Extend(_) => GrantChangeKind::Extended,
        GrantChange::ShortenBy(_) | GrantChange::ShortenTo(_) => GrantChangeKind::Shortened,
        GrantChange::Revoke { .. } => GrantChangeKind::Revoked,
    }
}

/// Returns `prefix` followed by 160 random bits in letters.
pub(super) fn random_letters(prefix: &str) -> Result<Secret<String>, LedgerError> {
    let mut random = [0; SECRET_LETTERS];
    getrandom::fill(&mut random)?;
    let letters = random.iter().filter_map(|byte| SECRET_ALPHABET.get(usize::from(byte & 31)));
    Ok(Secret::new(prefix.chars().chain(letters.copied().map(char::from)).collect()))
}

/// Returns a new secret and its verifier. Deriving a verifier takes about a millisecond of CPU, so it does not run on a thread
/// that serves sessions.
async fn fresh_secret() -> Result<(Secret<String>, Verifier), LedgerError> {
    let secret = random_letters("")?;
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)?;
    let password = secret.clone();
    let derived = tokio::task::spawn_blocking(move || Verifier::derive(password.expose().as_bytes(), &salt, ITERATIONS)).await;
    derived
        .map(|verifier| (secret, verifier))
        .map_err(|_| StoreError::Stopped.into())
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
