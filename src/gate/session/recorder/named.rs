//! Names in a client's messages, as the server distinguishes them.
//!
//! This module does not know their meaning: [`extended`](crate::gate::session::extended_query) does.

use crate::protocol::wire::frontend::Fields;

/// Returns the subject of a Describe or Close: true for a portal, and its name.
pub(super) fn portal_or_statement(body: &[u8]) -> Option<(bool, &[u8])> {
    let (kind, rest) = body.split_first()?;
    Some((*kind == b'P', as_the_server_does(Fields::of(rest).text_or_rest())))
}

/// Cuts a name to the length that the server distinguishes: it keeps names in tables of fixed-length strings (`HASH_STRINGS` with
/// `NAMEDATALEN`, commands/prepare.c and utils/mmgr/portalmem.c), so two long names may be the same one.
pub(super) fn as_the_server_does(name: &[u8]) -> &[u8] {
    name.get(..63).unwrap_or(name)
}
