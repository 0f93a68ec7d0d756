use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::grant::{self, GrantChange, Terms};

const LIMITS: LineLimits = LineLimits { grants: 4, of_one: 2 };

/// A line, its time and its grants.
struct Bench {
    queue: GrantQueue,
    now: Moment,
    grants: Vec<watch::Sender<Arc<Grant>>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            queue: GrantQueue::default(),
            now: Moment {
                instant: Instant::now(),
                time: Timestamp::from_second(1_800_000_000).unwrap(),
            },
            grants: Vec::new(),
        }
    }

    /// A grant of an identity.
    fn grant(&mut self, identity: &str) -> usize {
        let number = u8::try_from(self.grants.len()).unwrap();
        let terms = Terms {
            identity: identity.parse().unwrap(),
            target: "shop".parse().unwrap(),
            reason: None,
            window: Duration::from_mins(30),
            activate_within: Duration::from_hours(1),
            deadline: None,
            max_sessions: 2,
            client_network: None,
            profile: None,
            request: None,
        };
        let made = grant::create(GrantId::from_random([number; 10]), terms, "olga", self.now.time).unwrap();
        self.grants.push(watch::Sender::new(Arc::new(made)));
        self.grants.len() - 1
    }

    fn id(&self, grant: usize) -> GrantId {
        self.grants[grant].borrow().id().clone()
    }

    fn enter(&mut self, grant: usize, mode: UseMode) -> Result<(), LineFull> {
        let grant = self.grants[grant].subscribe();
        self.queue.enter(&grant, mode, LIMITS, self.now)
    }

    fn look(&mut self, grant: usize) -> LineStep {
        let id = self.id(grant);
        self.queue.look(&id, self.now)
    }

    /// Comes and looks: true if it passes.
    fn comes(&mut self, grant: usize, mode: UseMode) -> bool {
        self.enter(grant, mode).unwrap();
        self.passes(grant)
    }

    fn passes(&mut self, grant: usize) -> bool {
        matches!(self.look(grant), LineStep::Took { .. } | LineStep::Uses)
    }

    fn place(&mut self, grant: usize) -> u32 {
        match self.look(grant) {
            LineStep::Waits { place, .. } => place.place,
            other => panic!("{other:?}"),
        }
    }

    fn begins(&mut self, grant: usize) {
        let id = self.id(grant);
        self.queue.begin_session(&id);
    }

    fn leaves(&mut self, grant: usize, kind: ClientKind, kept: Duration) -> bool {
        let id = self.id(grant);
        self.queue.leave(&id, kind, self.now.instant + kept, self.now).is_some()
    }

    fn later(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.time += by;
    }

    fn ends(&mut self, grant: usize) {
        let revoke = GrantChange::Revoke {
            by: "olga".to_owned(),
            reason: None,
        };
        let ended = grant::apply(&self.grants[grant].borrow(), &revoke, self.now.time).unwrap();
        self.grants[grant].send_replace(Arc::new(ended));
    }
}

#[test]
fn one_writes_and_the_others_come_in_their_order() {
    let mut bench = Bench::new();
    let [first, second, third, reader] = ["ana", "ben", "cleo", "dan"].map(|name| bench.grant(name));
    assert!(bench.comes(first, UseMode::Write));
    bench.begins(first);
    assert!(!bench.comes(second, UseMode::Write) && !bench.comes(third, UseMode::Write));
    assert!(bench.comes(reader, UseMode::Shared), "readers go on");
    assert_eq!((bench.place(second), bench.place(third)), (1, 2));
    let LineStep::Waits { place, first: told } = bench.look(third) else {
        panic!("it waits");
    };
    assert!(!told);
    let held: Vec<_> = place.held_by.iter().map(|holder| holder.identity.as_str()).collect();
    assert_eq!(held, ["ana"]);
    bench.leaves(first, ClientKind::Session, Duration::ZERO);
    assert!(!bench.passes(third) && bench.passes(second) && !bench.passes(third));
    bench.leaves(second, ClientKind::Waiter, Duration::ZERO);
    let LineStep::Took { behind, .. } = bench.look(third) else {
        panic!("its turn");
    };
    assert_eq!(behind.unwrap().1.as_str(), "ana", "the one it waited for first");
}

#[test]
fn who_wants_it_alone_waits_for_all_and_lets_nobody_by() {
    let mut bench = Bench::new();
    let [reader, alone, late] = ["ana", "ben", "cleo"].map(|name| bench.grant(name));
    assert!(bench.comes(reader, UseMode::Shared));
    bench.begins(reader);
    assert!(!bench.comes(alone, UseMode::All));
    assert!(!bench.comes(late, UseMode::Shared), "first come, first served");
    // Two connections of one grant do not wait for each other.
    assert!(bench.comes(reader, UseMode::Shared));
    bench.leaves(reader, ClientKind::Waiter, Duration::from_secs(30));
    bench.leaves(reader, ClientKind::Session, Duration::from_secs(30));
    assert!(bench.passes(alone), "the use of a reader is not kept");
    assert!(!bench.passes(late));
    let other = bench.grant("dan");
    assert!(bench.comes(other, UseMode::Apart), "a copy is another database");
}

