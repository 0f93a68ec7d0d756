//! Walks through the tokens of an SQL text and notes where secrets stand.
//!
//! It changes no text. What a secret's name is, and which literals give one away, is said by [`super`].
//!
//! The law: a secret name has a *scope*, from its operator to the end of its expression, in which every literal is secret; and
//! a call whose arguments are keys marks these.

use super::{Cut, FINDER, KEYED, Stuck, ends_in_name, gives_away, has_place, is_data, is_secret};
use crate::audit::lex::{Kind, Lexer, Token};

/// SQL in SQL in SQL (dollar quotes) is followed so far.
const DEEPEST: u8 = 8;
/// Words that stand between a name and its value, and do not end the expression.
const BETWEEN: [&str; 9] = ["to", "in", "like", "ilike", "similar", "not", "between", "any", "all"];
/// Values that are none, where a password without quotes is looked for.
const NO_VALUES: [&str; 3] = ["null", "default", "to"];
/// After `ALTER` or `CREATE`: what has a password or settings of its own.
const OWNERS: [&str; 5] = ["role", "user", "group", "database", "system"];

/// The secret name right before, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    None,
    /// A word: `password`, `"db_secret"`.
    Word,
    /// The keyword of `ALTER ROLE`.
    Password,
    /// A literal that is or ends with one: `'app.password'`.
    Literal,
    /// A name, and then a word like `TO`.
    Operated,
}

/// Where literals are secret.
#[derive(Debug, Clone, Copy)]
struct Scope {
    depth: u32,
    /// It ends with the expression; else with the parenthesis around it.
    expression: bool,
    /// A value has come.
    seen: bool,
}

/// A list in parentheses whose places count.
#[derive(Debug, Clone, Copy)]
struct List {
    depth: u32,
    index: u32,
    /// Which places are secret.
    secret: u64,
    /// The columns of an `INSERT`.
    columns: bool,
}

/// An `INSERT INTO t (…) VALUES (…)`.
#[derive(Debug, Clone, Copy)]
struct Insert {
    depth: u32,
    /// Its columns have been listed.
    listed: bool,
    /// `VALUES` has come.
    values: bool,
    /// Which columns are secret.
    secret: u64,
}

