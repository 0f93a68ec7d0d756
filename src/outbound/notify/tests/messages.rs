//! Messages about grants, and those for Teams: what they say, and what a user's text cannot do in them.

use super::grants::terms;
use super::*;
use crate::base::visible;
use crate::model::grant::{self, Grant, GrantChange, Terms};

/// Text that is a mention, a link, an image, a list and markup in one chat or another, and hides.
const HOSTILE: &str = "<at>everyone</at> <!channel> [pay](https://evil.example) ![x](https://evil.example/x.png) **b** _i_ `c`\n\
    - item\n1. one & {{DATE(2026-01-01T00:00:00Z)}} <https://evil.example|here> \u{202e}gnp\u{200b}\u{0} \
    @here see https://evil.example #general";

fn grant_of(reason: &str, change: Option<GrantChange>) -> GrantNotice {
    let terms = Terms {
        reason: Some(reason.to_owned()),
        ..terms("ana@example.com", 30)
    };
    let minutes = |minutes| now() + SignedDuration::from_mins(minutes);
    let grant = grant::create(GrantId::from_random([2; 10]), terms, "ana@example.com", now()).unwrap();
    let grant = grant::apply(&grant, &GrantChange::Activate, now()).unwrap();
    let grant = match change {
        Some(change) => grant::apply(&grant, &change, minutes(26)).unwrap(),
        None => grant,
    };
    GrantNotice::of(&Arc::new(grant), minutes(26)).expect("a notice")
}

fn revoked(by: &str, reason: &str) -> GrantNotice {
    let (by, reason) = (by.to_owned(), Some(reason.to_owned()));
    grant_of("BUG-812", Some(GrantChange::Revoke { by, reason }))
}

fn message_of(notice: &GrantNotice, format: MessageFormat, answers: bool) -> Value {
    let body = grant_payload::body(notice, format, Some("https://g/"), answers);
    serde_json::from_str(&body).unwrap()
}

