//! The schema of the log, by example: `audit/snapshots/records.jsonl` has a record of each kind with every field it can have.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::{
    CopyChangeKind, GrantChangeKind, LineChangeKind, RefusalKind, RequestChangeKind, RoleChangeKind, SignInChangeKind,
    TlsVersion, UserChangeKind, not_stored_reason,
};
use crate::audit::{EventName, LogRecord, render};
use crate::model::ending::{EndingKind, FateKind};
use crate::model::line::UseMode;
use crate::model::names::{EnumOrUnknown, Vocabulary};
use crate::model::sign_in::SignInVia;

const EXAMPLES: &str = include_str!("../snapshots/records.jsonl");

#[test]
fn every_kind_of_record_is_written_as_the_examples_say() {
    for line in EXAMPLES.lines() {
        let record = LogRecord::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert_eq!(record.json(), line);
    }
    let shown: BTreeSet<&str> = EXAMPLES
        .lines()
        .map(|line| LogRecord::parse(line.as_bytes()).unwrap().event.name().as_str())
        .collect();
    let all: BTreeSet<&str> = EventName::ALL.iter().map(|name| name.as_str()).collect();
    assert_eq!(shown, all);
}

/// A field that an example lacks would be written by no test.
#[test]
fn the_examples_have_every_field() {
    let source = [
        include_str!("../event.rs"),
        include_str!("at_target.rs"),
        include_str!("rows.rs"),
        include_str!("sign_in.rs"),
        include_str!("statement.rs"),
        include_str!("../checkpoint.rs"),
    ]
    .concat();
    let fields = source
        .lines()
        .filter_map(|line| line.strip_prefix("    pub ")?.split_once(": ").map(|(name, _)| name))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && *name != "who");
    let missing: Vec<&str> = fields.filter(|name| !EXAMPLES.contains(&format!("\"{name}\":"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Names of a vocabulary, each of which is read back as the member that it was written for.
fn names<T: Vocabulary + std::fmt::Debug>(all: &[T]) -> String {
    let names = all.iter().map(|member| {
        let json = serde_json::to_string(&EnumOrUnknown::from(*member)).unwrap();
        let read: EnumOrUnknown<T> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, *member);
        json.trim_matches('"').to_owned()
    });
    names.collect::<Vec<_>>().join(" ")
}

/// Logs of earlier versions have these names: none may change.
#[test]
fn the_names_are_those_on_disk() {
    assert_eq!(
        names(GrantChangeKind::ALL),
        "created activated postponed extended shortened revoked login_issued not_stored"
    );
    assert_eq!(
        names(RequestChangeKind::ALL),
        "denied submitted granted approved rejected withdrawn reviewed not_stored"
    );
    assert_eq!(
        names(RoleChangeKind::ALL),
        "made not_made extended retired left intruder_ended undone"
    );
    assert_eq!(names(CopyChangeKind::ALL), "made ready not_made dropped");
    assert_eq!(names(LineChangeKind::ALL), "waits took left");
    assert_eq!(names(UseMode::ALL), "apart shared write all");
    assert_eq!(
        names(UserChangeKind::ALL),
        "added token_withdrawn rotated regrouped disabled enabled not_stored"
    );
    assert_eq!(names(SignInChangeKind::ALL), "signed_in signed_out ended not_stored");
    assert_eq!(names(SignInVia::ALL), "console cli");
    assert_eq!(names(TlsVersion::ALL), "none TLSv1.2 TLSv1.3");
    assert_eq!(names(FateKind::ALL), "none rolled_back committed unknown");
    let endings = "quit disconnected malformed protocol_unsupported tls_required no_user parameter_refused options_unreadable \
                   replication_refused handshake_timeout bad_secret bad_token token_in_clear binding_failed wrong_database \
                   wrong_profile address_refused lapsed login_expired login_revoked policy_refused identity_disabled \
                   unknown_option invalid_option no_such_target no_such_profile invalid_request access_denied \
                   approval_pending request_rejected request_withdrawn request_lapsed too_many_connections \
                   too_many_unfinished_logins too_many_unfinished_logins_of_address too_many_sessions_of_target \
                   too_many_sessions_of_grant too_many_waiting_logins too_many_waiting_logins_of_identity too_many_requests \
                   too_many_grants_in_line too_many_grants_in_line_of_identity too_many_copies_of_target target_in_use \
                   target_unreachable target_refused leftovers_pending target_missing target_locked target_full \
                   target_not_ready role_not_made template_in_use copy_not_made ledger_failed clock_doubted draining expired revoked released killed idle \
                   drained audit_failed target_closed target_lost gate_fault gate_died";
    assert_eq!(names(EndingKind::ALL), endings);
    let refusals = EndingKind::ALL.iter().copied().map(RefusalKind::Ending);
    let refusals = refusals.chain([RefusalKind::IdentityRefused, RefusalKind::CancelRequested]);
    let expected = format!("{endings} identity_refused cancel_requested");
    assert_eq!(names(&refusals.collect::<Vec<_>>()), expected);
}

#[test]
fn a_name_of_a_later_version_is_read_shown_and_written_as_it_is() {
    for (event, field, name) in [
        ("refused", "ending", "expired"),
        ("refusals_counted", "ending", "bad_secret"),
        ("grant_changed", "change", "created"),
        ("request_changed", "change", "approved"),
        ("role_changed", "change", "left"),
        ("user_changed", "change", "added"),
        ("sign_in_changed", "change", "signed_in"),
        ("sign_in_changed", "via", "console"),
        ("session_started", "tls", "TLSv1.3"),
        ("session_ended", "ending", "expired"),
        ("session_ended", "fate", "rolled_back"),
    ] {
        let named = format!("\"event\":\"{event}\"");
        let line = EXAMPLES.lines().find(|line| line.contains(&named)).unwrap();
        let later = line.replacen(&format!("\"{field}\":\"{name}\""), &format!("\"{field}\":\"from_2031\""), 1);
        assert_ne!(later, line);
        let record = LogRecord::parse(later.as_bytes()).unwrap();
        assert_eq!(record.json(), later);
        let shown = render::columns(&record, &TimeZone::UTC).text;
        assert!(shown.contains("from_2031"), "{event}: {shown}");
    }
}

#[test]
fn a_change_that_is_taken_back_is_found_in_the_reason() {
    for change in GrantChangeKind::ALL {
        assert_eq!(GrantChangeKind::taken_back(&not_stored_reason(change)), Some(*change));
    }
    assert_eq!(GrantChangeKind::taken_back("revoked by mistake"), None);
}
