//! Scan of the tokens of an SQL text for the places of secrets.
//!
//! The scan does not change the text. [`super`] determines the names of secrets and the literals that reveal one;
//! [`nest`](super::nest) keeps the position within the text.
//!
//! INVARIANT: a secret name has a *scope*, from its operator to the end of its expression, in which every literal is secret;
//! literals before it in its expression are secret, too; and a call with keys among its arguments marks these.

use super::grammar::{CLAUSE_WORDS, JOIN_WORDS, LINK_WORDS, NON_VALUES, OWNER_WORDS, ROW_WORDS, is_one_of};
use super::literal::{self, CodeTracker, LiteralBody, literals, shifted, whole};
use super::nest::{ClosedName, InsertState, Nest, OpeningKind, PlainValue, SecretScope};
use super::{FINDER, KEYED, MAX_DEPTH, RedactedRange, TooDeepError, ends_in_name, gives_away, has_place, is_data, is_secret};
use crate::protocol::lexer::{Lexer, LexerSettings, Token, TokenKind};

/// Secret name directly before the current token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    None,
    /// Word: `password`, `"db_secret"`.
    Word,
    /// Keyword of `ALTER ROLE`.
    Password,
    /// Literal that is or ends with one: `'app.password'`.
    Literal,
    /// Parenthesis with one in it: `(name, password)`, `lower(password)`.
    Row,
    /// Name followed by a word like `TO`.
    Operated,
    /// Name followed by other words: `password text`.
    Trailing,
}

/// Token before a word, if it determines the meaning of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Other,
    /// `::`
    Cast,
    /// `EXECUTE` of SQL, not of PL/pgSQL.
    Execute,
}

/// Uncertainties of a text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ScanDoubts {
    /// True if the last token does not end.
    pub(super) open: bool,
    /// True if a literal ends elsewhere under another reading of backslashes.
    pub(super) ambiguous: bool,
    /// True if the literals in a body of code could not be determined.
    pub(super) unclear: bool,
}

pub(super) struct SecretScan<'a> {
    lexer: Lexer<'a>,
    level: u8,
    settings: LexerSettings,
    pub(super) nest: Nest,
    pub(super) doubts: ScanDoubts,
    place: CodeTracker,
    name: Name,
    /// Secret positions of the list that the next parenthesis opens, as bits.
    coming: Option<u64>,
    /// Token before the current one.
    before: Before,
    /// Number of words of the command so far; the command may set a password or settings; its values may be bare words.
    words: u32,
    owner: bool,
    bare: bool,
}

impl<'a> SecretScan<'a> {
    pub(super) fn new(text: &'a [u8], level: u8, settings: LexerSettings) -> Self {
        Self {
            lexer: Lexer::under(text, settings),
            level,
            settings,
            nest: Nest::default(),
            doubts: ScanDoubts::default(),
            place: CodeTracker::default(),
            name: Name::None,
            coming: None,
            before: Before::Other,
            words: 0,
            owner: false,
            bare: false,
        }
    }

    /// Scans all tokens. Results from before an error stay.
    pub(super) fn run(&mut self) -> Result<(), TooDeepError> {
        while let Some(token) = self.lexer.next() {
            let code = self.place.is_code();
            match token.kind {
                TokenKind::Comment => {
                    self.comment(&token);
                    continue;
                }
                TokenKind::Literal | TokenKind::Escaped | TokenKind::Dollar | TokenKind::Unfinished if code => self.code(&token),
                TokenKind::Unfinished | TokenKind::Ambiguous => self.unfinished(&token),
                TokenKind::Literal if token.inner.windows(2).any(|pair| pair == br"\'") || token.inner.ends_with(b"\\") => {
                    self.ambiguous_literal(&token);
                }
                TokenKind::Word | TokenKind::Quoted => self.word(&token)?,
                TokenKind::Literal | TokenKind::Escaped => self.literal(&token),
                TokenKind::Dollar => self.dollar(&token),
                TokenKind::Parameter => self.parameter(&token),
                TokenKind::Number => self.number(&token),
                TokenKind::Sign => self.sign(&token)?,
            }
            self.doubts.open |= matches!(token.kind, TokenKind::Unfinished | TokenKind::Ambiguous);
            self.doubts.unclear |= token.kind == TokenKind::Ambiguous;
            self.place.pass(&token);
            self.before = match token.text {
                b"::" => Before::Cast,
                _ if self.level == 0 && token.is("execute") => Before::Execute,
                _ => Before::Other,
            };
        }
        Ok(())
    }

