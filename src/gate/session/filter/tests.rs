use proptest::prelude::*;

use super::*;
use crate::gate::metrics::Metrics;
use crate::gate::sql_filter::FilterRules;
use crate::protocol::wire::frontend::Fields;

fn rails(rules: &FilterRules) -> Arc<SqlFilter> {
    Arc::new(SqlFilter::new(rules, "read-only".parse().unwrap()).unwrap())
}

const MAX_LOGGED: usize = 200_000;

/// A profile that reads; its texts have at most 40 bytes.
fn guard() -> SessionFilter {
    counted(&Metrics::default())
}

fn counted(metrics: &Metrics) -> SessionFilter {
    let rails = rails(&FilterRules {
        statements: Some(vec!["select".to_owned()]),
        max_sql_bytes: Some(40),
        refuse_unknown: true,
        ..FilterRules::default()
    });
    SessionFilter::new(rails, "orders".parse().unwrap(), metrics.clone(), MAX_LOGGED)
}

/// Passes a message through, cut at these places: what arrives, and the rule that refused it.
fn pass(guard: &mut SessionFilter, tag: u8, body: &[u8], cuts: Vec<usize>) -> (Vec<u8>, Option<&'static str>) {
    pass_under("on", guard, (tag, body), cuts)
}

fn pass_under(
    conforming: &str,
    guard: &mut SessionFilter,
    (tag, body): (u8, &[u8]),
    mut cuts: Vec<usize>,
) -> (Vec<u8>, Option<&'static str>) {
    let mut settings = TrackedSettings::new();
    settings.reported(b"client_encoding", b"UTF8");
    settings.reported(b"standard_conforming_strings", conforming.as_bytes());
    cuts = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    if cuts.len() == 1 {
        cuts.push(0);
    }
    let mut arrived = Vec::new();
    for cut in cuts.windows(2) {
        let mut bytes = body[cut[0]..cut[1]].to_vec();
        let piece = BodyPiece {
            tag,
            length: u32::try_from(body.len()).unwrap(),
            bytes: &bytes,
            first: cut[0] == 0,
            last: cut[1] == body.len(),
        };
        if let Some(instead) = guard.refuses(&piece, &settings) {
            instead.overwrite(&mut bytes);
        }
        arrived.append(&mut bytes);
    }
    (arrived, guard.refusal().map(|refused| refused.rule.name()))
}

/// Whether the server would do something of it: read so many strings off it (`pq_getmsgstring`), and the text be none without an
/// end.
fn does_something(body: &[u8], strings: usize) -> bool {
    let mut fields = Fields::of(body);
    let text = (0..strings).map(|_| fields.text()).last().flatten();
    text.is_some_and(|text| text.trim_ascii_start() != b"'")
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        text in proptest::sample::select(vec![
            "select 1", "", "drop table orders", "delete from orders where id = 1", "selec", "select 'a long text, but not as long as allowed'",
        ]),
        name in "[a-z]{0,9}",
        types in proptest::collection::vec(any::<u8>(), 0..3),
        prepared in any::<bool>(),
        cuts in proptest::collection::vec(0_usize..80, 0..6),
    ) {
        let (tag, strings, body) = if prepared {
            let mut body = format!("{name}\0{text}\0").into_bytes();
            body.extend_from_slice(&[0, u8::try_from(types.len()).unwrap()]);
            body.extend(types.iter().flat_map(|oid| [0, 0, 0, *oid]));
            (b'P', 2, body)
        } else {
            (b'Q', 1, format!("{text}\0").into_bytes())
        };
        let whole = pass(&mut guard(), tag, &body, Vec::new());
        let (arrived, rule) = pass(&mut guard(), tag, &body, cuts);
        prop_assert_eq!(rule, whole.1);
        prop_assert_eq!(arrived.len(), body.len());
        match rule {
            None => prop_assert_eq!(arrived, body),
            Some(_) => prop_assert!(!does_something(&arrived, strings), "{:?}", arrived),
        }
    }

    #[test]
    fn any_body_passes_or_does_nothing(
        tag in proptest::sample::select(b"QPF".to_vec()),
        body in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..60),
        cuts in proptest::collection::vec(0_usize..60, 0..4),
    ) {
        let (arrived, rule) = pass(&mut guard(), tag, &body, cuts);
        if rule.is_none() {
            prop_assert_eq!(arrived, body);
        } else if tag != b'F' {
            let strings = 1 + usize::from(tag == b'P');
            prop_assert!(!does_something(&arrived, strings));
        } else {
            prop_assert!(arrived.iter().all(|byte| *byte == BLANK_BYTE));
        }
    }
}

