//! Parts that pages are made of: the frame, tables, fields, times, states, problems. Pure functions of their arguments.
//!
//! They know neither calls nor callers.
//!
//! INVARIANT: a text is shown by [`text::shown`] or [`text::cut`], so that no invisible character hides in it, and through
//! maud's escaping, so that none of it is markup.

pub(super) mod field;
pub(super) mod frame;
pub(super) mod problem;
pub(super) mod state;
pub(super) mod table;
pub(super) mod text;
pub(super) mod time;
pub(super) mod words;