    fn word(&mut self, token: &Token<'_>) -> Result<(), TooDeepError> {
        self.count_word(token);
        if self.before == Before::Cast {
            // This is a type: `password::text = 'x'` still concerns the password.
            return Ok(());
        }
        let before = std::mem::replace(&mut self.name, Name::None);
        let secret = is_secret(token.inner);
        let waits = self.nest.is_fresh() || matches!(before, Name::Password | Name::Operated);
        if self.bare && waits && !secret && !is_one_of(token, &NON_VALUES) {
            self.cut_bare(token);
            return Ok(());
        }
        let operated = before == Name::Operated && token.is("from");
        let clause = !operated && is_one_of(token, &CLAUSE_WORDS);
        let over = self
            .nest
            .top
            .scope
            .is_some_and(|scope| scope.seen && (self.bare || scope.right_behind));
        if over && self.nest.top.scope.is_some_and(|scope| scope.expression) {
            self.nest.top.scope = None;
        }
        if clause {
            self.nest.next_expression();
        }
        self.note_insert(token);
        let mut ahead = self.lexer;
        let opens = ahead.next_code().is_some_and(|next| next.is_sign(b'('));
        self.name = self.name_at(token, before, secret, clause);
        if opens {
            let keyed = KEYED
                .iter()
                .find(|(name, _)| token.inner.eq_ignore_ascii_case(name.as_bytes()));
            // These are the parameters of a prepared statement, or of a call like `set_password('bob', 'x')`.
            let whole = self.before == Before::Execute || (secret && !self.owner);
            self.coming = if whole {
                Some(u64::MAX)
            } else {
                keyed.map(|(_, secret)| *secret)
            };
        }
        if token.is("case") {
            let case = OpeningKind {
                case: true,
                ..OpeningKind::default()
            };
            self.nest.open(case)?;
        } else if token.is("end") && self.nest.top.of_case() {
            self.close(true);
        }
        Ok(())
    }

    /// Returns the secret name after this word, if `before` was the one before it.
    fn name_at(&mut self, token: &Token<'_>, before: Name, secret: bool, clause: bool) -> Name {
        let operated = before == Name::Operated && token.is("from");
        if before != Name::None && (operated || is_one_of(token, &LINK_WORDS)) {
            return Name::Operated;
        }
        if before == Name::Row && token.is("as") {
            // `WITH x(password) AS (…)`, and `CREATE VIEW v(password) AS SELECT …`.
            let mut ahead = self.lexer;
            let next = ahead.next_code();
            if self.owner && next.is_some_and(|next| is_one_of(&next, &CLAUSE_WORDS)) {
                self.open_scope(false, false);
            }
            return Name::Operated;
        }
        if secret {
            if !self.bare {
                self.nest.name();
            }
            return if token.is("password") { Name::Password } else { Name::Word };
        }
        let goes_on = matches!(before, Name::Word | Name::Password | Name::Operated | Name::Trailing);
        if goes_on && !clause && !self.bare {
            Name::Trailing
        } else {
            Name::None
        }
    }

    /// Determines the kind of the command from its first words.
    fn count_word(&mut self, token: &Token<'_>) {
        match self.words {
            0 => {
                self.bare = token.is("set");
                self.owner = token.is("alter") || token.is("create");
            }
            1 => self.bare |= self.owner && is_one_of(token, &OWNER_WORDS),
            _ => {}
        }
        self.words += 1;
    }

