//! Turns sqlparser's tree into a [`SqlAnalysis`].
//!
//! A text that the parser does not know is an error, and the result says so; this module guesses nothing.
//!
//! INVARIANT: no text makes it use more stack than a thread has: the possible depth of a tree is computed before the tree is
//! built, because sqlparser builds `a + b + c + …` without recursion, and dropping such a tree recurses. Nor does it take more
//! time than the text's length allows: [`BudgetedDialect`].

use std::ops::ControlFlow;

use sqlparser::ast::{
    CopySource, Cte, Expr, FromTable, GrantObjects, Insert, ObjectName, ObjectType, Query, Select, SetExpr, Statement,
    TableFactor, TableObject, UtilityOption, Visit, Visitor,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::budget::BudgetedDialect;
use super::tokens::as_the_parser_knows;
pub(crate) use super::tokens::tokens;
use super::{CommandClass, ParseFailure, SqlAnalysis, TableName, folded};
use crate::protocol::lexer::LexerSettings;

/// Maximum depth of a tree that is built.
const MAX_TREE_DEPTH: usize = 500;

pub(super) fn parse(text: &[u8], settings: LexerSettings) -> Result<SqlAnalysis, ParseFailure> {
    let statements = tokens(text, settings).and_then(statements)?;
    Ok(SqlAnalysis {
        commands: u32::try_from(statements.len()).unwrap_or(u32::MAX),
        ..read(&statements)
    })
}

/// Parses tokens into statements.
pub(crate) fn statements(tokens: Vec<Token>) -> Result<Vec<Statement>, ParseFailure> {
    if depth(&tokens) > MAX_TREE_DEPTH {
        return Err(ParseFailure::Deep);
    }
    let dialect = BudgetedDialect::new(tokens.len());
    let mut rest = as_the_parser_knows(tokens);
    let mut statements = Vec::new();
    // Taking them from the end avoids moving the rest; mostly there is one statement.
    while let Some(last) = rest.iter().rposition(|token| *token != Token::SemiColon) {
        rest.truncate(last + 1);
        let command = match rest.iter().rposition(|token| *token == Token::SemiColon) {
            Some(before) => rest.split_off(before + 1),
            None => std::mem::take(&mut rest),
        };
        statements.push(statement(command, &dialect)?);
    }
    statements.reverse();
    Ok(statements)
}

/// Parses exactly one statement. The parser's own loop would ignore the tokens after `SELECT 1 END`, and take the tokens after
/// `COPY t FROM STDIN;` for data.
fn statement(tokens: Vec<Token>, dialect: &BudgetedDialect) -> Result<Statement, ParseFailure> {
    let mut parser = Parser::new(dialect).with_tokens(tokens);
    let failed = |_| {
        if dialect.spent() {
            ParseFailure::Deep
        } else {
            ParseFailure::Syntax
        }
    };
    let statement = parser.parse_statement().map_err(failed)?;
    if parser.peek_token_ref().token == Token::EOF {
        Ok(statement)
    } else {
        Err(ParseFailure::Syntax)
    }
}

/// Returns the tables and classes of statements.
pub(crate) fn read(statements: &Vec<Statement>) -> SqlAnalysis {
    let mut finder = TableFinder::default();
    // The visitor never breaks off.
    let _ = statements.visit(&mut finder);
    finder.reading
}

/// Returns a limit for the depth of the tree of these tokens (without brackets, which the parser limits). Any token that is no
/// name, literal or comma may add a level to the list item it is in; an item's levels end with it; set operations continue
/// across commas.
fn depth(tokens: &[Token]) -> usize {
    let mut deepest = 0;
    let mut unions = 0;
    // Levels of the open items, and their sum.
    let (mut open, mut sum) = (vec![0_usize], 0_usize);
    for token in tokens {
        match token {
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::Placeholder(_) => continue,
            Token::Word(word) if word.keyword == Keyword::NoKeyword => continue,
            Token::SemiColon => {
                (open, sum, unions) = (vec![0], 0, 0);
                continue;
            }
            Token::Comma => {
                sum -= open.last_mut().map(std::mem::take).unwrap_or_default();
                continue;
            }
            Token::Word(word) if matches!(word.keyword, Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT) => unions += 1,
            Token::LParen | Token::LBracket | Token::LBrace => open.push(0),
            Token::RParen | Token::RBracket | Token::RBrace if open.len() > 1 => sum -= open.pop().unwrap_or_default(),
            _ => {}
        }
        if let Some(item) = open.last_mut() {
            *item += 1;
            sum += 1;
        }
        deepest = deepest.max(sum + unions);
    }
    deepest
}

/// Visitor that collects tables and classes.
#[derive(Default)]
struct TableFinder {
    reading: SqlAnalysis,
    /// `WITH` clauses around the current position.
    scopes: Vec<CteScope>,
    /// Names in `FROM` that are functions.
    functions: Vec<*const ObjectName>,
    /// Number of statements around the current position that name another one and do not execute it.
    planned: u32,
}

/// Names that a `WITH` clause defines, and its queries by address. Without `RECURSIVE`, a query sees only the names before its
/// own.
#[derive(Default)]
struct CteScope {
    names: Vec<String>,
    queries: Vec<*const Query>,
    visible: usize,
}

impl TableFinder {
    fn table(&mut self, name: &ObjectName) {
        let Some(table) = TableName::of(name) else { return };
        let of_with = |scope: &CteScope| scope.names.iter().take(scope.visible).any(|name| *name == table.name);
        if table.schema.is_none() && self.scopes.iter().any(of_with) {
            return;
        }
        if !self.reading.tables.contains(&table) {
            self.reading.tables.push(table);
        }
    }

    fn written(&mut self, name: &ObjectName) {
        let Some(table) = TableName::of(name).filter(|_| self.planned == 0) else {
            return;
        };
        if !self.reading.written.contains(&table) {
            self.reading.written.push(table);
        }
    }

    fn written_factor(&mut self, factor: &TableFactor) {
        if let TableFactor::Table { name, .. } = factor {
            self.written(name);
        }
    }

    /// Collects the tables that a statement itself changes.
    fn changes(&mut self, statement: &Statement) {
        match statement {
            Statement::Insert(Insert {
                table: TableObject::TableName(name),
                ..
            }) => self.written(name),
            Statement::Update(update) => self.written_factor(&update.table.relation),
            Statement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
                from.iter().for_each(|table| self.written_factor(&table.relation));
            }
            Statement::Merge(merge) => self.written_factor(&merge.table),
            Statement::Truncate(truncate) => truncate.table_names.iter().for_each(|table| self.written(&table.name)),
            Statement::Copy {
                source: CopySource::Table { table_name, .. },
                to: false,
                ..
            } => self.written(table_name),
            Statement::CreateTable(create) => self.written(&create.name),
            Statement::AlterTable(alter) => self.written(&alter.name),
            Statement::Drop {
                object_type: ObjectType::Table,
                names,
                ..
            } => names.iter().for_each(|name| self.written(name)),
            _ => {}
        }
    }

    fn tables<'a>(&mut self, names: impl IntoIterator<Item = &'a ObjectName>) {
        names.into_iter().for_each(|name| self.table(name));
    }

    fn class(&mut self, class: CommandClass) {
        self.reading.opaque |= class.is_opaque();
        if !self.reading.classes.contains(&class) {
            self.reading.classes.push(class);
        }
    }

    /// Collects tables at those places of a statement that the visitor does not treat as relations.
    fn others(&mut self, statement: &Statement) {
        match statement {
            Statement::Copy {
                source: CopySource::Table { table_name, .. },
                ..
            } => self.table(table_name),
            Statement::Drop {
                object_type: ObjectType::Table | ObjectType::View | ObjectType::MaterializedView,
                names,
                ..
            } => self.tables(names),
            Statement::Grant(grant) => self.granted(grant.objects.as_ref()),
            Statement::Revoke(revoke) => self.granted(revoke.objects.as_ref()),
            Statement::CreateTable(create) => self.tables(create.inherits.iter().flatten()),
            _ => {}
        }
    }

    fn granted(&mut self, objects: Option<&GrantObjects>) {
        if let Some(GrantObjects::Tables(names)) = objects {
            self.tables(names);
        }
    }
}