/// All texts in it, however deep.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// All elements of cards with their types.
fn types(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::Array(values) => values.iter().flat_map(types).collect(),
        Value::Object(fields) => {
            let own = fields.get("type").and_then(Value::as_str);
            fields.values().flat_map(types).chain(own).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[test]
fn each_event_of_a_grant_in_each_format() {
    let given_back = GrantChange::Revoke {
        by: "ana@example.com".to_owned(),
        reason: Some(grant::GIVEN_BACK.to_owned()),
    };
    let to_now = GrantChange::ShortenTo(now());
    let events = [
        grant_of("BUG-812", None),
        grant_of("BUG-812", Some(to_now)),
        grant_of("BUG-812", Some(given_back)),
        revoked("lea@example.com", "an incident"),
    ];
    let shown = events.map(|notice| {
        json!({
            "json": message_of(&notice, MessageFormat::Json, true),
            "slack": message_of(&notice, MessageFormat::Slack, true),
            "teams": message_of(&notice, MessageFormat::Teams, true),
        })
    });
    insta::assert_json_snapshot!(shown);
}

#[test]
fn each_state_of_a_request_in_teams() {
    let mut people = request(1);
    people.approvals.push(Approval {
        by: "lea@example.com".parse().unwrap(),
        at: now(),
        comment: Some("with care".to_owned()),
    });
    people.outcome = Some(RequestOutcome::Approved {
        at: now(),
        how: ApprovedBy::People,
        grant: GrantId::from_random([2; 10]),
    });
    let break_glass = || {
        outcome(RequestOutcome::Approved {
            at: now(),
            how: ApprovedBy::BreakGlass,
            grant: GrantId::from_random([2; 10]),
        })
    };
    let person = Audience::Person("ana@example.com".parse().unwrap());
    let shown = [
        (pending(1), Audience::Everybody),
        (notice(people), person.clone()),
        (break_glass(), Audience::Everybody),
        // She does not review it herself.
        (break_glass(), person),
    ];
    let shown = shown.map(|(notice, to)| {
        let body = payload::body(&notice, &to, MessageFormat::Teams, Some("https://g"), true);
        serde_json::from_str::<Value>(&body).unwrap()
    });
    insta::assert_json_snapshot!(shown);
}

#[test]
fn the_button_is_there_only_where_it_is_answered_and_the_end_can_be_moved() {
    let buttons = |notice: &GrantNotice, answers| -> Vec<Value> {
        let message = message_of(notice, MessageFormat::Slack, answers);
        let buttons = message["blocks"][1]["elements"].as_array().cloned().unwrap_or_default();
        buttons.into_iter().filter(|button| button["action_id"] == "extend").collect()
    };
    let ending = grant_of("BUG-812", None);
    let offered = buttons(&ending, true);
    let [button] = offered.as_slice() else { panic!("{offered:?}") };
    assert_eq!(button["value"], format!("{} 30m", ending.grant.id()));
    assert_eq!(button["text"], json!({"type": "plain_text", "text": "+30 min"}));
    assert!(buttons(&ending, false).is_empty());
    assert!(buttons(&revoked("lea", "no"), true).is_empty());
    // The window already ends at the grant's deadline; a grant made by hand is the operator's.
    let changed = |change: fn(&mut Grant)| {
        let mut grant = Grant::clone(&ending.grant);
        change(&mut grant);
        GrantNotice::of(&Arc::new(grant), now() + SignedDuration::from_mins(26)).unwrap()
    };
    for fixed in [
        changed(|grant| grant.deadline = grant.until),
        changed(|grant| grant.request = None),
    ] {
        assert!(buttons(&fixed, true).is_empty());
        assert_eq!(message_of(&fixed, MessageFormat::Json, true)["command"], Value::Null);
    }
}

#[test]
fn a_text_is_a_text_in_a_message_about_a_grant() {
    let by = "auth0|<at>lea</at> <!here> [a](https://evil.example)";
    for notice in [grant_of(HOSTILE, None), revoked(by, HOSTILE)] {
        let slack = message_of(&notice, MessageFormat::Slack, true);
        // But for the quotation of the reason.
        let quotes = |text: &&str| text.replace("\n> ", "\n").contains(['<', '>']);
        assert!(!texts(&slack).iter().any(quotes), "{slack}");
        // It makes no mention and no link of its own accord.
        assert!(is_verbatim(&slack) && slack.to_string().contains("@here see"), "{slack}");
        let teams = message_of(&notice, MessageFormat::Teams, true);
        is_harmless_card(&teams);
        // Nothing of it is left out or changed but what could be more than a text.
        let shown = texts(&teams).join("\n");
        assert!(
            shown.contains("‹at›everyone‹/at› ‹!channel› [pay](https://evil.example)"),
            "{shown}"
        );
        assert!(
            shown.contains(r"\n- item\n1. one & ") && shown.contains(r"\u{202e}gnp\u{200b}\u{0}"),
            "{shown}"
        );
        let hidden = |text: &&str| text.contains(|character| character != '\n' && visible::is_unseen(character));
        for message in [slack, teams] {
            assert!(!texts(&message).iter().any(hidden), "{message}");
        }
        // A machine gets it as it is, in JSON that hides nothing.
        let json = grant_payload::body(&notice, MessageFormat::Json, None, false);
        assert!(!json.contains(visible::is_unseen), "{json}");
    }
}

/// No text with markup that Slack parses of its own accord.
fn is_verbatim(message: &Value) -> bool {
    let blocks = message["blocks"].as_array().unwrap();
    let marked = blocks.iter().filter(|block| block["text"]["type"] == "mrkdwn");
    marked.clone().count() > 0 && marked.clone().all(|block| block["text"]["verbatim"] == true)
}

/// No element that reads Markdown, no mention, and one link that is the gate's.
fn is_harmless_card(message: &Value) {
    let card = &message["attachments"][0]["content"];
    let allowed = BTreeSet::from(["AdaptiveCard", "RichTextBlock", "TextRun", "Action.OpenUrl"]);
    assert!(types(card).is_subset(&allowed), "{card}");
    assert_eq!(card["msteams"], Value::Null);
    assert!(texts(card).iter().all(|text| !text.contains(['<', '>'])), "{card}");
    for action in card["actions"].as_array().unwrap() {
        assert!(action["url"].as_str().unwrap().starts_with("https://g/"), "{action}");
    }
}

#[test]
fn a_message_is_small_whatever_is_said() {
    let long = ["\u{e0041}", "\"", "\\", "<", "&", "中", "\u{1f600}"].map(|piece| piece.repeat(5000));
    for text in &long {
        let mut request = request(1);
        request.wish.reason = Some(text.clone());
        request.wish.ticket = Some(text.clone());
        for number in 0..40 {
            request.approvals.push(Approval {
                by: format!("{number}{}", "é".repeat(120)).parse().unwrap(),
                at: now(),
                comment: Some(text.clone()),
            });
        }
        request.outcome = Some(RequestOutcome::Approved {
            at: now(),
            how: ApprovedBy::People,
            grant: GrantId::from_random([2; 10]),
        });
        let (request, grant) = (notice(request), revoked("lea", text));
        for format in [MessageFormat::Slack, MessageFormat::Teams] {
            for body in [
                body_of(&request, format, Some("https://g")),
                grant_payload::body(&grant, format, Some("https://g/"), false),
            ] {
                let message: Value = serde_json::from_str(&body).unwrap();
                if format == MessageFormat::Teams {
                    // Half of the limit: it holds in UTF-16, too.
                    assert!(body.len() <= 14 * 1024, "{} bytes", body.len());
                    is_harmless_card(&message);
                } else {
                    let section = message["blocks"][0]["text"]["text"].as_str().unwrap();
                    assert!(section.chars().count() < 3000 && message["blocks"][1]["elements"][0]["url"] != Value::Null);
                }
            }
        }
    }
}

#[test]
fn no_text_of_a_user_pushes_out_what_the_gate_says() {
    for piece in ["&", "<", "\u{e0041}", "\\"] {
        let mut asked = request(1);
        asked.approvals_needed = 2;
        asked.wish.reason = Some(piece.repeat(5000));
        asked.wish.ticket = Some(piece.repeat(5000));
        let id = asked.id.clone();
        let notice = notice(asked);
        for format in [MessageFormat::Slack, MessageFormat::Teams] {
            let message: Value = serde_json::from_str(&body_of(&notice, format, None)).unwrap();
            let shown = texts(&message).join("\n");
            for said in [
                "Needs 2 approvals, by 2027-01-15 09:00:00 UTC",
                &format!("tidegate approve {id}"),
            ] {
                assert!(shown.contains(said), "{shown}");
            }
            // Each escape is whole.
            let whole = ["&amp;", "&lt;", "&gt;"]
                .iter()
                .fold(shown, |rest, escape| rest.replace(escape, ""));
            assert!(format == MessageFormat::Teams || !whole.contains('&'), "{whole}");
        }
    }
    // Nor out of a card what is shorter.
    let long = "\u{e0041}".repeat(5000);
    let mut people = request(1);
    (people.wish.reason, people.wish.ticket) = (Some("\u{e0041}".repeat(300)), Some(long.clone()));
    people.approvals = [("lea", long.as_str()), ("kim", "with care")]
        .map(|(by, comment)| Approval {
            by: by.parse().unwrap(),
            at: now(),
            comment: Some(comment.to_owned()),
        })
        .into();
    people.outcome = approved(1, "ana").request.outcome.clone();
    let card: Value = serde_json::from_str(&body_of(&notice(people), MessageFormat::Teams, None)).unwrap();
    let shown = texts(&card);
    assert!(
        shown.contains(&"kim: with care") && shown.contains(&"… (too long for this message)"),
        "{card}"
    );
}

#[test]
fn a_checkpoint_is_whole_in_a_card() {
    let line = format!("{{\"v\":2,\"event\":\"checkpoint\",\"signature\":\"{}\"}}", "A".repeat(600));
    let body = payload::checkpoint(&line, "lg_1.7.checkpoint", now(), MessageFormat::Teams);
    let message: Value = serde_json::from_str(&body).unwrap();
    assert!(texts(&message).contains(&line.as_str()), "{message}");
    let body = payload::checkpoint(&line, "lg_1.7.checkpoint", now(), MessageFormat::Slack);
    assert!(is_verbatim(&serde_json::from_str(&body).unwrap()), "{body}");
}