    /// Follows the parts of an `INSERT`: one with secret columns and more than plain rows may have secrets anywhere.
    fn note_insert(&mut self, token: &Token<'_>) {
        let top = &mut self.nest.top;
        if token.is("insert") {
            top.insert = Some(InsertState::default());
            return;
        }
        let Some(insert) = &mut top.insert else { return };
        if insert.listed && insert.secret != 0 {
            let rows = if insert.values {
                !is_one_of(token, &JOIN_WORDS)
            } else {
                is_one_of(token, &ROW_WORDS)
            };
            top.all |= !rows;
        }
        insert.values |= token.is("values");
    }

    fn literal(&mut self, token: &Token<'_>) {
        self.value_begins();
        let value = PlainValue::Text(whole(token));
        self.name = Name::None;
        if self.nest.is_secret() || gives_away(token.inner) {
            self.nest.secret(value);
        } else if has_place(token.inner) {
            self.open_scope(false, false);
        } else if ends_in_name(token.inner) {
            self.nest.name();
            self.nest.plain(value);
            self.name = Name::Literal;
        } else {
            self.nest.plain(value);
        }
    }

    fn dollar(&mut self, token: &Token<'a>) {
        self.value_begins();
        self.name = Name::None;
        let value = PlainValue::Text(whole(token));
        if self.nest.is_secret() {
            return self.nest.secret(value);
        }
        if !FINDER.is_match(token.inner) || (is_data(token.inner) && !gives_away(token.inner)) {
            return self.nest.plain(value);
        }
        let mut within = SecretScan::new(token.inner, self.level + 1, self.settings);
        let data = is_data(token.inner) || self.level >= MAX_DEPTH;
        if data || within.run().is_err() || within.doubts.open || within.doubts.ambiguous {
            return self.nest.secret(value);
        }
        let offset = token.start + (token.text.len() - token.inner.len()) / 2;
        self.nest.cuts.extend(within.nest.cuts.iter().map(|cut| shifted(cut, offset)));
        self.nest.plain(value);
    }

    fn parameter(&mut self, token: &Token<'_>) {
        self.value_begins();
        self.name = Name::None;
        let digits = token.text.get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(number) = digits.and_then(|digits| digits.parse().ok()) {
            self.value(PlainValue::Parameter(number));
        }
    }

    fn number(&mut self, token: &Token<'_>) {
        if self.bare && (self.nest.is_fresh() || matches!(self.name, Name::Password | Name::Operated)) {
            self.cut_bare(token);
        } else {
            self.value(PlainValue::Text(whole(token)));
        }
        self.name = Name::None;
    }

    fn value(&mut self, value: PlainValue) {
        if self.nest.is_secret() {
            self.nest.secret(value);
        } else {
            self.nest.plain(value);
        }
    }

