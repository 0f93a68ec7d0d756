//! The names in a client's messages, as the server tells them apart.
//!
//! It does not know what they stand for: [`book`](crate::session::book) does.

use crate::wire::frontend::Fields;

/// The subject of a Describe or Close: whether it is a portal, and its name.
pub(super) fn portal_or_statement(body: &[u8]) -> Option<(bool, &[u8])> {
    let (kind, rest) = body.split_first()?;
    Some((*kind == b'P', as_the_server_does(Fields::of(rest).text_or_rest())))
}

/// A name as far as the server tells names apart: it keeps them in tables of fixed-length strings (`HASH_STRINGS` with
/// `NAMEDATALEN`, commands/prepare.c and utils/mmgr/portalmem.c), so two long names may be one.
pub(super) fn as_the_server_does(name: &[u8]) -> &[u8] {
    name.get(..63).unwrap_or(name)
}
