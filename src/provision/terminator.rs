//! The task that ends backends: takes all orders that wait, signals, asks until they are gone.
//!
//! It knows nothing of sessions and grants. The law it keeps: an order is answered within about [`LIMIT`], but the backend of
//! a session of this run is not forgotten before it is seen gone, whatever becomes of the connection meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::link::{Asked, Link, LinkError, Seen};
use super::order::{Late, Order, Pending, Sort};
use super::{Gone, GoneLater, LIMIT};
use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::names::TargetName;
use crate::upstream::Target;

pub(super) struct Work {
    /// Where to connect; a reload may change it.
    target: watch::Receiver<Arc<Target>>,
    clock: Clock,
    orders: mpsc::UnboundedReceiver<Order>,
    link: Option<Link>,
    /// Whether there is one, for whoever can do without.
    connected: watch::Sender<bool>,
    /// The connection could not be made when last tried; to say so once, and not each time.
    failing: bool,
    pending: Vec<Pending>,
    /// When the last order came.
    newest: Instant,
    /// Until the next question about those that have been told.
    pause: Duration,
    /// When that is.
    next_look: Instant,
    /// Answered as not confirmed at [`LIMIT`], and still not seen gone: told again every [`LATE`]. The oldest first.
    late: VecDeque<Late>,
    /// When they were last told, or tried to be.
    late_told: Option<Instant>,
}

/// More orders than this at one time are a crowd: to go costs a backend a millisecond of CPU and more, so what goes on beside the end
/// of hundreds waits for the processor ...
pub(super) const CROWD: usize = 16;
/// ... and is told together, when no more of them has come for so long: until then the gate has the processor to tell their clients ...
const GATHER_PAUSE: Duration = Duration::from_millis(2);
/// ... and after this at the latest.
const MAX_GATHER: Duration = Duration::from_millis(20);
/// The next question comes this long after one that saw some of them go ...
const PAUSE: Duration = Duration::from_millis(3);
/// ... or so many times as long as the question itself took, if that is more: with a thousand backends it is work, and takes the
/// processor from those that are to go ...
const PAUSE_PER_QUESTION: u32 = 4;
/// ... and after twice the time, up to this, while none goes.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How often one that did not go within [`LIMIT`] is told again.
const LATE: Duration = Duration::from_secs(5);
/// The most of them that are kept; they are more only if a target is away while thousands of its sessions end.
const MOST_LATE: usize = 4096;
/// With nothing to do: how often to see whether the connection is still there.
const IDLE: Duration = Duration::from_secs(1);
/// With nothing to do: how often to use it. Keeps it from being cut as idle, and finds a dead one before it is needed.
const PING: Duration = Duration::from_secs(15);