    fn sign(&mut self, token: &Token<'_>) -> Result<(), TooDeepError> {
        match token.text {
            b"(" | b"[" => return self.open(),
            b")" | b"]" => self.close(false),
            b"," => {
                self.nest.next_place();
                // `set_config('app.password', 'x')`
                if std::mem::replace(&mut self.name, Name::None) == Name::Literal {
                    self.open_scope(true, false);
                }
            }
            b";" => {
                let mut nest = std::mem::take(&mut self.nest);
                nest.end();
                *self = Self {
                    lexer: self.lexer,
                    nest,
                    doubts: self.doubts,
                    ..Self::new(b"", self.level, self.settings)
                };
            }
            b"::" => {}
            b"." => self.name = Name::None,
            _ => {
                if self.name != Name::None {
                    self.open_scope(true, false);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), TooDeepError> {
        if self.name == Name::Operated {
            self.open_scope(true, false);
        }
        let resumes = matches!(self.name, Name::Word | Name::Password | Name::Trailing) && !self.bare;
        self.name = Name::None;
        let mut columns = false;
        let top = &mut self.nest.top;
        if let Some(insert) = &mut top.insert {
            if insert.values {
                self.coming = self.coming.or(Some(insert.secret));
            } else if insert.listed {
                top.all |= insert.secret != 0;
            } else {
                insert.listed = true;
                columns = true;
            }
        }
        let opening = OpeningKind {
            case: false,
            secret: self.coming.take().unwrap_or(0),
            columns,
            resumes,
        };
        self.nest.open(opening)
    }

    fn close(&mut self, case: bool) {
        match self.nest.close(case) {
            ClosedName::Plain => {}
            ClosedName::Named => self.name = Name::Row,
            ClosedName::Resumed => self.name = Name::Trailing,
        }
    }

    fn open_scope(&mut self, expression: bool, right_behind: bool) {
        self.name = Name::None;
        self.nest.top.scope = Some(SecretScope {
            expression,
            right_behind,
            seen: false,
        });
    }

    /// Opens a scope for a value that comes directly after a name.
    fn value_begins(&mut self) {
        match self.name {
            Name::Word | Name::Password => self.open_scope(true, true),
            Name::Operated => self.open_scope(true, false),
            _ => {}
        }
    }

    /// Blanks a value without quotes, up to its end.
    fn cut_bare(&mut self, token: &Token<'_>) {
        let end = self.lexer.skip_unquoted().max(token.end());
        self.nest.secret(PlainValue::Text(RedactedRange::blank(token.start, end)));
    }

    fn comment(&mut self, token: &Token<'_>) {
        let secrets = literal::assigned(token.text, literal::ends_line);
        self.nest.cuts.extend(secrets.iter().map(|cut| shifted(cut, token.start)));
    }

    /// Takes a token without an end: the rest of it is unknown.
    fn unfinished(&mut self, token: &Token<'_>) {
        if token.text.starts_with(b"/*") {
            self.comment(token);
        } else if LiteralBody::of(token, self.settings).is_some() || self.bare {
            self.nest.secret(PlainValue::Text(whole(token)));
        }
    }

    /// Takes a literal whose end depends on the reading of backslashes. It is blanked even if the reading is known, which does
    /// no harm.
    fn ambiguous_literal(&mut self, token: &Token<'_>) {
        self.doubts.ambiguous = true;
        self.value_begins();
        self.name = Name::None;
        self.nest.secret(PlainValue::Text(whole(token)));
    }

    /// Takes a body of code, with or without an end: only its own literals are blanked.
    fn code(&mut self, token: &Token<'_>) {
        self.name = Name::None;
        let open = token.kind == TokenKind::Unfinished;
        let body = LiteralBody::of(token, self.settings);
        // Escapes hide its letters.
        let hidden = matches!(token.text, [b'u' | b'U', ..]);
        let shown = body.as_ref().filter(|body| !hidden && !body.refused);
        let cuts = shown.and_then(|body| self.within(&body.text, open, |cut| body.place(cut)));
        match (cuts, body) {
            (Some(cuts), _) => self.nest.cuts.extend(cuts),
            (None, Some(_)) => {
                self.doubts.unclear = true;
                self.nest.cuts.push(whole(token));
            }
            (None, None) => self.unfinished(token),
        }
    }

    /// Returns the places to blank in a body of code; `None` if it is nested too deep.
    fn within(&mut self, text: &[u8], open: bool, place: impl Fn(&RedactedRange) -> RedactedRange) -> Option<Vec<RedactedRange>> {
        if self.level >= MAX_DEPTH {
            return None;
        }
        let mut within = SecretScan::new(text, self.level + 1, self.settings);
        let deep = within.run().is_err();
        self.doubts.ambiguous |= within.doubts.ambiguous;
        self.doubts.unclear |= within.doubts.unclear;
        let mut cuts = std::mem::take(&mut within.nest.cuts);
        if open {
            within.nest.give_up();
            cuts.append(&mut within.nest.cuts);
        } else if within.doubts.open || deep {
            cuts.extend(literals(text, self.settings, 0));
            self.doubts.unclear = true;
        }
        Some(cuts.iter().map(place).collect())
    }
}
