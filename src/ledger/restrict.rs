//! Restrictions: changes that take rights away. They take effect in memory first and at once, and wait for nothing; store and
//! log follow ([`super::pending`]).
//!
//! This module does not check the rights of the caller, and gives no rights.
//!
//! INVARIANT: no function in here awaits before the change is in effect: no turn, no store, no log. A concurrent change that
//! gives rights notices the restriction (`restrictions`) and does not overwrite it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::timeout;

use super::commit::kind;
use super::effect::ChangeEffect;
use super::pending::{ANSWER_WAIT, ChangeSubject, PendingChange, SubjectKey};
use super::record::{ChangeInfo, RequestStepInfo, user_event};
use super::requests::RequestEntry;
use super::row::restrict::RestrictWrite;
use super::row::users::StoredUser;
use super::users::{DISABLED_BY, OPERATOR, UserView};
use super::{ChangedSubject, DecisionReasons, GrantEntry, GrantView, Ledger, LedgerError, LedgerInner, RequestView};
use crate::audit::event::{RequestChangeKind, UserChangeKind};
use crate::model::ending::IDENTITY_DISABLED;
use crate::model::grant::{self, ChangeError, GrantChange};
use crate::model::ids::RequestId;
use crate::model::names::{GroupName, IdentityName};
use crate::model::request::{Request, StepError};

impl Ledger {
    /// Settles a request without making it a grant. `change` is its step in the log.
    pub async fn settle<E>(
        &self,
        id: &RequestId,
        by: &IdentityName,
        change: RequestChangeKind,
        reasons: DecisionReasons,
        step: impl FnOnce(&Request, Timestamp) -> Result<Request, E> + Send,
    ) -> Result<RequestView, E>
    where
        E: From<LedgerError> + Send,
    {
        let entry = self.request_entry(id).await?;
        let by = by.clone();
        let item = self
            .0
            .restrict_request(&entry, &RequestStepInfo { change, by, reasons }, step)?;
        let effect = self.0.answer(&[item]).await;
        Ok(RequestView {
            effect: Some(effect),
            ..entry.view(self.0.clock.now())
        })
    }

    /// Disables an identity (a local one or an issuer's): its grants are revoked, so its sessions end at once, and its pending
    /// requests are rejected.
    pub async fn disable_user(&self, name: &IdentityName, by: &str) -> Result<UserView, LedgerError> {
        let inner = &self.0;
        let (view, mut items) = inner.disable(name, by);
        inner.users_changed.send_modify(|changes| *changes += 1);
        items.extend(inner.end_all_of(name, by, IDENTITY_DISABLED));
        Ok(UserView {
            effect: Some(inner.answer(&items).await),
            ..view
        })
    }

    /// Ends the grants and requests that an identity still has, and waits until that is stored and on record. Called before an
    /// identity is enabled again.
    pub(super) async fn end_what_is_left(&self, name: &IdentityName, by: &str) -> Result<(), LedgerError> {
        let items = self.0.end_all_of(name, by, IDENTITY_DISABLED);
        self.0.all_settled(&items).await
    }
}

impl LedgerInner {
    /// Restricts a grant. The returned item is in effect; [`LedgerInner::pursue`] stores and records it.
    pub(super) fn restrict_grant(
        &self,
        entry: &Arc<GrantEntry>,
        change: &GrantChange,
        info: &ChangeInfo,
    ) -> Result<Arc<PendingChange>, ChangeError> {
        let moment = self.clock.moment();
        let mut done = Err(ChangeError::Active);
        entry.grant.send_if_modified(|grant| {
            done = grant::apply(grant, change, moment.time).map(|next| {
                entry.restrictions.add();
                let event = info.event(&next);
                let item = PendingChange::about_grant(entry, next.clone(), event, moment.instant);
                self.queue_pending(Arc::clone(&item));
                *grant = Arc::new(next);
                item
            });
            done.is_ok()
        });
        let item = done?;
        self.tell(|| ChangedSubject::Grant(Box::new(entry.view(moment.time))));
        Ok(item)
    }

