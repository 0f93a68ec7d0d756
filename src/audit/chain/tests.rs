use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

/// A log of these contents, as lines.
fn log(contents: &[String]) -> Vec<Vec<u8>> {
    let mut tip = ChainTip::START;
    let line = |content: &String| {
        let mut out = Vec::new();
        tip = tip.seal(
            &mut out,
            format!("\"text\":{}}}\n", serde_json::to_string(content).unwrap()).as_bytes(),
        );
        assert_eq!(out.pop(), Some(b'\n'));
        out
    };
    contents.iter().map(line).collect()
}

/// The first line that does not follow, from 0.
fn first_bad(lines: &[Vec<u8>]) -> Option<usize> {
    let mut tip = ChainTip::START;
    lines.iter().position(|line| tip.follow(line).map(|next| tip = next).is_err())
}

#[test]
fn the_law_by_hand() {
    let lines = log(&["a".to_owned(), "b".to_owned()]);
    let first = br#"{"v":2,"seq":1,"text":"a""#;
    let second = br#"{"v":2,"seq":2,"text":"b""#;
    let one: [u8; 32] = Sha256::digest([&[0; 32][..], first].concat()).into();
    let two: [u8; 32] = Sha256::digest([&one[..], second].concat()).into();
    let with_mark = |body: &[u8], link: &[u8]| [body, br#","chain":""#, HEXLOWER.encode(&link[..8]).as_bytes(), b"\"}"].concat();
    assert_eq!(lines, [with_mark(first, &one), with_mark(second, &two)]);
    assert!(
        lines
            .iter()
            .all(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok())
    );
}

#[test]
fn a_line_begins_with_its_version() {
    let head = format!("{{\"v\":{},\"seq\":", crate::audit::VERSION);
    assert_eq!(LINE_HEAD, head.as_bytes());
    assert_eq!(number(format!("{head}17,").as_bytes()), Some(17));
    for other in ["", "x,", "17", "017,", ",", "+7,", "17x,", "99999999999999999999,"] {
        assert_eq!(number(format!("{head}{other}").as_bytes()), None, "{other}");
    }
}

#[test]
fn links_as_text() {
    let link = ChainLink::START.after(b"x");
    assert_eq!(link.to_string().parse(), Ok(link));
    let text = link.to_string();
    assert!(text.starts_with(&link.mark().to_string()));
    for bad in ["", text.get(1..).unwrap(), &text.to_uppercase(), &format!("{text}0")] {
        assert_eq!(bad.parse::<ChainLink>(), Err(LinkError));
    }
}

proptest! {
    /// Whatever is done to a line, the first bad line is named; only the end of the log can be cut off unseen (which a
    /// checkpoint kept elsewhere shows).
    #[test]
    fn nothing_is_changed_unseen(
        contents in proptest::collection::vec(any::<String>(), 2..12),
        at in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
        how in 0..5,
    ) {
        let good = log(&contents);
        prop_assert_eq!(first_bad(&good), None);
        let mut bad = good.clone();
        let at = at.index(good.len());
        match how {
            0 => {
                let bit = bit.index(bad[at].len() * 8);
                bad[at][bit / 8] ^= 1 << (bit % 8);
            }
            1 => drop(bad.remove(at)),
            2 => bad.insert(at, good[at].clone()),
            3 => bad.insert(at, br#"{"v":2,"seq":1,"text":"new","chain":"0011223344556677"}"#.to_vec()),
            _ => bad.swap(at, bit.index(good.len())),
        }
        let expected = (bad != good).then(|| bad.iter().zip(&good).position(|(bad, good)| bad != good).unwrap_or(good.len()));
        let cut = how == 1 && at + 1 == good.len();
        prop_assert_eq!(first_bad(&bad), expected.filter(|_| !cut));
    }

    #[test]
    fn any_bytes_are_no_line_or_one(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(ChainTip::START.follow(&bytes).is_err());
    }
}