#[test]
fn a_text_is_held_no_longer_than_it_is_looked_at() {
    let mut guard = guard();
    pass(&mut guard, b'Q', b"select 1\0", vec![4]);
    assert_eq!(guard.text.capacity(), 0);
    pass(
        &mut guard,
        b'Q',
        format!("{}\0", "x".repeat(100_000)).as_bytes(),
        (0..100_000).step_by(1000).collect(),
    );
    assert_eq!(guard.text.capacity(), 0);
}

#[test]
fn refusals_are_counted_by_rule() {
    let metrics = Metrics::default();
    let mut guard = counted(&metrics);
    for (text, cuts) in [
        ("select 1", vec![]),
        ("drop table x", vec![3, 5]),
        ("drop table y", vec![]),
        ("selec", vec![]),
    ] {
        pass(&mut guard, b'Q', format!("{text}\0").as_bytes(), cuts);
    }
    for (rule, count) in [("statements", 2), ("unknown", 1)] {
        let line = format!("tidegate_rail_refusals_total{{target=\"orders\",profile=\"read-only\",rule=\"{rule}\"}} {count}\n");
        assert!(metrics.text().contains(&line), "{line} not in {}", metrics.text());
    }
}

/// Sessions may have one thread; what takes long must not stop them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn others_go_on_while_a_long_text_is_judged() {
    let (tell, told) = std::sync::mpsc::channel();
    let long = tokio::spawn(async move {
        // The only worker is here: the other task is behind it.
        let other = tokio::spawn(async move { tell.send(()) });
        let heard = aside(|| told.recv_timeout(std::time::Duration::from_secs(30)));
        other.await.unwrap().unwrap();
        heard
    });
    assert!(long.await.unwrap().is_ok(), "it waited");
}

#[test]
fn other_messages_are_not_looked_at() {
    for tag in *b"BEDCSHXdcf" {
        assert_eq!(
            pass(&mut guard(), tag, b"drop table x\0", vec![3]),
            (b"drop table x\0".to_vec(), None)
        );
    }
}

#[test]
fn a_text_is_judged_as_the_target_reads_it() {
    let rule = |conforming: &str, text: &str| {
        let body = format!("{text}\0");
        pass_under(conforming, &mut guard(), (b'Q', body.as_bytes()), Vec::new()).1
    };
    let text = r"select '\', '; delete from t; --'";
    assert_eq!(rule("on", text), None);
    assert_eq!(rule("off", text), Some("statements"));
    assert_eq!(rule("sometimes", text), Some("unknown"));
    assert_eq!(rule("sometimes", r"select '\d'"), None);
}

/// Rails that ask for no more than that all is on record, if for that.
fn recorder(refuse_unloggable: bool, max_logged: usize) -> SessionFilter {
    let rules = FilterRules {
        refuse_unloggable,
        ..FilterRules::default()
    };
    SessionFilter::new(rails(&rules), "orders".parse().unwrap(), Metrics::default(), max_logged)
}

#[test]
fn what_could_not_be_recorded_whole_is_refused() {
    let query = |length: usize| [&b"SELECT ".repeat(length / 7 + 1)[..length], b"\0"].concat();
    let rule = Some("refuse_unloggable");
    for (max, length, cuts, expected) in [
        (64_000, 64_000, vec![], None),
        (64_000, 64_001, vec![], rule),
        (64_000, 64_001, vec![9, 64_000, 64_001], rule),
        // Longer than what the rules look at.
        (64_000, 300_000, vec![100_000, 200_000], rule),
        (300_000, 300_000, vec![100_000, 200_000], None),
        (300_000, 300_001, vec![100_000, 200_000], rule),
        (300_000, 300_001, vec![100_000, 200_000, 300_001], rule),
    ] {
        let (arrived, refused) = pass(&mut recorder(true, max), b'Q', &query(length), cuts.clone());
        assert_eq!(refused, expected, "{length} of {max}");
        assert_eq!(does_something(&arrived, 1), expected.is_none());
        assert_eq!(pass(&mut recorder(false, max), b'Q', &query(length), cuts).1, None);
    }
    // Its secrets cannot be told from what is executed.
    let text = b"/* token */ SELECT '\\', '; DELETE FROM orders; --'\0";
    let mut guard = recorder(true, 64_000);
    assert_eq!(pass(&mut guard, b'Q', text, vec![]).1, None, "the setting is known");
    let unclear = b"DO $x$ password = 'y $x$\0";
    assert_eq!(pass(&mut guard, b'Q', unclear, vec![]).1, rule);
    assert_eq!(
        pass(&mut guard, b'P', &[b"name\0", &unclear[..], b"\0\0"].concat(), vec![3]).1,
        rule
    );
}
