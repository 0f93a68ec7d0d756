//! Position of the scan within an SQL text: the parentheses and CASEs around it, the values in their lists, and which of these
//! are secret.
//!
//! This module reads no tokens and knows no names: the scan calls it for each.
//!
//! INVARIANT: each step has the same average cost, so that no shape of a text makes the scan slow.

use super::{RedactedRange, TooDeepError};

/// Maximum depth of PostgreSQL's parser (`YYMAXDEPTH` of bison).
const MAX_NESTING: usize = 10_000;

/// Range in which literals are secret: up to the end of the expression, or else of the parenthesis.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecretScope {
    /// True if the range ends with the expression.
    pub(super) expression: bool,
    /// True if the value comes directly after the name; anything after it is not part of the value.
    pub(super) right_behind: bool,
    /// True if a value was seen.
    pub(super) seen: bool,
}

/// State of an `INSERT INTO t (…) VALUES (…)`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InsertState {
    /// True if its columns have been listed.
    pub(super) listed: bool,
    /// True if `VALUES` was seen.
    pub(super) values: bool,
    /// Secret columns, as bits.
    pub(super) secret: u64,
}

/// Properties of an opening parenthesis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OpeningKind {
    /// True if it is a `CASE` instead of a parenthesis.
    pub(super) case: bool,
    /// Secret positions of the list, as bits.
    pub(super) secret: u64,
    /// True if it lists the columns of an `INSERT`.
    pub(super) columns: bool,
    /// True if a secret name before it continues after its end.
    pub(super) resumes: bool,
}

/// Level of nesting: within a parenthesis, or the outermost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NestLevel {
    of: OpeningKind,
    /// Position in the list.
    index: u32,
    /// Numbers of values seen when the level began, and when its current expression did.
    opened: usize,
    start: usize,
    /// True if a secret name was seen in it.
    named: bool,
    /// True if everything within is secret because of what surrounds it.
    covered: bool,
    /// True if everything that follows is secret.
    pub(super) all: bool,
    pub(super) scope: Option<SecretScope>,
    pub(super) insert: Option<InsertState>,
}

/// Value that is not secret, unless a name after it makes it so (`'x' AS password`).
#[derive(Debug, Clone, Copy)]
pub(super) enum PlainValue {
    Text(RedactedRange),
    Parameter(u16),
}

/// Secret name before a parenthesis, as it continues after the end.
pub(super) enum ClosedName {
    /// There was no name.
    Plain,
    /// A name was within: the whole counts as the name.
    Named,
    /// A name was before it.
    Resumed,
}

impl NestLevel {
    pub(super) fn of_case(&self) -> bool {
        self.of.case
    }
}

/// Stack of levels, with the results found in them.
#[derive(Debug, Default)]
pub(super) struct Nest {
    outer: Vec<NestLevel>,
    pub(super) top: NestLevel,
    values: Vec<PlainValue>,
    pub(super) cuts: Vec<RedactedRange>,
    pub(super) parameters: Vec<u16>,
}

impl Nest {
    /// Returns true if a value at this position is secret.
    pub(super) fn is_secret(&self) -> bool {
        let top = &self.top;
        top.covered || top.all || top.scope.is_some() || top.of.secret & bit(top.index) != 0
    }

    /// Returns true if an expression waits for its first secret value.
    pub(super) fn is_fresh(&self) -> bool {
        self.top.scope.is_some_and(|scope| !scope.seen)
    }

    /// Takes a secret value.
    pub(super) fn secret(&mut self, value: PlainValue) {
        match value {
            PlainValue::Text(cut) => self.cuts.push(cut),
            PlainValue::Parameter(number) => self.parameters.push(number),
        }
        if let Some(scope) = &mut self.top.scope {
            scope.seen = true;
        }
    }

    /// Takes a value that is not secret so far.
    pub(super) fn plain(&mut self, value: PlainValue) {
        self.values.push(value);
    }

    /// Takes a secret name: the values before it in its expression belong to it, and a column may be secret.
    pub(super) fn name(&mut self) {
        let start = self.top.start;
        self.reveal(start, self.values.len());
        self.values.truncate(start);
        self.top.named = true;
        if self.top.of.columns
            && let Some(insert) = self.outer.last_mut().and_then(|outer| outer.insert.as_mut())
        {
            insert.secret |= bit(self.top.index);
        }
    }

    /// Makes the values of the current expression secret, because the next token is unknown and may be a secret name.
    pub(super) fn give_up(&mut self) {
        self.reveal(self.top.start, self.values.len());
    }

    fn reveal(&mut self, from: usize, to: usize) {
        for value in self.values.get(from..to).unwrap_or_default() {
            match value {
                PlainValue::Text(cut) => self.cuts.push(*cut),
                PlainValue::Parameter(number) => self.parameters.push(*number),
            }
        }
    }

    /// Ends an expression and begins the next one.
    pub(super) fn next_expression(&mut self) {
        self.top.scope = self.top.scope.filter(|scope| !scope.expression);
        self.top.start = self.values.len();
    }

    /// Moves on to the next position of a list.
    pub(super) fn next_place(&mut self) {
        self.next_expression();
        self.top.index += 1;
    }

    pub(super) fn open(&mut self, of: OpeningKind) -> Result<(), TooDeepError> {
        if self.outer.len() >= MAX_NESTING {
            return Err(TooDeepError);
        }
        let inner = NestLevel {
            of,
            opened: self.values.len(),
            start: self.values.len(),
            covered: self.is_secret(),
            ..NestLevel::default()
        };
        self.outer.push(std::mem::replace(&mut self.top, inner));
        Ok(())
    }

    /// Closes a parenthesis, with any `CASE` that is still open in it; or closes a `CASE`.
    pub(super) fn close(&mut self, case: bool) -> ClosedName {
        let mut named = false;
        while case == self.top.of.case || !case {
            let Some(outer) = self.outer.pop() else { break };
            let inner = std::mem::replace(&mut self.top, outer);
            if inner.named {
                // `('x', 'y') = (a, password)`
                self.reveal(self.top.start, inner.opened);
                self.top.start = self.values.len();
                self.top.named = true;
                named = true;
            }
            if inner.of.case == case {
                return match (named, inner.of.resumes) {
                    (true, _) => ClosedName::Named,
                    (false, true) => ClosedName::Resumed,
                    (false, false) => ClosedName::Plain,
                };
            }
        }
        ClosedName::Plain
    }

    /// Ends a command; results stay.
    pub(super) fn end(&mut self) {
        self.outer.clear();
        self.values.clear();
        self.top = NestLevel::default();
    }
}

/// Returns the bit of a position in a list; all beyond the 63rd share one.
fn bit(index: u32) -> u64 {
    1 << index.min(63)
}
