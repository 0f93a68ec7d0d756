//! Where in an SQL text the scan is: the parentheses and CASEs around it, what stands in their places, and what of it is secret.
//!
//! It reads no tokens and knows no names: it is told that one has come.
//!
//! INVARIANT: whatever the text, a step costs the same on average: no shape of it makes the whole slow.

use super::{Cut, Deep};

/// PostgreSQL's parser goes no deeper (`YYMAXDEPTH` of bison).
const DEEPEST: usize = 10_000;

/// Where literals are secret: to the end of the expression, or else of the parenthesis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// It ends with the expression.
    pub(super) expression: bool,
    /// The value stands right behind the name: what comes after it is something else.
    pub(super) right_behind: bool,
    /// A value has come.
    pub(super) seen: bool,
}

/// An `INSERT INTO t (…) VALUES (…)`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Insert {
    /// Its columns have been listed.
    pub(super) listed: bool,
    /// `VALUES` has come.
    pub(super) values: bool,
    /// Which columns are secret.
    pub(super) secret: u64,
}

/// What a parenthesis is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Opening {
    /// It is no parenthesis but a `CASE`.
    pub(super) case: bool,
    /// Which places of the list are secret.
    pub(super) secret: u64,
    /// The columns of an `INSERT`.
    pub(super) columns: bool,
    /// There is a secret name before it that its end goes on with.
    pub(super) resumes: bool,
}

/// One level: between two parentheses, or the outermost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Level {
    of: Opening,
    /// Where in the list.
    index: u32,
    /// The values seen when it began, and when its expression did.
    opened: usize,
    start: usize,
    /// A secret name has come in it.
    named: bool,
    /// All within is secret, for what is around it.
    covered: bool,
    /// All that follows is secret.
    pub(super) all: bool,
    pub(super) scope: Option<Scope>,
    pub(super) insert: Option<Insert>,
}

/// A value that is no secret, as long as no name behind it says otherwise (`'x' AS password`).
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Text(Cut),
    Parameter(u16),
}

/// How the secret name before a parenthesis goes on behind it.
pub(super) enum Closed {
    /// There was none.
    Plain,
    /// One stands within: it is as if the whole were the name.
    Named,
    /// One stands before it.
    Resumed,
}

impl Level {
    pub(super) fn of_case(&self) -> bool {
        self.of.case
    }
}

/// All levels, and what was found in them.
#[derive(Debug, Default)]
pub(super) struct Nest {
    outer: Vec<Level>,
    pub(super) top: Level,
    values: Vec<Value>,
    pub(super) cuts: Vec<Cut>,
    pub(super) parameters: Vec<u16>,
}

impl Nest {
    /// Whether a value here is secret.
    pub(super) fn is_secret(&self) -> bool {
        let top = &self.top;
        top.covered || top.all || top.scope.is_some() || top.of.secret & bit(top.index) != 0
    }

    /// Whether an expression waits for its first secret value.
    pub(super) fn is_fresh(&self) -> bool {
        self.top.scope.is_some_and(|scope| !scope.seen)
    }

    /// A secret value.
    pub(super) fn secret(&mut self, value: Value) {
        match value {
            Value::Text(cut) => self.cuts.push(cut),
            Value::Parameter(number) => self.parameters.push(number),
        }
        if let Some(scope) = &mut self.top.scope {
            scope.seen = true;
        }
    }

    /// A value that is not secret so far.
    pub(super) fn plain(&mut self, value: Value) {
        self.values.push(value);
    }

    /// A secret name has come: the values before it in its expression are its own, and so may be a column.
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

    /// Nobody knows what comes next: it may be a secret name.
    pub(super) fn give_up(&mut self) {
        self.reveal(self.top.start, self.values.len());
    }

    fn reveal(&mut self, from: usize, to: usize) {
        for value in self.values.get(from..to).unwrap_or_default() {
            match value {
                Value::Text(cut) => self.cuts.push(*cut),
                Value::Parameter(number) => self.parameters.push(*number),
            }
        }
    }

    /// An expression begins, and the one before it is over.
    pub(super) fn next_expression(&mut self) {
        self.top.scope = self.top.scope.filter(|scope| !scope.expression);
        self.top.start = self.values.len();
    }

    /// The next place of a list.
    pub(super) fn next_place(&mut self) {
        self.next_expression();
        self.top.index += 1;
    }

    pub(super) fn open(&mut self, of: Opening) -> Result<(), Deep> {
        if self.outer.len() >= DEEPEST {
            return Err(Deep);
        }
        let inner = Level {
            of,
            opened: self.values.len(),
            start: self.values.len(),
            covered: self.is_secret(),
            ..Level::default()
        };
        self.outer.push(std::mem::replace(&mut self.top, inner));
        Ok(())
    }

    /// The end of a parenthesis, and of any `CASE` that was left open in it; or of a `CASE`.
    pub(super) fn close(&mut self, case: bool) -> Closed {
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
                    (true, _) => Closed::Named,
                    (false, true) => Closed::Resumed,
                    (false, false) => Closed::Plain,
                };
            }
        }
        Closed::Plain
    }

    /// A command ends; what was found stays found.
    pub(super) fn end(&mut self) {
        self.outer.clear();
        self.values.clear();
        self.top = Level::default();
    }
}

/// A place in a list; all beyond the 63rd share one.
fn bit(index: u32) -> u64 {
    1 << index.min(63)
}
