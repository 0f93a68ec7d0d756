//! The task that ends backends: takes all orders that wait, signals, asks until they are gone.
//!
//! It knows nothing of sessions and grants. The law it keeps: an order is answered within about [`LIMIT`], but the backend of
//! a session of this run is not forgotten before it is seen gone, whatever becomes of the connection meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::link::{Asked, Link, LinkError, Seen};
use super::{Backend, Gone, LIMIT};
use crate::clock::Clock;
use crate::names::TargetName;
use crate::upstream::Target;

/// An order to end one backend.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) backend: Backend,
    /// The session's age at `backend.opened`.
    pub(super) older: Duration,
    /// Of a former run. A process of that id that is too young to be the session's then says that the session's is gone; else
    /// it says nothing that an answer can rely on (the server's clock may have been set back). And whoever asks for leftovers
    /// asks again, so they are not kept beyond [`LIMIT`].
    pub(super) leftover: bool,
    /// Somebody waits for what the backend says when it goes: it goes before the others.
    pub(super) awaited: bool,
    pub(super) given: Instant,
    pub(super) reply: oneshot::Sender<Gone>,
}

pub(super) struct Work {
    /// Where to connect; a reload may change it.
    target: watch::Receiver<Arc<Target>>,
    clock: Clock,
    orders: mpsc::UnboundedReceiver<Order>,
    link: Option<Link>,
    /// The connection could not be made when last tried; to say so once, and not each time.
    failing: bool,
    pending: Vec<Pending>,
    /// Until the next question.
    pause: Duration,
    /// Answered as not confirmed at [`LIMIT`], and still not seen gone: told again every [`LATE`]. The oldest first.
    late: VecDeque<Late>,
    /// When they were last told, or tried to be.
    late_told: Option<Instant>,
}

struct Pending {
    order: Order,
    /// When it was last signalled, if it was.
    told: Option<Instant>,
}

/// A backend whose order has been answered.
struct Late {
    backend: Backend,
    older: Duration,
}

/// Backends that are on their way out at one time. To go costs a backend a millisecond of CPU and more: hundreds told at once
/// would take it from each other and from everybody else, the gate that has their clients to tell among them, and the last
/// would be gone no sooner.
const WAVE: usize = 64;
/// More orders than this at one time are a crowd ...
const CROWD: usize = 16;
/// ... and a crowd is signalled this much later: by then the gate has told their clients.
const GATHER: Duration = Duration::from_millis(20);
/// The next question comes this long after one that saw some of them go ...
const PAUSE: Duration = Duration::from_millis(3);
/// ... and after twice the time, up to this, while none goes.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A backend that does not go is signalled again; the first signal may have come while it was starting something.
const AGAIN: Duration = Duration::from_secs(1);
/// How often one that did not go within [`LIMIT`] is told again.
const LATE: Duration = Duration::from_secs(5);
/// The most of them that are kept; they are more only if a target is away while thousands of its sessions end.
const MOST_LATE: usize = 4096;
/// With nothing to do: how often to see whether the connection is still there.
const IDLE: Duration = Duration::from_secs(1);
/// With nothing to do: how often to use it. Keeps it from being cut as idle, and finds a dead one before it is needed.
const PING: Duration = Duration::from_secs(15);

impl Work {
    pub(super) fn new(target: watch::Receiver<Arc<Target>>, clock: Clock, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        Self {
            target,
            clock,
            orders,
            link: None,
            failing: false,
            pending: Vec::new(),
            pause: PAUSE,
            late: VecDeque::new(),
            late_told: None,
        }
    }

    /// Runs until nobody can give orders any more and all given ones are settled.
    pub(super) async fn run(mut self) {
        let mut used = self.now();
        self.keep_link().await;
        let mut open = true;
        while open || !self.pending.is_empty() || !self.late.is_empty() {
            let wait = if self.pending.is_empty() { IDLE } else { self.pause };
            tokio::select! {
                biased;
                order = self.orders.recv(), if open => match order {
                    Some(order) => self.accept(order),
                    None => open = false,
                },
                () = tokio::time::sleep(wait) => {}
            }
            while let Ok(order) = self.orders.try_recv() {
                self.accept(order);
            }
            if !self.pending.is_empty() || self.late_due(self.now()) {
                self.round().await;
                used = self.now();
            } else if self.keep_link().await && self.now().duration_since(used) >= PING {
                self.ask(&[]).await;
                used = self.now();
            }
        }
    }

    fn accept(&mut self, order: Order) {
        self.pause = PAUSE;
        self.pending.push(Pending { order, told: None });
    }

    /// Signals whoever has to be and sees who is gone.
    async fn round(&mut self) {
        let now = self.now();
        let mut asked = self.next_signals(now);
        let late = self.late_due(now);
        if late {
            self.late_told = Some(now);
            asked.extend(self.late.iter().map(|late| late.asked(now)));
        }
        if asked.is_empty() {
            self.pause = PAUSE;
            return;
        }
        let seen = if self.keep_link().await {
            self.ask(&asked).await
        } else {
            None
        };
        let at = self.now();
        let Some(seen) = seen else {
            // Whether the signals arrived is not known: give them again.
            self.pending.iter_mut().for_each(|pending| pending.told = None);
            self.settle(|order| (at.duration_since(order.given) >= LIMIT).then_some(Gone { confirmed: false, at }));
            return;
        };
        if late {
            self.late.retain(|late| !late.is_gone(&seen));
        }
        let before = self.pending.len();
        let was_asked = |pid| asked.iter().any(|asked| asked.pid == pid);
        self.settle(|order| {
            let process = seen.iter().find(|seen| seen.pid == order.backend.pid);
            let confirmed = was_asked(order.backend.pid) && process.is_none_or(|process| !process.ours && order.leftover);
            let given_up = at.duration_since(order.given) >= LIMIT;
            (confirmed || given_up).then_some(Gone { confirmed, at })
        });
        let some_went = self.pending.len() < before;
        self.pause = if some_went {
            PAUSE
        } else {
            (self.pause * 2).min(LONGEST_PAUSE)
        };
    }

