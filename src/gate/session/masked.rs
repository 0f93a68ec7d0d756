//! Tables that a profile sees through masks, and the hint that names the view if the target refuses the table itself.
//!
//! This module refuses nothing: the target does, because the profile's role has no right on such a table.

use bytes::{BufMut as _, BytesMut};

use crate::protocol::wire::encode;
use crate::protocol::wire::frontend::Fields;

/// SQLSTATE insufficient_privilege.
const INSUFFICIENT_PRIVILEGE: &[u8] = b"42501";

/// Masked tables of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedTables {
    /// Schema of the views, as SQL text.
    views: String,
    /// Schema and name of each table; its view has the same name.
    tables: Vec<(String, String)>,
}

impl MaskedTables {
    /// Creates the list of tables whose views are in a schema, given as SQL text.
    #[must_use]
    pub fn new(views: String, tables: Vec<(String, String)>) -> Self {
        Self { views, tables }
    }

    /// Returns the number of tables.
    pub(super) fn count(&self) -> u64 {
        self.tables.len() as u64
    }

    /// Returns the target's ErrorResponse with a hint added, if it refuses one of the tables; `body` is the complete body of the
    /// original.
    pub(super) fn with_hint(&self, body: &[u8]) -> Option<Vec<u8>> {
        let (mut fields, mut refused, mut table) = (Fields::of(body), false, None);
        while let Some((kind, text)) = fields.text().and_then(<[u8]>::split_first) {
            match kind {
                b'C' => refused = text == INSUFFICIENT_PRIVILEGE,
                b'M' => table = self.tables.iter().find(|(_, name)| names(text, name.as_bytes())),
                // The error already has a hint.
                b'H' => return None,
                _ => {}
            }
        }
        let (schema, name) = table.filter(|_| refused)?;
        let hint = format!(
            "{schema}.{name} is shown to this profile with masks, as {}.\"{}\": name that, or {name} without a schema (if it is not there, the masks are lifted at present)",
            self.views,
            name.replace('"', "\"\"")
        );
        let fields = body.strip_suffix(&[0])?;
        let mut message = BytesMut::with_capacity(body.len() + hint.len() + 7);
        encode::message(&mut message, b'E', |out| {
            out.put_slice(fields);
            out.put_u8(b'H');
            encode::text(out, &hint);
            out.put_u8(0);
        });
        Some(message.into())
    }
}

/// Returns true if a message contains the name as a word. The message is in the server's language, so nothing else in it is
/// examined.
fn names(message: &[u8], name: &[u8]) -> bool {
    let within = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii());
    let found = memchr::memmem::find_iter(message, name);
    let mut found = found.map(|at| {
        (
            at.checked_sub(1).and_then(|before| message.get(before)),
            message.get(at + name.len()),
        )
    });
    found.any(|(before, after)| !within(before) && !within(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(fields: &[&str]) -> Option<String> {
        let tables = vec![("public".to_owned(), "cards".to_owned())];
        let masked = MaskedTables::new("\"tg_shop_masked\"".to_owned(), tables);
        let body = fields.iter().flat_map(|field| [field.as_bytes(), &[0]].concat()).chain([0]);
        let message = masked.with_hint(&body.collect::<Vec<_>>())?;
        let (head, body) = message.split_at(5);
        assert_eq!(
            head,
            [&[b'E'][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes()].concat()
        );
        let told: Vec<&[u8]> = body.split(|byte| *byte == 0).collect();
        assert_eq!(told.len(), fields.len() + 3, "every field, the hint, the end");
        Some(String::from_utf8(told[fields.len()].to_vec()).unwrap())
    }

    #[test]
    fn a_refused_table_is_told_with_its_view() {
        let said = hint(&["SERROR", "VERROR", "C42501", "Mpermission denied for table cards"]).unwrap();
        assert!(
            said.starts_with("Hpublic.cards is shown") && said.contains("\"tg_shop_masked\".\"cards\""),
            "{said}"
        );
        assert!(hint(&["C42501", "Mkeine Berechtigung für Tabelle »cards«"]).is_none_or(|said| said.starts_with('H')));
        assert!(hint(&["C42501", "Mdroit refusé pour la table « cards »"]).is_some());
        for others in [
            &["C42501", "Mpermission denied for table my_cards"][..],
            &["C42501", "Mpermission denied for table cards2"],
            &["C42P01", "Mrelation \"cards\" does not exist"],
            &["C42501", "Mpermission denied for table cards", "Hit is so"],
            &["C42501", "Mpermission denied for table orders"],
        ] {
            assert_eq!(hint(others), None, "{others:?}");
        }
    }
}