#[test]
fn a_use_is_kept_for_a_while_and_no_longer_than_the_grant() {
    let mut bench = Bench::new();
    let [first, second] = ["ana", "ben"].map(|name| bench.grant(name));
    assert!(bench.comes(first, UseMode::Write));
    bench.begins(first);
    assert!(!bench.comes(second, UseMode::Write));
    bench.leaves(first, ClientKind::Session, Duration::from_secs(30));
    bench.later(Duration::from_secs(29));
    assert!(!bench.passes(second));
    assert!(bench.comes(first, UseMode::Write), "it is back in time");
    bench.leaves(first, ClientKind::Waiter, Duration::from_secs(30));
    bench.later(Duration::from_secs(30));
    assert!(bench.passes(second));
    assert!(!bench.comes(first, UseMode::Write), "it comes again, behind the other");
    bench.leaves(second, ClientKind::Waiter, Duration::from_secs(30));
    bench.ends(second);
    assert!(bench.passes(first), "the end of a grant frees it at once");
}

#[test]
fn sessions_count_until_they_are_gone_whatever_their_grant() {
    let mut bench = Bench::new();
    let [first, second] = ["ana", "ben"].map(|name| bench.grant(name));
    assert!(bench.comes(first, UseMode::All));
    bench.begins(first);
    assert!(!bench.comes(second, UseMode::Shared));
    bench.ends(first);
    assert!(!bench.passes(second));
    bench.leaves(first, ClientKind::Session, Duration::from_secs(30));
    assert!(bench.passes(second));
}

#[test]
fn who_leaves_the_line_or_ends_is_not_waited_for() {
    let mut bench = Bench::new();
    let [first, second, third, fourth] = ["ana", "ben", "cleo", "dan"].map(|name| bench.grant(name));
    assert!(bench.comes(first, UseMode::Write));
    for grant in [second, third, fourth] {
        assert!(!bench.comes(grant, UseMode::Write));
    }
    assert!(bench.leaves(second, ClientKind::Waiter, Duration::ZERO));
    assert!(
        !bench.leaves(third, ClientKind::Waiter, Duration::from_secs(10)),
        "a call that comes again"
    );
    assert_eq!(bench.place(fourth), 2);
    bench.later(Duration::from_secs(10));
    assert_eq!(bench.place(fourth), 1);
    bench.ends(fourth);
    assert_eq!(bench.look(fourth), LineStep::Gone);
    assert!(!bench.leaves(fourth, ClientKind::Waiter, Duration::ZERO));
    bench.ends(first);
    bench.leaves(first, ClientKind::Waiter, Duration::ZERO);
    assert!(bench.queue.is_empty());
}

#[test]
fn a_line_is_bounded_for_one_and_in_all() {
    let mut bench = Bench::new();
    let holder = bench.grant("olga");
    assert!(bench.comes(holder, UseMode::Write));
    let [one, two, three] = ["ana"; 3].map(|name| bench.grant(name));
    assert!(!bench.comes(one, UseMode::Write) && !bench.comes(two, UseMode::Write));
    assert_eq!(bench.enter(three, UseMode::Write), Err(LineFull::OfOne));
    assert!(!bench.comes(one, UseMode::Write), "a second client of one in line");
    let [four, five, six] = ["ben", "cleo", "dan"].map(|name| bench.grant(name));
    assert!(!bench.comes(four, UseMode::Write) && !bench.comes(five, UseMode::Write));
    assert_eq!(bench.enter(six, UseMode::Write), Err(LineFull::InAll));
    assert!(bench.comes(six, UseMode::Shared), "who need not wait passes");
    let (count, _) = bench.queue.waiting(bench.now);
    assert_eq!(count, 4);
}

proptest! {
    /// Whatever comes, leaves, waits and ends: those who use the target never exclude each other, and nobody is forgotten.
    #[test]
    fn no_two_that_exclude_each_other(steps in proptest::collection::vec((0_usize..6, 0_u8..6, 0_u8..3), 1..120)) {
        let mut bench = Bench::new();
        let modes = [UseMode::Write, UseMode::Write, UseMode::All, UseMode::Shared, UseMode::Shared, UseMode::Apart];
        let grants: Vec<usize> = (0..6).map(|number| bench.grant(&format!("g{number}"))).collect();
        let mut held = [[0_u32; 2]; 6];
        for (at, step, seconds) in steps {
            let grant = grants[at];
            match step {
                0 if bench.enter(grant, modes[at]).is_ok() => held[at][0] += 1,
                1 if held[at][0] > 0 && bench.passes(grant) => {
                    bench.begins(grant);
                    held[at][0] -= 1;
                    held[at][1] += 1;
                }
                2 if held[at][0] > 0 => {
                    bench.leaves(grant, ClientKind::Waiter, Duration::from_secs(seconds.into()));
                    held[at][0] -= 1;
                }
                3 if held[at][1] > 0 => {
                    bench.leaves(grant, ClientKind::Session, Duration::from_secs(seconds.into()));
                    held[at][1] -= 1;
                }
                4 => bench.later(Duration::from_secs(seconds.into())),
                _ => drop(bench.look(grant)),
            }
            let with_sessions: Vec<UseMode> = (0..6).filter(|at| held[*at][1] > 0).map(|at| modes[at]).collect();
            for (one, mode) in with_sessions.iter().enumerate() {
                prop_assert!(with_sessions.iter().skip(one + 1).all(|other| !mode.excludes(*other)), "{with_sessions:?}");
            }
        }
        for at in 0..6 {
            for _ in 0..held[at][0] {
                bench.leaves(grants[at], ClientKind::Waiter, Duration::ZERO);
            }
            for _ in 0..held[at][1] {
                bench.leaves(grants[at], ClientKind::Session, Duration::ZERO);
            }
        }
        bench.later(Duration::from_secs(10));
        bench.queue.look(&bench.grants[0].borrow().id().clone(), bench.now);
        prop_assert!(bench.queue.is_empty());
    }
}
