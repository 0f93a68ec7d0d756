//! Grants: reads, lists and changes them, and issues their logins.
//!
//! This module does not check the rights of the caller. Grants that have not ended are found in memory, without a look at those
//! that have; all grants are read from the store, by index. A change that takes rights away goes to [`super::restrict`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::watch;

use super::cache::{GrantEntry, GrantLogins, before};
use super::commit::{random_letters, to_the_end};
use super::pending::ChangeSubject;
use super::record::ChangeInfo;
use super::views::{ChangedSubject, GrantFilter, GrantLogin, GrantView};
use super::{Ledger, LedgerError, LedgerInner, StoreError, row};
use crate::audit::event::GrantChangeKind;
use crate::base::error_chain::display_chain;
use crate::base::secret::Secret;
use crate::model::grant::{self, ChangeError, Grant, GrantChange, GrantState, Terms};
use crate::model::ids::GrantId;
use crate::model::names::{IdentityName, TargetName};
use crate::protocol::scram::Verifier;

/// Time for which a client with the secret of an ended grant gets an error that says when it ended. Afterwards the grant does
/// not exist for clients; the store and the log still have it.
pub const ENDED_GRANT_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Number of grants on a page by default.
const DEFAULT_PAGE_ROWS: usize = 1000;
/// Author on record of changes that follow from a place in line.
const IN_LINE: &str = "gate";
/// Number of SCRAM iterations. Guessing 160 random bits is hopeless with any number, so the usual one (RFC 7677 section 4)
/// suffices.
const ITERATIONS: u32 = 4096;
const SALT_BYTES: usize = 16;

impl Ledger {
    /// Returns the verifier for a login by `user`. For a user that is no grant: a verifier that no password fits, computed with
    /// the same work and always the same.
    pub async fn verifier(&self, user: &str) -> Verifier {
        let mock = Verifier::mock(user, &self.0.mock_key);
        let Some(id) = GrantId::of_login(user) else {
            return mock;
        };
        match self.recall(&id).await {
            Ok(entry) => entry.and_then(|entry| entry.verifier(user)).unwrap_or(mock),
            // A grant that cannot be read lets no client in.
            Err(error) => {
                tracing::error!(grant = %id, error = %display_chain(&error), "cannot look up a grant; refusing the login");
                mock
            }
        }
    }

    /// Returns a grant that is in memory, or one that ended within [`ENDED_GRANT_RETENTION`]. Only grants that have ended come
    /// from the store, and they give no rights: a grant that lives has exactly one entry, in memory.
    pub(super) async fn recall(&self, id: &GrantId) -> Result<Option<Arc<GrantEntry>>, LedgerError> {
        if let Some(entry) = self.0.entry(id) {
            return Ok(Some(entry));
        }
        let now = self.0.clock.now();
        let wanted = id.clone();
        let found = self.0.store.call(move |connection| row::recall(connection, &wanted)).await?;
        let told = found.filter(|entry| {
            // For a revoked grant, the end without the revocation counts.
            let grant = entry.current();
            let ended_at = grant.until().unwrap_or(grant.activate_by());
            !entry.is_live(now) && ended_at > before(now, ENDED_GRANT_RETENTION)
        });
        Ok(told.map(Arc::new))
    }

    /// Returns one grant, even if it has ended and is only in the store.
    pub async fn grant(&self, id: &GrantId) -> Result<GrantView, LedgerError> {
        let now = self.0.clock.now();
        if let Some(entry) = self.0.entry(id) {
            return Ok(entry.view(now));
        }
        let wanted = id.clone();
        let found = self.0.store.call(move |connection| row::find(connection, &wanted)).await?;
        let grant = found.ok_or_else(|| LedgerError::NoSuchGrant(id.clone()))?;
        Ok(GrantView::of(&grant, now, 0))
    }

    /// Returns a grant whose window is open, now and after every change; `None` for every other grant.
    #[must_use]
    pub fn watch(&self, id: &GrantId) -> Option<watch::Receiver<Arc<Grant>>> {
        let changes = self.0.entry(id)?.state.subscribe();
        let active = matches!(changes.borrow().status(self.0.clock.now()), GrantState::Active { .. });
        active.then_some(changes)
    }

    /// Returns a grant that has not ended, now and after every change; `None` for every other grant.
    #[must_use]
    pub fn watch_live(&self, id: &GrantId) -> Option<watch::Receiver<Arc<Grant>>> {
        let entry = self.0.entry(id)?;
        let live = !entry.current().status(self.0.clock.now()).ended();
        live.then(|| entry.state.subscribe())
    }

