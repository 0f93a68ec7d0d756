//! PostgreSQL's dialect for sqlparser, with a limit on the work of the parser.
//!
//! The dialect does not change the language that is parsed. INVARIANT: the parser's work is bounded, whatever the text.
//! sqlparser backtracks after a wrong guess (`maybe_parse`), and in nested brackets it does so twice at each level:
//! `position(position(…` of thirty levels takes a minute. Each attempt begins with an expression, so these are counted; the
//! first one beyond the budget and all later ones fail at once.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

/// Dialect that it stands for.
pub(super) const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};
/// Number of expressions that any text may begin, in addition to [`BUDGET_PER_TOKEN`] for each of its tokens.
const MIN_BUDGET: usize = 1_000;
/// Number of expressions per token: one begins for each operand and bracket, and several if the parser guesses.
const BUDGET_PER_TOKEN: usize = 16;

/// Dialect with the budget of one text.
#[derive(Debug)]
pub(super) struct BudgetedDialect {
    left: Cell<usize>,
}

impl BudgetedDialect {
    pub(super) fn new(tokens: usize) -> Self {
        Self {
            left: Cell::new(tokens.saturating_mul(BUDGET_PER_TOKEN).saturating_add(MIN_BUDGET)),
        }
    }

    /// Reports whether the parser was stopped.
    pub(super) fn spent(&self) -> bool {
        self.left.get() == 0
    }
}

/// Forwards properties of the dialect. A property of a later version that is not listed here has the trait's default.
macro_rules! as_postgres {
    ($($question:ident)*) => { $(fn $question(&self) -> bool { POSTGRES.$question() })* };
}

impl Dialect for BudgetedDialect {
    /// Returns PostgreSQL's type id, because the parser compares it, too.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, _parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        (left == 0).then_some(Err(ParserError::RecursionLimitExceeded))
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        POSTGRES.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn is_table_alias(&self, keyword: &Keyword, parser: &mut Parser) -> bool {
        POSTGRES.is_table_alias(keyword, parser)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    as_postgres! {
        supports_unicode_string_literal
        supports_filter_during_aggregation
        supports_group_by_expr
        supports_alter_user_as_alter_role
        allow_extract_custom
        allow_extract_single_quotes
        supports_create_index_with_clause
        supports_explain_with_utility_options
        supports_listen_notify
        supports_exclude_constraint
        supports_factorial_operator
        supports_bitwise_shift_operators
        supports_comment_on
        supports_load_extension
        supports_named_fn_args_with_colon_operator
        supports_named_fn_args_with_expr_name
        supports_empty_projections
        supports_nested_comments
        supports_string_escape_constant
        supports_numeric_literal_underscores
        supports_array_typedef_with_brackets
        supports_geometric_types
        supports_order_by_using_operator
        supports_set_names
        supports_alter_column_type_using
        supports_left_associative_joins_without_parens
        supports_notnull_operator
        supports_interval_options
        supports_insert_table_alias
        supports_create_table_like_parenthesized
        supports_select_wildcard_with_alias
        supports_comma_separated_trim
        supports_xml_expressions
        supports_aliased_function_args
        supports_comment_optimizer_hint
    }
}