impl Work {
    pub(super) fn new(
        target: watch::Receiver<Arc<Target>>,
        clock: Clock,
        orders: mpsc::UnboundedReceiver<Order>,
        connected: watch::Sender<bool>,
    ) -> Self {
        let now = clock.moment().instant;
        Self {
            target,
            clock,
            orders,
            newest: now,
            next_look: now,
            link: None,
            connected,
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
            let wait = self.wait(self.now());
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
        self.newest = self.now();
        self.pending.push(Pending { order, told: None });
    }

    /// How long nothing is to be done, unless an order comes.
    fn wait(&self, now: Instant) -> Duration {
        if self.pending.is_empty() {
            IDLE
        } else if self.gathering(now) {
            GATHER_PAUSE
        } else {
            self.next_look.duration_since(now)
        }
    }

    /// Whether those who have not been told wait for more to come.
    fn gathering(&self, now: Instant) -> bool {
        let untold = || self.pending.iter().filter(|pending| pending.told.is_none());
        let waited_long = || untold().any(|pending| now.duration_since(pending.order.given) >= MAX_GATHER);
        now.duration_since(self.newest) < GATHER_PAUSE && untold().count() > CROWD && !waited_long()
    }

    /// The questions that are due: first those that tell somebody, for they are not to wait for an answer about others.
    fn due(&mut self, now: Instant) -> Vec<Asked> {
        let gathering = self.gathering(now);
        let is_due = |pending: &&mut Pending| pending.told.is_none() && (!gathering || pending.order.sort == Sort::Urgent);
        let new: Vec<_> = self
            .pending
            .iter_mut()
            .filter(is_due)
            .map(|pending| pending.asked(now))
            .collect();
        if !new.is_empty() || now < self.next_look {
            return new;
        }
        let told = self.pending.iter_mut().filter(|pending| pending.told.is_some());
        told.map(|pending| pending.asked(now)).collect()
    }

    /// Signals whoever has to be and sees who is gone.
    async fn round(&mut self) {
        let now = self.now();
        let mut asked = self.due(now);
        let late = self.late_due(now);
        if late {
            self.late_told = Some(now);
            asked.extend(self.late.iter().map(|late| late.asked(now)));
        }
        if asked.is_empty() {
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
            self.next_look = at + LONGEST_PAUSE;
            self.settle(at, |_| false);
            return;
        };
        self.tell_signalled();
        let seen: HashMap<i32, bool> = seen.iter().map(|seen| (seen.pid, seen.ours)).collect();
        if late {
            self.late_gone(&seen, at);
        }
        let before = self.pending.len();
        let asked: HashSet<i32> = asked.iter().map(|asked| asked.pid).collect();
        self.settle(at, |order| {
            let process = seen.get(&order.backend.pid);
            asked.contains(&order.backend.pid) && process.is_none_or(|ours| !ours && order.sort == Sort::Leftover)
        });
        let pause = if self.pending.len() < before { PAUSE } else { self.pause * 2 };
        let question = at.duration_since(now) * PAUSE_PER_QUESTION;
        self.pause = pause.max(question).min(LONGEST_PAUSE);
        self.next_look = at + self.pause;
    }

    /// Tells those who wait for the signal: an answer has come to all that was asked.
    fn tell_signalled(&mut self) {
        for pending in self.pending.iter_mut().filter(|pending| pending.told.is_some()) {
            if let Some(signalled) = pending.order.signalled.take() {
                // The receiver may have stopped waiting.
                let _ = signalled.send(());
            }
        }
    }

    /// Answers the orders whose backend is gone, and those that have waited for [`LIMIT`], and forgets them.
    fn settle(&mut self, at: Instant, gone: impl Fn(&Order) -> bool) {
        for pending in std::mem::take(&mut self.pending) {
            let confirmed = gone(&pending.order);
            if !confirmed && at.duration_since(pending.order.given) < LIMIT {
                self.pending.push(pending);
                continue;
            }
            let order = pending.order;
            let later = if confirmed {
                None
            } else {
                tracing::error!(pid = order.backend.pid, limit = ?LIMIT, "cannot confirm that a backend is gone; will keep terminating it");
                self.keep(&order)
            };
            // The receiver may have stopped waiting.
            let _ = order.reply.send(Gone { confirmed, at, later });
        }
    }

    /// Goes on with an order that has been answered.
    fn keep(&mut self, order: &Order) -> Option<GoneLater> {
        if order.sort == Sort::Leftover {
            return None;
        }
        if self.late.len() >= MOST_LATE
            && let Some(given_up) = self.late.pop_front()
        {
            tracing::error!(target_name = %self.name(), pid = given_up.backend.pid, "too many backends do not end; giving up on one until the next start");
        }
        let (gone, later) = oneshot::channel();
        self.late.push_back(Late {
            backend: order.backend.clone(),
            older: order.older,
            gone,
        });
        // It has just been tried.
        self.late_told.get_or_insert(order.given + LIMIT);
        Some(GoneLater(later))
    }

    /// Tells of those that are gone by now. A younger process of the id is enough here: it must not be signalled, and nothing is
    /// reported of it.
    fn late_gone(&mut self, seen: &HashMap<i32, bool>, at: Instant) {
        for late in std::mem::take(&mut self.late) {
            if seen.get(&late.backend.pid) == Some(&true) {
                self.late.push_back(late);
                continue;
            }
            tracing::warn!(pid = late.backend.pid, "a backend that outlived its limit is gone");
            // The receiver may have stopped waiting.
            let _ = late.gone.send(at);
        }
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
        self.connected.send_replace(serves);
        let target = Arc::clone(&self.target.borrow_and_update());
        match Link::open(&target).await {
            Ok(link) => {
                self.link = Some(link);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(target_name = %target.name, "the provisioning connection is open again");
                }
                self.connected.send_replace(true);
                true
            }
            Err(error) if serves => {
                tracing::warn!(
                    target_name = %target.name, error = %in_one_line(&error),
                    "cannot open a provisioning connection with the changed settings; still using the old one to end sessions"
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
        self.connected.send_replace(false);
        if !self.failing {
            tracing::warn!(target_name = %self.name(), error = %in_one_line(error), "cannot open the provisioning connection; sessions end only by closing their own connections");
        }
        self.failing = true;
    }

    fn now(&self) -> Instant {
        self.clock.moment().instant
    }
}