    /// Restricts a grant and returns the progress of the change.
    pub(super) async fn restrict(
        self: &Arc<Self>,
        entry: &Arc<GrantEntry>,
        change: &GrantChange,
        info: &ChangeInfo,
    ) -> Result<GrantView, ChangeError> {
        let item = self.restrict_grant(entry, change, info)?;
        let effect = self.answer(&[item]).await;
        Ok(GrantView {
            effect: Some(effect),
            ..entry.view(self.clock.now())
        })
    }

    /// Settles a request without making it a grant.
    fn restrict_request<E>(
        &self,
        entry: &Arc<RequestEntry>,
        step: &RequestStepInfo,
        settle: impl FnOnce(&Request, Timestamp) -> Result<Request, E>,
    ) -> Result<Arc<PendingChange>, E>
    where
        E: From<LedgerError>,
    {
        let moment = self.clock.moment();
        let mut done = None;
        entry.request.send_if_modified(|request| {
            let settled = settle(request, moment.time).map(|next| {
                entry.restrictions.add();
                let key = SubjectKey::Request(next.id.clone());
                let subject = ChangeSubject::Request(Arc::clone(entry));
                let item = PendingChange::keyed(
                    subject,
                    key,
                    RestrictWrite::Request(next.clone()),
                    step.event(&next),
                    moment.instant,
                );
                self.queue_pending(Arc::clone(&item));
                *request = Arc::new(next);
                item
            });
            let changed = settled.is_ok();
            done = Some(settled);
            changed
        });
        // The closure is always called.
        let settled = done.unwrap_or_else(|| Err(LedgerError::Unsettled.into()));
        if settled.is_ok() {
            self.tell(|| ChangedSubject::Request(entry.current()));
        }
        settled
    }

    /// Disables an identity, if it is not disabled already.
    fn disable(&self, name: &IdentityName, by: &str) -> (UserView, Vec<Arc<PendingChange>>) {
        let now = self.clock.now();
        let disable = |known: Option<StoredUser>| match known {
            Some(user) => StoredUser { disabled: true, ..user },
            None => StoredUser {
                name: name.clone(),
                groups: BTreeSet::new(),
                token_hash: None,
                disabled: true,
                created_at: now,
            },
        };
        let (user, item) = self.restrict_user(name, UserChangeKind::Disabled, by, disable);
        (UserView::of(&user), item.into_iter().collect())
    }

    /// Restricts a user. Returns no item if the user was restricted like that already and no concurrent change gives it more.
    pub(super) fn restrict_user(
        &self,
        name: &IdentityName,
        what: UserChangeKind,
        by: &str,
        less: impl FnOnce(Option<StoredUser>) -> StoredUser,
    ) -> (StoredUser, Option<Arc<PendingChange>>) {
        let mut users = self.users.lock();
        let known = users.get(name).cloned();
        let next = less(known.clone());
        users.restrict(name);
        if known.as_ref() == Some(&next) && !users.is_changing(name) {
            // The same restriction may have been made a moment ago and not be stored yet.
            return (next, self.pending.latest(&SubjectKey::User(name.clone())));
        }
        let event = user_event(name, next.groups.iter(), what, by);
        let key = SubjectKey::User(name.clone());
        let item = PendingChange::keyed(
            ChangeSubject::User,
            key,
            RestrictWrite::User(next.clone()),
            event,
            self.clock.moment().instant,
        );
        self.queue_pending(Arc::clone(&item));
        users.put(next.clone());
        (next, Some(item))
    }

    /// Takes groups away from a user at once; returns `None` if it loses none.
    pub(super) fn take_groups(&self, name: &IdentityName, groups: &BTreeSet<GroupName>, by: &str) -> Option<Arc<PendingChange>> {
        let known = self.users.lock().get(name).cloned()?;
        let kept: BTreeSet<GroupName> = known.groups.intersection(groups).cloned().collect();
        if kept == known.groups {
            return None;
        }
        let less = |now: Option<StoredUser>| StoredUser {
            groups: kept,
            ..now.unwrap_or(known)
        };
        self.restrict_user(name, UserChangeKind::Regrouped, by, less).1
    }

