//! Words of endings, against the situations they are read in.

use std::time::Duration;

use jiff::Timestamp;

use super::*;

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a name")
}

/// Everything a client of the wire can read, each in a situation of its own.
#[expect(clippy::too_many_lines, reason = "a list of endings")]
fn readable() -> Vec<Ending> {
    let grant = || name::<GrantId>("gr_4k2m9x0a7b");
    let request = || name::<RequestId>("rq_4k2m9x0a7b");
    let target = || name::<TargetName>("shop");
    let at = Timestamp::UNIX_EPOCH;
    let why = || "say why: give a reason".to_owned();
    vec![
        Ending::NoSuchTarget {
            asked: "shp".to_owned(),
            nearest: Some("shop".to_owned()),
            known: vec![target()],
        },
        Ending::NoSuchTarget {
            asked: "x".to_owned(),
            nearest: None,
            known: vec![target()],
        },
        Ending::NoSuchTarget {
            asked: "x".to_owned(),
            nearest: None,
            known: Vec::new(),
        },
        Ending::NoSuchProfile {
            target: target(),
            asked: "x".to_owned(),
            known: vec![name("read-only")],
        },
        Ending::TargetInUse {
            target: target(),
            place: LinePlace {
                place: 2,
                held_by: vec![crate::model::line::LineHolder {
                    grant: grant(),
                    identity: name("ben"),
                    profile: None,
                    until: Some(at),
                }],
            },
            waited: Duration::from_secs(61),
        },
        Ending::TargetInUse {
            target: target(),
            place: LinePlace {
                place: 1,
                held_by: Vec::new(),
            },
            waited: Duration::ZERO,
        },
        Ending::TemplateInUse {
            target: target(),
            template: "shop_golden".to_owned(),
            tried: Duration::from_secs(30),
        },
        Ending::CopyNotMade {
            target: target(),
            template: "shop_golden".to_owned(),
            fault: CopyFault::Other,
        },
        Ending::InvalidRequest { why: why() },
        Ending::AccessDenied {
            why: why(),
            policies: Vec::new(),
        },
        Ending::ApprovalPending {
            nobody: false,
            request: request(),
            approvers: Vec::new(),
            waited: Duration::ZERO,
        },
        Ending::RequestRejected {
            request: request(),
            by: name("lea"),
            comment: None,
        },
        Ending::RequestWithdrawn { request: request() },
        Ending::RequestLapsed {
            request: request(),
            until: at,
        },
        Ending::Lapsed {
            grant: grant(),
            activate_by: at,
        },
        Ending::LoginExpired {
            grant: grant(),
            until: at,
        },
        Ending::LoginRevoked { grant: grant(), at },
        Ending::PolicyRefused {
            grant: grant(),
            why: why(),
        },
        Ending::Expired {
            grant: grant(),
            until: at,
            requested: true,
        },
        Ending::Expired {
            grant: grant(),
            until: at,
            requested: false,
        },
        Ending::Released { grant: grant(), at },
        Ending::Revoked {
            grant: grant(),
            at,
            by: None,
            reason: None,
        },
    ]
}

fn all(words: &EndingText) -> String {
    [Some(words.message.as_str()), words.detail.as_deref(), words.hint.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn nothing_is_said_to_a_client_that_is_not_so_for_it() {
    for ending in readable() {
        let said = all(&ending.words().expect("words"));
        // Options of a command that this client is not.
        for option in ["--reason", "--for", "--ticket", "--sessions", "--break-glass"] {
            assert!(!said.contains(option), "{ending:?}: {said}");
        }
        // Databases of some other gate.
        assert!(!said.contains("orders"), "{ending:?}: {said}");
        // A grant that is over gets no more time.
        assert!(!said.contains("extend"), "{ending:?}: {said}");
        assert!(!said.contains("expired"), "{ending:?}: {said}");
    }
}

#[test]
fn a_gate_names_the_databases_it_has() {
    let hint = |ending: &Ending| ending.words().and_then(|words| words.hint);
    let found: Vec<_> = readable().iter().take(3).map(hint).collect();
    assert_eq!(
        found,
        [
            Some("did you mean dbname=shop?".to_owned()),
            Some("name one of them, like dbname=shop".to_owned()),
            None
        ]
    );
}

#[test]
fn what_was_given_back_is_called_so() {
    let ending = Ending::Released {
        grant: name("gr_4k2m9x0a7b"),
        at: Timestamp::UNIX_EPOCH,
    };
    let words = ending.words().expect("words");
    assert_eq!(
        words.message,
        "grant gr_4k2m9x0a7b was given back at 1970-01-01 00:00:00 UTC: the session is closed"
    );
    assert_eq!((words.code, ending.name()), ("57P01", "released"));
}
