//! Restrictions: changes that take rights away. They take effect in memory first and at once, and wait for nothing; store and
//! log follow ([`super::pending`]).
//!
//! This module does not check the rights of the caller, and gives no rights.
//!
//! INVARIANT: no function in here awaits before the change is in effect: no turn, no store, no log. A concurrent change that
//! gives rights notices the restriction (`restrictions`) and does not overwrite it.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::timeout;

use super::cache::{Entry, GrantEntry, LedgerItem, RequestEntry, StoredUser};
use super::pending::{ANSWER_WAIT, ChangeSubject, PendingChange};
use super::record::{ChangeInfo, RequestStepInfo, user_event};
use super::users::{DISABLED_BY, OPERATOR};
use super::views::{ChangeEffect, ChangedSubject, DecisionReasons, RequestView, UserView};
use super::{Ledger, LedgerError, LedgerInner};
use crate::audit::event::{Event, RequestChangeKind, UserChangeKind};
use crate::model::ending::IDENTITY_DISABLED;
use crate::model::grant::{self, Grant, GrantChange};
use crate::model::ids::RequestId;
use crate::model::names::IdentityName;
use crate::model::request::Request;

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

    /// Disables an identity (a local one or an issuer's): its grants are revoked, so its sessions end at once, its sign-ins
    /// end, and its pending requests are rejected.
    pub async fn disable_user(&self, name: &IdentityName, by: &str) -> Result<UserView, LedgerError> {
        let inner = &self.0;
        let disable = |user| StoredUser { disabled: true, ..user };
        let (user, item) = inner.restrict_user(name, UserChangeKind::Disabled, by, disable);
        inner.users_changed.send_modify(|changes| *changes += 1);
        let mut items: Vec<_> = item.into_iter().collect();
        items.extend(inner.end_all_of(name, by, IDENTITY_DISABLED));
        Ok(UserView::of(&user, Some(inner.answer(&items).await)))
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
    ) -> Result<Arc<PendingChange>, LedgerError> {
        let less = |grant: &Grant, now| Ok::<_, LedgerError>(grant::apply(grant, change, now)?);
        let item = self.restrict(entry, less, |less| info.event(less), ChangeSubject::Grant)?;
        self.tell(|| ChangedSubject::Grant(Box::new(entry.view(self.clock.now()))));
        Ok(item)
    }

    /// Settles a request without making it a grant.
    fn restrict_request<E: From<LedgerError>>(
        &self,
        entry: &Arc<RequestEntry>,
        step: &RequestStepInfo,
        settle: impl FnOnce(&Request, Timestamp) -> Result<Request, E>,
    ) -> Result<Arc<PendingChange>, E> {
        let item = self.restrict(entry, settle, |settled| step.event(settled), ChangeSubject::Request)?;
        self.tell(|| ChangedSubject::Request(entry.current()));
        Ok(item)
    }

    /// Replaces an object by `less` and queues that change, as this `subject` and with this `event`.
    fn restrict<T: LedgerItem + Clone, E: From<LedgerError>>(
        &self,
        entry: &Arc<Entry<T>>,
        less: impl FnOnce(&T, Timestamp) -> Result<T, E>,
        event: impl FnOnce(&T) -> Event<'static>,
        subject: impl FnOnce(Arc<Entry<T>>, T) -> ChangeSubject,
    ) -> Result<Arc<PendingChange>, E> {
        let moment = self.clock.moment();
        // The closure is always called.
        let mut done = Err(LedgerError::Unsettled.into());
        entry.state.send_if_modified(|object| {
            done = less(object, moment.time).map(|next| {
                entry.add_restriction();
                let event = event(&next);
                let item = self.queue_pending(subject(Arc::clone(entry), next.clone()), event, moment.instant);
                *object = Arc::new(next);
                item
            });
            done.is_ok()
        });
        done
    }

    /// Restricts a user. Returns no item if the user was restricted like that already and no concurrent change gives it more.
    pub(super) fn restrict_user(
        &self,
        name: &IdentityName,
        what: UserChangeKind,
        by: &str,
        less: impl FnOnce(StoredUser) -> StoredUser,
    ) -> (StoredUser, Option<Arc<PendingChange>>) {
        let moment = self.clock.moment();
        let mut users = self.users.lock();
        let known = users.get(name).cloned();
        let next = less(
            known
                .clone()
                .unwrap_or_else(|| StoredUser::unknown(name.clone(), moment.time)),
        );
        users.restrict(name);
        if known.as_ref() == Some(&next) && !users.is_changing(name) {
            // The same restriction may have been made a moment ago and not be stored yet.
            let same = |subject: &ChangeSubject| matches!(subject, ChangeSubject::User(user) if user.name == *name);
            return (next, self.pending.latest(same));
        }
        let event = user_event(name, next.groups.iter(), what, by);
        let item = self.queue_pending(ChangeSubject::User(next.clone()), event, moment.instant);
        users.put(next.clone());
        (next, Some(item))
    }

    /// Revokes all grants of an identity, rejects its pending requests and ends its sign-ins.
    pub(super) fn end_all_of(self: &Arc<Self>, who: &IdentityName, by: &str, why: &str) -> Vec<Arc<PendingChange>> {
        let now = self.clock.now();
        let revoke = GrantChange::Revoke {
            by: by.to_owned(),
            reason: Some(why.to_owned()),
        };
        let info = ChangeInfo::of(&revoke, by, Some(why));
        // A grant that has ended since then needs no revocation.
        let ended = self.live(who, now).into_iter();
        let mut items: Vec<_> = ended
            .filter_map(|entry| self.restrict_grant(&entry, &revoke, &info).ok())
            .collect();
        items.extend(self.end_sign_ins_of(who, by, why));
        let operator = by.parse().or_else(|_| OPERATOR.parse::<IdentityName>());
        if let Ok(operator) = operator {
            let pending = self.requests.lock().live_of(who, now);
            items.extend(pending.iter().filter_map(|entry| self.reject(entry, &operator, why).ok()));
        }
        self.pursue();
        items
    }

    /// Rejects a request that is pending; one that is not cannot be approved either.
    fn reject(
        &self,
        entry: &Arc<RequestEntry>,
        by: &IdentityName,
        why: &str,
    ) -> Result<Arc<PendingChange>, Box<dyn std::error::Error>> {
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
        if !self.answer(items).await.is_done() {
            return Err(LedgerError::Unsettled);
        }
        self.pending.is_settled(|_| true).await
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
        items.iter().fold(ChangeEffect::DONE, |all, item| {
            let one = item.effect();
            ChangeEffect {
                in_effect: all.in_effect && one.in_effect,
                stored: all.stored && one.stored,
                recorded: all.recorded && one.recorded,
            }
        })
    }
}