    /// Invalidates a user's token at once.
    pub(super) fn take_token(&self, name: &IdentityName, by: &str) -> Option<Arc<PendingChange>> {
        let known = self.users.lock().get(name).cloned()?;
        let less = |now: Option<StoredUser>| {
            let user = now.unwrap_or(known);
            StoredUser {
                token_hash: user.token_hash.as_ref().map(|_| no_token(name)),
                ..user
            }
        };
        self.restrict_user(name, UserChangeKind::TokenWithdrawn, by, less).1
    }

    /// Revokes all grants of an identity and rejects its pending requests.
    pub(super) fn end_all_of(self: &Arc<Self>, who: &IdentityName, by: &str, why: &str) -> Vec<Arc<PendingChange>> {
        let now = self.clock.now();
        let revoke = GrantChange::Revoke {
            by: by.to_owned(),
            reason: Some(why.to_owned()),
        };
        let info = ChangeInfo {
            change: kind(&revoke),
            by: by.to_owned(),
            reason: Some(why.to_owned()),
        };
        // A grant that has ended since then needs no revocation.
        let ended = self.live(who, now).into_iter();
        let mut items: Vec<_> = ended
            .filter_map(|entry| self.restrict_grant(&entry, &revoke, &info).ok())
            .collect();
        let operator = by.parse().or_else(|_| OPERATOR.parse::<IdentityName>());
        if let Ok(operator) = operator {
            let pending = self.requests.lock().pending_entries(who, now);
            items.extend(pending.iter().filter_map(|entry| self.reject(entry, &operator, why).ok()));
        }
        self.pursue();
        items
    }

    fn reject(&self, entry: &Arc<RequestEntry>, by: &IdentityName, why: &str) -> Result<Arc<PendingChange>, RejectError> {
        let step = RequestStepInfo {
            change: RequestChangeKind::Rejected,
            by: by.clone(),
            reasons: DecisionReasons::default(),
        };
        self.restrict_request(entry, &step, |request, now| {
            Ok(request.pending(now)?.reject(by.clone(), Some(why.to_owned()), now))
        })
    }

    /// Ends at once what was made for an identity that was disabled meanwhile.
    pub(super) fn end_if_shut_out(self: &Arc<Self>, who: &IdentityName) -> Result<(), LedgerError> {
        if !self.is_disabled(who) {
            return Ok(());
        }
        self.end_all_of(who, DISABLED_BY, IDENTITY_DISABLED);
        Err(LedgerError::Disabled(who.clone()))
    }

    /// Waits a little, and fails unless these changes and all earlier restrictions are stored and on record.
    pub(super) async fn all_settled(self: &Arc<Self>, items: &[Arc<PendingChange>]) -> Result<(), LedgerError> {
        if self.answer(items).await.is_done() && self.pending.is_all_settled().await {
            Ok(())
        } else {
            Err(LedgerError::Unsettled)
        }
    }

    /// Returns the combined progress of these changes; for none it is done. Waits up to [`ANSWER_WAIT`], to be able to report
    /// more than that they are in effect.
    pub(super) async fn answer(self: &Arc<Self>, items: &[Arc<PendingChange>]) -> ChangeEffect {
        self.pursue();
        let tried = async {
            for item in items {
                item.tried().await;
            }
        };
        // After that time, the answer is the progress so far.
        let _ = timeout(ANSWER_WAIT, tried).await;
        items
            .iter()
            .fold(ChangeEffect::DONE, |effect, item| effect.and(item.effect()))
    }
}

/// Error for a request that is settled and cannot be rejected; one that is not pending cannot be approved either.
#[derive(Debug)]
struct RejectError;

impl From<StepError> for RejectError {
    fn from(_: StepError) -> Self {
        Self
    }
}

impl From<LedgerError> for RejectError {
    fn from(_: LedgerError) -> Self {
        Self
    }
}

/// Returns the placeholder for the hash of a withdrawn token: it is equal to no hash, and different for each user.
pub(super) fn no_token(name: &IdentityName) -> String {
    format!("none:{name}")
}