    /// Whom to end now, and whom only to look for; whoever is not yet to go is not asked about.
    fn next_signals(&mut self, now: Instant) -> Vec<Asked> {
        let recently = |pending: &Pending| pending.told.is_some_and(|at| now.duration_since(at) < AGAIN);
        let going = self.pending.iter().filter(|pending| recently(pending)).count();
        let mut places = WAVE.saturating_sub(going);
        let crowd = self.pending.iter().filter(|pending| pending.told.is_none()).count() > CROWD;
        // Stable: among equals, who came first.
        self.pending.sort_by_key(|pending| !pending.order.awaited);
        let ask = |pending: &mut Pending| {
            let end = !recently(pending);
            if pending.told.is_none() {
                if crowd && !pending.order.awaited && now.duration_since(pending.order.given) < GATHER {
                    return None;
                }
                // One that does not go in time keeps nobody from being told.
                places = places.checked_sub(1)?;
            }
            if end {
                pending.told = Some(now);
            }
            let age = pending.order.older + now.duration_since(pending.order.backend.opened);
            Some(Asked {
                pid: pending.order.backend.pid,
                age,
                end,
                role: pending.order.backend.role.clone(),
            })
        };
        self.pending.iter_mut().filter_map(ask).collect()
    }

    /// Answers the orders on which `verdict` is final, and forgets them.
    fn settle(&mut self, verdict: impl Fn(&Order) -> Option<Gone>) {
        for pending in std::mem::take(&mut self.pending) {
            match verdict(&pending.order) {
                None => self.pending.push(pending),
                Some(gone) => {
                    if !gone.confirmed {
                        tracing::error!(pid = pending.order.backend.pid, limit = ?LIMIT, "a backend is not confirmed gone");
                        self.keep(&pending.order);
                    }
                    // Whoever asked may have stopped waiting.
                    let _ = pending.order.reply.send(gone);
                }
            }
        }
    }

    /// Goes on with an order that has been answered.
    fn keep(&mut self, order: &Order) {
        if order.leftover {
            return;
        }
        if self.late.len() >= MOST_LATE
            && let Some(given_up) = self.late.pop_front()
        {
            tracing::error!(target_name = %self.name(), pid = given_up.backend.pid, "too many backends that do not go: this one is given up until the next start");
        }
        self.late.push_back(Late {
            backend: order.backend.clone(),
            older: order.older,
        });
        // It has just been tried.
        self.late_told.get_or_insert(order.given + LIMIT);
    }

    fn late_due(&self, now: Instant) -> bool {
        !self.late.is_empty() && self.late_told.is_none_or(|at| now.duration_since(at) >= LATE)
    }

    /// Asks over the link; one that fails is dropped.
    async fn ask(&mut self, asked: &[Asked]) -> Option<Vec<Seen>> {
        let answer = self.link.as_ref()?.ask(asked).await;
        answer.map_err(|error| self.lost(&error)).ok()
    }

    /// Whether there is a link, made anew if need be: where it broke, and where the target's settings changed. One that serves is
    /// kept until the next stands.
    async fn keep_link(&mut self) -> bool {
        let changed = self.target.has_changed().unwrap_or(false);
        let serves = self.link.as_ref().is_some_and(|link| !link.closed());
        if serves && !changed {
            return true;
        }
        let target = Arc::clone(&self.target.borrow_and_update());
        match Link::open(&target).await {
            Ok(link) => {
                self.link = Some(link);
                self.failing = false;
                true
            }
            Err(error) if serves => {
                tracing::warn!(
                    target_name = %target.name, %error,
                    "no provisioning connection with the changed settings: sessions are still ended over the one that is open"
                );
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    fn name(&self) -> TargetName {
        self.target.borrow().name.clone()
    }

    fn lost(&mut self, error: &LinkError) {
        self.link = None;
        if !self.failing {
            tracing::warn!(target_name = %self.name(), %error, "no provisioning connection: sessions are ended by closing their own connections only");
        }
        self.failing = true;
    }

    fn now(&self) -> Instant {
        self.clock.moment().instant
    }
}

impl Late {
    fn asked(&self, now: Instant) -> Asked {
        Asked {
            pid: self.backend.pid,
            age: self.older + now.duration_since(self.backend.opened),
            end: true,
            role: self.backend.role.clone(),
        }
    }

    /// Whether it is not there any more. A younger process of its id is enough here: it must not be signalled, and nothing is
    /// reported of it.
    fn is_gone(&self, seen: &[Seen]) -> bool {
        let gone = !seen.iter().any(|seen| seen.pid == self.backend.pid && seen.ours);
        if gone {
            tracing::warn!(
                pid = self.backend.pid,
                "a backend that was not confirmed gone in time is gone now"
            );
        }
        gone
    }
}