    /// Returns grants, the newest first.
    pub async fn grants(&self, filter: &GrantFilter) -> Result<Vec<GrantView>, LedgerError> {
        let before = match &filter.before {
            Some(id) => Some(self.grant(id).await?.grant),
            None => None,
        };
        let limit = if filter.limit == 0 { DEFAULT_PAGE_ROWS } else { filter.limit };
        if !filter.ended {
            return Ok(self.0.living(filter, before.as_ref(), limit));
        }
        let filter = filter.clone();
        let page = move |connection: &mut Connection| row::page(connection, &filter, before.as_ref(), limit);
        let found = self.0.store.call(page).await?;
        let now = self.0.clock.now();
        // Only memory has the number of live sessions.
        let view = |grant: &Grant| match self.0.entry(grant.id()) {
            Some(entry) => entry.view(now),
            None => GrantView::of(grant, now, 0),
        };
        Ok(found.iter().map(view).collect())
    }

    /// Returns the grants that had not ended at a time, as they are now. Revoked ones that would not have ended otherwise are
    /// among them.
    pub async fn grants_unended_at(&self, time: Timestamp) -> Result<Vec<Grant>, LedgerError> {
        let found = self.0.store.call(move |connection| row::unended(connection, time)).await?;
        // A restriction is in memory before it is in the store.
        let now = |grant: Grant| match self.0.entry(grant.id()) {
            Some(entry) => Grant::clone(&entry.current()),
            None => grant,
        };
        Ok(found.into_iter().map(now).collect())
    }

    /// Returns the grants of an identity for a target that can be used now (ready or active), the one that ends last first.
    #[must_use]
    pub fn live_grants(&self, who: &IdentityName, target: &TargetName) -> Vec<GrantView> {
        let now = self.0.clock.now();
        let views = self.0.live(who, now).into_iter().map(|entry| entry.view(now));
        let mut found: Vec<_> = views.filter(|view| view.grant.target() == target).collect();
        // The end of a window that is not open yet counts as if it were opened now.
        let end = |grant: &Grant| {
            let opened_now = now.checked_add(grant.window()).unwrap_or(Timestamp::MAX);
            let opened_now = grant.deadline().map_or(opened_now, |deadline| deadline.min(opened_now));
            grant.until().unwrap_or(opened_now)
        };
        found.sort_by_key(|view| std::cmp::Reverse(end(&view.grant)));
        found
    }

    /// Returns the number of grants of an identity that have not ended.
    #[must_use]
    pub fn active_grants(&self, who: &IdentityName) -> u32 {
        u32::try_from(self.0.live(who, self.0.clock.now()).len()).unwrap_or(u32::MAX)
    }

    /// Creates a grant. Only this call returns the secret: the ledger keeps its verifier only.
    pub async fn create(&self, terms: Terms, by: &str) -> Result<(Grant, Secret<String>), LedgerError> {
        let (inner, by) = (Arc::clone(&self.0), by.to_owned());
        to_the_end(async move { inner.create(terms, &by).await }).await
    }

    /// Moves the end of the window to a later time; live sessions get the new end at once.
    pub async fn extend(&self, id: &GrantId, length: Duration, by: &str, reason: Option<&str>) -> Result<GrantView, LedgerError> {
        self.change(id, GrantChange::Extend(length), by, reason).await
    }

    /// Gives a grant that waits in line more time for its first connect, where it has less.
    pub async fn postpone(&self, id: &GrantId, by: Duration) -> Result<GrantView, LedgerError> {
        self.change(id, GrantChange::Postpone(by), IN_LINE, None).await
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
        let entry = self.entry(id).await?;
        let info = ChangeInfo::of(&change, by, reason);
        if change.takes_away() {
            let item = self.0.restrict_grant(&entry, &change, &info)?;
            let effect = self.0.answer(&[item]).await;
            return Ok(GrantView {
                effect: Some(effect),
                ..entry.view(self.0.clock.now())
            });
        }
        let at = self
            .give(&entry, change, info, |next, _| Ok::<_, LedgerError>(Some(next?)))
            .await?;
        Ok(entry.view(at))
    }