impl Visitor for TableFinder {
    type Break = std::convert::Infallible;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        if let Some(class) = class(statement) {
            self.class(class);
        }
        self.others(statement);
        self.changes(statement);
        self.planned += u32::from(only_plans(statement));
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        self.planned -= u32::from(only_plans(statement));
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let with = query.with.as_ref();
        let ctes: &[Cte] = with.map_or(&[], |with| &with.cte_tables);
        self.scopes.push(CteScope {
            names: ctes.iter().map(|cte| folded(&cte.alias.name)).collect(),
            queries: ctes.iter().map(|cte| std::ptr::from_ref(cte.query.as_ref())).collect(),
            visible: if with.is_some_and(|with| with.recursive) {
                ctes.len()
            } else {
                0
            },
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        if let Some(around) = self.scopes.last_mut()
            && let Some(at) = around.queries.iter().position(|cte| std::ptr::eq(*cte, query))
        {
            around.visible = around.visible.max(at + 1);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        for target in select.into.iter().flat_map(|into| &into.targets) {
            self.class(CommandClass::Ddl);
            let parts = match target {
                Expr::Identifier(name) => vec![name.clone()],
                Expr::CompoundIdentifier(parts) => parts.clone(),
                _ => continue,
            };
            let name = ObjectName::from(parts);
            self.table(&name);
            self.written(&name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            self.functions.push(std::ptr::from_ref(name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Self::Break> {
        if self.functions.iter().any(|function| std::ptr::eq(*function, relation)) {
            self.functions.clear();
        } else {
            self.table(relation);
        }
        ControlFlow::Continue(())
    }
}

/// Returns true if a statement names another one that it does not execute.
fn only_plans(statement: &Statement) -> bool {
    let analyzes = |options: &Vec<UtilityOption>| options.iter().any(|option| option.name.value.eq_ignore_ascii_case("analyze"));
    match statement {
        Statement::Explain { analyze, options, .. } => !analyze && !options.as_ref().is_some_and(analyzes),
        Statement::Prepare { .. } => true,
        _ => false,
    }
}

/// Returns the class of a statement; `None` if a nested statement determines it.
pub(crate) fn class(statement: &Statement) -> Option<CommandClass> {
    Some(match statement {
        Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => return None,
            _ => CommandClass::Select,
        },
        Statement::Explain { .. } | Statement::ExplainTable { .. } => CommandClass::Explain,
        Statement::CreateRole(_) | Statement::AlterRole { .. } => CommandClass::Privilege,
        // The first word determines the class; the parser prints a statement as it understood it.
        other => CommandClass::of_word(first_word(&first(other))),
    })
}

/// Returns true if a statement is a `DROP`.
pub(crate) fn drops(statement: &Statement) -> bool {
    first_word(&first(statement)).eq_ignore_ascii_case("drop")
}

fn first_word(text: &str) -> &str {
    super::words(text).next().unwrap_or_default()
}

/// Returns the beginning of a statement's text.
fn first(statement: &Statement) -> String {
    use std::fmt::Write as _;
    let mut beginning = FirstWord(String::new());
    // The writer stops it with an error on purpose.
    let _ = write!(beginning, "{statement}");
    beginning.0
}

/// Writer that stops after the first word: printing a whole statement takes longer than parsing it.
struct FirstWord(String);

impl std::fmt::Write for FirstWord {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.push_str(text);
        if self.0.trim_start().contains([' ', '(', ';', '\n']) {
            Err(std::fmt::Error)
        } else {
            Ok(())
        }
    }
}