pub(super) struct Scan<'a> {
    lexer: Lexer<'a>,
    level: u8,
    pub(super) cuts: Vec<Cut>,
    pub(super) parameters: Vec<u16>,
    depth: u32,
    name: Name,
    scope: Option<Scope>,
    lists: Vec<List>,
    /// The next parenthesis opens a list with these secrets.
    coming: Option<u64>,
    insert: Option<Insert>,
    /// The token before is `::`.
    cast: bool,
    /// Words of the command so far, and whether a value may be a bare word there.
    words: u32,
    owner: bool,
    bare: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8], level: u8) -> Self {
        Self {
            lexer: Lexer::new(text),
            level,
            cuts: Vec::new(),
            parameters: Vec::new(),
            depth: 0,
            name: Name::None,
            scope: None,
            lists: Vec::new(),
            coming: None,
            insert: None,
            cast: false,
            words: 0,
            owner: false,
            bare: false,
        }
    }

    /// Looks at all tokens. What was found before an error stays found.
    pub(super) fn run(&mut self) -> Result<(), Stuck> {
        while let Some(token) = self.lexer.next() {
            match token.kind {
                Kind::Comment => {
                    if gives_away(token.text) {
                        self.cut(token.start, token.end(), b"/***/");
                    }
                    continue;
                }
                Kind::Unfinished => {
                    let secret = self.is_secret_here() || self.name != Name::None || FINDER.is_match(token.text);
                    return Err(Stuck::Unfinished { at: token.start, secret });
                }
                Kind::Literal if token.inner.windows(2).any(|pair| pair == br"\'") || token.inner.ends_with(b"\\") => {
                    return Err(Stuck::Ambiguous);
                }
                Kind::Word | Kind::Quoted => self.word(&token),
                Kind::Literal | Kind::Escaped => self.literal(&token),
                Kind::Dollar => self.dollar(&token),
                Kind::Parameter => self.parameter(&token),
                Kind::Number => self.number(&token),
                Kind::Sign => self.sign(&token),
            }
            self.cast = token.text == b"::";
        }
        Ok(())
    }

    fn word(&mut self, token: &Token<'_>) {
        self.count_word(token);
        if self.cast {
            // A type: `password::text = 'x'` is still about the password.
            return;
        }
        let before = std::mem::replace(&mut self.name, Name::None);
        let secret = is_secret(token.inner);
        if self.bare && !secret && !is_one_of(token, &NO_VALUES) {
            let fresh = self.scope.is_some_and(|scope| scope.depth == self.depth && !scope.seen);
            if fresh || matches!(before, Name::Password | Name::Operated) {
                return self.cut_bare(token);
            }
        }
        let mut ahead = self.lexer;
        let next = ahead.next_code();
        let opens = next.is_some_and(|next| next.is_sign(b'('));
        if let Some(scope) = self.scope
            && scope.expression
            && scope.depth == self.depth
        {
            let goes_on = next.is_some_and(|next| {
                opens || next.is_sign(b'.') || matches!(next.kind, Kind::Literal | Kind::Escaped | Kind::Dollar)
            });
            if scope.seen || !(goes_on || is_one_of(token, &BETWEEN)) {
                self.scope = None;
            }
        }
        if before != Name::None && is_one_of(token, &BETWEEN) {
            self.name = Name::Operated;
        } else if secret {
            let keyword = token.is("password");
            self.name = if keyword { Name::Password } else { Name::Word };
            self.note_column();
        }
        if opens {
            let keyed = KEYED
                .iter()
                .find(|(name, _)| token.inner.eq_ignore_ascii_case(name.as_bytes()));
            self.coming = keyed.map(|(_, secret)| *secret);
        }
    }

    /// What kind of command it is.
    fn count_word(&mut self, token: &Token<'_>) {
        match self.words {
            0 => {
                self.bare = token.is("set");
                self.owner = token.is("alter") || token.is("create");
            }
            1 => self.bare |= self.owner && is_one_of(token, &OWNERS),
            _ => {}
        }
        self.words += 1;
        if token.is("insert") {
            self.insert = Some(Insert {
                depth: self.depth,
                listed: false,
                values: false,
                secret: 0,
            });
        } else if token.is("values")
            && let Some(insert) = &mut self.insert
            && insert.depth == self.depth
        {
            insert.values = true;
        }
    }

    /// A secret name in the list of columns of an `INSERT`.
    fn note_column(&mut self) {
        if let (Some(list), Some(insert)) = (self.lists.last(), &mut self.insert)
            && list.columns
            && list.depth == self.depth
        {
            insert.secret |= bit(list.index);
        }
    }

    fn literal(&mut self, token: &Token<'_>) {
        self.value_begins();
        if self.is_secret_here() || gives_away(token.inner) {
            self.cut(token.start, token.end(), b"'***'");
            self.value_seen();
        } else if has_place(token.inner) {
            self.scope = Some(Scope {
                depth: self.depth,
                expression: false,
                seen: false,
            });
        } else if ends_in_name(token.inner) {
            self.name = Name::Literal;
            return;
        }
        self.name = Name::None;
    }

    fn dollar(&mut self, token: &Token<'a>) {
        self.value_begins();
        self.name = Name::None;
        let secret = self.is_secret_here();
        if !secret && !FINDER.is_match(token.inner) {
            return;
        }
        if !secret && !is_data(token.inner) && self.level < DEEPEST {
            let mut within = Scan::new(token.inner, self.level + 1);
            if within.run().is_ok() {
                let marks = (token.text.len() - token.inner.len()) / 2;
                let offset = token.start + marks;
                self.cuts.extend(within.cuts.iter().map(|cut| Cut {
                    start: cut.start + offset,
                    end: cut.end + offset,
                    with: cut.with,
                }));
                return;
            }
        } else if !secret && is_data(token.inner) && !gives_away(token.inner) {
            return;
        }
        self.cut(token.start, token.end(), b"'***'");
        self.value_seen();
    }

    fn parameter(&mut self, token: &Token<'_>) {
        self.value_begins();
        self.name = Name::None;
        if self.is_secret_here() {
            let number = token.text.get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
            self.parameters.extend(number.and_then(|digits| digits.parse::<u16>().ok()));
            self.value_seen();
        }
    }

    fn number(&mut self, token: &Token<'_>) {
        let fresh = self.scope.is_some_and(|scope| scope.depth == self.depth && !scope.seen);
        if self.bare && (fresh || matches!(self.name, Name::Password | Name::Operated)) {
            self.cut_bare(token);
        } else if fresh {
            self.cut(token.start, token.end(), b"***");
            self.value_seen();
        }
        self.name = Name::None;
    }

    fn sign(&mut self, token: &Token<'_>) {
        match token.text {
            b"(" | b"[" => self.open(),
            b")" | b"]" => {
                self.depth = self.depth.saturating_sub(1);
                self.scope = self.scope.filter(|scope| scope.depth <= self.depth);
                while self.lists.last().is_some_and(|list| list.depth > self.depth) {
                    self.lists.pop();
                }
            }
            b"," => self.comma(),
            b";" => {
                *self = Self {
                    lexer: self.lexer,
                    cuts: std::mem::take(&mut self.cuts),
                    parameters: std::mem::take(&mut self.parameters),
                    ..Self::new(b"", self.level)
                };
            }
            b"::" => {}
            b"." => self.name = Name::None,
            _ => {
                if self.name != Name::None {
                    self.open_scope();
                }
            }
        }
    }

    fn open(&mut self) {
        if self.name == Name::Operated {
            self.open_scope();
        }
        self.name = Name::None;
        let mut columns = false;
        if let Some(insert) = &mut self.insert
            && insert.depth == self.depth
        {
            if insert.values {
                self.coming = Some(insert.secret);
            } else if !insert.listed {
                insert.listed = true;
                columns = true;
            }
        }
        self.depth += 1;
        let secret = self.coming.take().unwrap_or(0);
        if columns || secret != 0 {
            self.lists.push(List {
                depth: self.depth,
                index: 0,
                secret,
                columns,
            });
        }
    }

    fn comma(&mut self) {
        if self.scope.is_some_and(|scope| scope.expression && scope.depth == self.depth) {
            self.scope = None;
        }
        if let Some(list) = self.lists.last_mut()
            && list.depth == self.depth
        {
            list.index += 1;
        }
        // `set_config('app.password', 'x')`
        if self.name == Name::Literal {
            self.open_scope();
        }
        self.name = Name::None;
    }

    fn open_scope(&mut self) {
        self.name = Name::None;
        self.scope = Some(Scope {
            depth: self.depth,
            expression: true,
            seen: false,
        });
    }

    /// A value right behind a name is the name's.
    fn value_begins(&mut self) {
        if matches!(self.name, Name::Word | Name::Password | Name::Operated) {
            self.open_scope();
        }
    }

    fn value_seen(&mut self) {
        if let Some(scope) = &mut self.scope {
            scope.seen = true;
        }
    }

    fn is_secret_here(&self) -> bool {
        let listed = |list: &List| list.secret & bit(list.index) != 0;
        self.scope.is_some() || self.lists.iter().any(listed)
    }

    /// A value without quotes, as far as it goes.
    fn cut_bare(&mut self, token: &Token<'_>) {
        let end = self.lexer.skip_to_space().max(token.end());
        self.cut(token.start, end, b"***");
        self.value_seen();
    }

    fn cut(&mut self, start: usize, end: usize, with: &'static [u8]) {
        self.cuts.push(Cut { start, end, with });
    }
}

fn is_one_of(token: &Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| token.is(word))
}

/// A place in a list; all beyond the 63rd share one.
fn bit(index: u32) -> u64 {
    1 << index.min(63)
}