    /// Opens the window, if `admissible` still accepts the grant when its turn comes.
    pub(super) async fn activate<E, F>(&self, entry: &Arc<GrantEntry>, admissible: F) -> Result<(), E>
    where
        E: From<LedgerError> + Send + 'static,
        F: FnOnce(&Grant, Timestamp) -> Result<(), E> + Send + 'static,
    {
        let change = GrantChange::Activate;
        let info = ChangeInfo::of(&change, entry.current().identity().as_str(), None);
        let check = |next: Result<Grant, ChangeError>, now| {
            // Many connections of one grant may come at once: another one has opened the window, or it has ended since.
            let Ok(next) = next else { return Ok(None) };
            admissible(&next, now)?;
            Ok(Some(next))
        };
        self.give(entry, change, info, check).await.map(drop)
    }

    /// Makes a change that gives rights, in its turn, and returns the time of the decision. `check` gets the changed grant, and
    /// returns the one to be stored, if there is one.
    async fn give<E>(
        &self,
        entry: &Arc<GrantEntry>,
        change: GrantChange,
        info: ChangeInfo,
        check: impl FnOnce(Result<Grant, ChangeError>, Timestamp) -> Result<Option<Grant>, E> + Send + 'static,
    ) -> Result<Timestamp, E>
    where
        E: From<LedgerError> + Send + 'static,
    {
        let (inner, entry) = (Arc::clone(&self.0), Arc::clone(entry));
        to_the_end(async move {
            inner.is_settled(&entry).await?;
            let _turn = entry.turn.lock().await;
            let (at, seen) = (inner.clock.now(), entry.restrictions());
            let next = grant::apply(&entry.current(), &change, at);
            let Some(next) = check(next, at)? else { return Ok(at) };
            let (row, asked) = (next.clone(), Arc::clone(&entry));
            let store = move |connection: &Connection| {
                asked.unrestricted_since(seen)?;
                row::update(connection, &row)
            };
            let undone = || vec![info.undone().event(&entry.current())];
            inner.commit(&[info.event(&next)], undone, store).await?;
            inner.publish(&entry, GrantingChange { change, next, at, seen }, &info)?;
            inner.tell(|| ChangedSubject::Grant(Box::new(entry.view(inner.clock.now()))));
            Ok(at)
        })
        .await
    }

    /// Issues a new login of a grant; its other logins stay valid (up to 32, then the oldest is dropped).
    pub async fn issue_login(&self, grant: &GrantId, by: &str) -> Result<GrantLogin, LedgerError> {
        let entry = self.entry(grant).await?;
        let (inner, by) = (Arc::clone(&self.0), by.to_owned());
        to_the_end(async move { inner.issue(&entry, by).await }).await
    }

    /// Returns a grant in memory. One that is not never existed, or ended long ago: the error tells the two apart.
    async fn entry(&self, id: &GrantId) -> Result<Arc<GrantEntry>, LedgerError> {
        if let Some(entry) = self.0.entry(id) {
            return Ok(entry);
        }
        let view = self.grant(id).await?;
        Err(ChangeError::Ended(view.grant.standing(self.0.clock.now())).into())
    }
}

/// Change that gives rights, and that is stored.
struct GrantingChange {
    change: GrantChange,
    next: Grant,
    /// Time of the decision.
    at: Timestamp,
    /// Number of restrictions of the grant at that time.
    seen: u64,
}

impl LedgerInner {
    pub(super) fn entry(&self, id: &GrantId) -> Option<Arc<GrantEntry>> {
        self.grants.lock().get(id)
    }

    /// Returns the grants of an identity that have not ended.
    pub(super) fn live(&self, who: &IdentityName, now: Timestamp) -> Vec<Arc<GrantEntry>> {
        self.grants.lock().live_of(who, now)
    }

    fn living(&self, filter: &GrantFilter, before: Option<&Grant>, limit: usize) -> Vec<GrantView> {
        let now = self.clock.now();
        let entries = match &filter.identity {
            Some(who) => self.live(who, now),
            None => self.grants.lock().live(now).cloned().collect(),
        };
        let mut found: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.current(), entry))
            .filter(|(grant, _)| {
                !grant.status(now).ended()
                    && filter.target.as_ref().is_none_or(|target| grant.target() == target)
                    && before.is_none_or(|before| place(grant) < place(before))
            })
            .collect();
        if found.len() > limit {
            // Only the page that is shown is sorted.
            found.select_nth_unstable_by(limit, |(a, _), (b, _)| place(b).cmp(&place(a)));
            found.truncate(limit);
        }
        found.sort_by(|(a, _), (b, _)| place(b).cmp(&place(a)));
        found.iter().map(|(_, entry)| entry.view(now)).collect()
    }

    async fn create(self: &Arc<Self>, terms: Terms, by: &str) -> Result<(Grant, Secret<String>), LedgerError> {
        let _let_in = self.let_in(&terms.identity).await?;
        let now = self.clock.now();
        let grant = grant::create(self.fresh_id().await?, terms, by, now)?;
        let (secret, verifier) = fresh_secret().await?;
        let info = ChangeInfo::created(&grant);
        let (row, text) = (grant.clone(), verifier.to_string());
        let store = move |connection: &Connection| row::insert(connection, &row, &text);
        let undone = || vec![info.undone().event(&grant)];
        self.commit(&[info.event(&grant)], undone, store).await?;
        self.publish_new(grant.clone(), Some(verifier), now);
        self.end_if_shut_out(grant.identity())?;
        Ok((grant, secret))
    }

    /// Publishes a grant that is stored.
    pub(super) fn publish_new(&self, grant: Grant, verifier: Option<Verifier>, now: Timestamp) {
        let view = GrantView::of(&grant, now, 0);
        let entry = GrantEntry::new(grant, verifier, GrantLogins::default());
        self.grants.lock().add(Arc::new(entry), now);
        self.tell(|| ChangedSubject::Grant(Box::new(view)));
    }

    /// Reports whether all restrictions of the grant are stored and on record. Until then it is given nothing.
    pub(super) async fn is_settled(&self, entry: &GrantEntry) -> Result<(), LedgerError> {
        let id = entry.current().id().clone();
        let concerns = |subject: &ChangeSubject| matches!(subject, ChangeSubject::Grant(_, less) if *less.id() == id);
        self.pending.is_settled(concerns).await
    }

    /// Publishes a change that is stored, unless it comes too late. Sessions decide about their end by the same value and the
    /// same clock: a session whose time was up has ended, and one that lives gets the new end.
    fn publish(self: &Arc<Self>, entry: &Arc<GrantEntry>, given: GrantingChange, info: &ChangeInfo) -> Result<(), LedgerError> {
        let moment = self.clock.moment();
        let GrantingChange { change, next, at, seen } = given;
        let (mut late, mut behind) = (None, false);
        entry.state.send_if_modified(|grant| {
            let overtaken = entry.restrictions() != seen;
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
            behind = overtaken || next.is_err();
            if behind {
                let less = next.as_ref().map_or_else(|_| Grant::clone(grant), Grant::clone);
                let event = if next.is_ok() {
                    info.event(&less)
                } else {
                    info.undone().event(&less)
                };
                self.queue_pending(ChangeSubject::Grant(Arc::clone(entry), less), event, moment.instant);
            }
            let changed = next.is_ok();
            match next {
                Ok(next) => *grant = Arc::new(next),
                Err(error) => late = Some(error),
            }
            changed
        });
        if behind {
            self.pursue();
        }
        late.map_or(Ok(()), Err)
    }

    async fn issue(&self, entry: &Arc<GrantEntry>, by: String) -> Result<GrantLogin, LedgerError> {
        let (secret, verifier) = fresh_secret().await?;
        self.is_settled(entry).await?;
        let _turn = entry.turn.lock().await;
        let grant = entry.current();
        let now = self.clock.now();
        if grant.status(now).ended() {
            return Err(ChangeError::Ended(grant.standing(now)).into());
        }
        let user = entry.fresh_name()?;
        let dropped = entry.extra.logins.lock().next_out().map(str::to_owned);
        let info = ChangeInfo {
            change: GrantChangeKind::LoginIssued,
            by,
            reason: None,
        };
        self.recorder.record(&info.event(&grant)).await?;
        let (id, name, text) = (grant.id().clone(), user.clone(), verifier.to_string());
        let insert = move |connection: &mut Connection| row::insert_login(connection, &id, (&name, &text), dropped.as_deref());
        if let Err(error) = self.store.call(insert).await {
            self.recorder.take_back(&info.undone().event(&grant)).await;
            return Err(error.into());
        }
        entry.extra.logins.lock().add(user.clone(), verifier);
        Ok(GrantLogin { user, secret })
    }

    pub(super) async fn fresh_id(&self) -> Result<GrantId, LedgerError> {
        loop {
            let mut random = [0; 10];
            getrandom::fill(&mut random)?;
            let id = GrantId::from_random(random);
            let wanted = id.clone();
            let taken = self.store.call(move |connection| row::find(connection, &wanted)).await?;
            if taken.is_none() {
                return Ok(id);
            }
        }
    }
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

/// Returns the key that sorts grants by creation.
fn place(grant: &Grant) -> (Timestamp, &GrantId) {
    (grant.created_at(), grant.id())
}
