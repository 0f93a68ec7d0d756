//! Turns PostgreSQL's tokens into those of sqlparser, which does not determine the ends of tokens itself.
//!
//! This module parses nothing. Literals have their values, and names are as PostgreSQL stores them, whatever their spelling;
//! some spellings that PostgreSQL reads and the parser does not are replaced by others with the same meaning.
//!
//! INVARIANT: a token that is not certain is an error, and so is one that no grammar knows.

use std::borrow::Cow;

use sqlparser::ast::DollarQuotedString;
use sqlparser::dialect::Dialect as _;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::ParseFailure;
use super::budget::POSTGRES;
use crate::protocol::lexer::{self, Encoding, Lexer, LexerSettings, TokenKind};

/// Splits a text into tokens, as PostgreSQL does under these settings, without blanks and comments.
pub(crate) fn tokens(text: &[u8], settings: LexerSettings) -> Result<Vec<Token>, ParseFailure> {
    let masked = settings.mask(text).ok_or(ParseFailure::Ambiguous)?;
    let mut source = TokenSource {
        lexer: Lexer::under(&masked, settings),
        compares: settings.encoding.is_utf8() || settings.encoding == Encoding::UNSETTLED,
    };
    // A token has four to five bytes on average.
    let mut tokens = Vec::with_capacity(text.len() / 4 + 1);
    while let Some(token) = source.lexer.next_code() {
        tokens.push(source.token(&token)?);
    }
    Ok(tokens)
}

/// Text with its lexer.
struct TokenSource<'a> {
    lexer: Lexer<'a>,
    /// True if non-ASCII names are written as those in the log are. In an encoding that is not settled they mostly are; bytes
    /// that are not UTF-8 are no name in any case.
    compares: bool,
}

impl TokenSource<'_> {
    fn token(&mut self, token: &lexer::Token<'_>) -> Result<Token, ParseFailure> {
        Ok(match token.kind {
            TokenKind::Ambiguous => return Err(ParseFailure::Ambiguous),
            TokenKind::Unfinished | TokenKind::Comment => return Err(ParseFailure::Syntax),
            TokenKind::Word => Token::make_word(&self.name(token)?, None),
            TokenKind::Quoted => Token::make_word(&self.name(token)?, Some('"')),
            TokenKind::Literal | TokenKind::Escaped | TokenKind::Dollar => self.literal(token)?,
            TokenKind::Parameter => Token::Placeholder(lossy(token.text)),
            TokenKind::Number => Token::Number(lossy(token.text), false),
            TokenKind::Sign => sign(token.text).ok_or(ParseFailure::Syntax)?,
        })
    }

    fn name(&mut self, token: &lexer::Token<'_>) -> Result<String, ParseFailure> {
        if token.is_by_code_points() {
            let name = token.code_points(self.escape()?).ok_or(ParseFailure::Syntax)?;
            return lexer::stored_name(Cow::Owned(name))
                .map(Cow::into_owned)
                .ok_or(ParseFailure::Ambiguous);
        }
        let certain = self.compares || token.text.is_ascii();
        let name = token.identifier().filter(|_| certain);
        name.map(Cow::into_owned).ok_or(ParseFailure::Ambiguous)
    }

    fn literal(&mut self, token: &lexer::Token<'_>) -> Result<Token, ParseFailure> {
        if token.is_by_code_points() {
            let escape = self.escape()?;
            return token
                .code_points(escape)
                .map(Token::SingleQuotedString)
                .ok_or(ParseFailure::Syntax);
        }
        // The value is compared with ASCII words only, so masked bytes may stay.
        let value = lossy(&token.value().ok_or(ParseFailure::Syntax)?);
        Ok(match (token.kind, token.prefix()) {
            (TokenKind::Dollar, _) => Token::DollarQuotedString(DollarQuotedString { value, tag: None }),
            (_, Some(b'n')) => Token::NationalStringLiteral(value),
            (_, Some(b'b')) => Token::SingleQuotedByteStringLiteral(value),
            (_, Some(b'x')) => Token::HexStringLiteral(value),
            _ => Token::SingleQuotedString(value),
        })
    }

    /// Takes a `UESCAPE` clause that follows, and returns the escape character.
    fn escape(&mut self) -> Result<u8, ParseFailure> {
        let mut ahead = self.lexer;
        if !ahead.next_code().is_some_and(|next| next.is("uescape")) {
            return Ok(b'\\');
        }
        let literal = ahead.next_code().filter(|literal| !literal.is_by_code_points());
        let value = literal.and_then(|literal| literal.value());
        match value.as_deref() {
            Some([escape]) => {
                self.lexer = ahead;
                Ok(*escape)
            }
            _ => Err(ParseFailure::Syntax),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the token of an operator or another sign. `None`: SQL has no such sign.
fn sign(text: &[u8]) -> Option<Token> {
    Some(match text {
        b"," => Token::Comma,
        b";" => Token::SemiColon,
        b"(" => Token::LParen,
        b")" => Token::RParen,
        b"." => Token::Period,
        b"=" => Token::Eq,
        b"*" => Token::Mul,
        b"::" => Token::DoubleColon,
        b"[" => Token::LBracket,
        b"]" => Token::RBracket,
        b":" => Token::Colon,
        b":=" => Token::Assignment,
        // Those that most statements have, without another tokenizer for each.
        b"<" => Token::Lt,
        b">" => Token::Gt,
        b"<=" => Token::LtEq,
        b">=" => Token::GtEq,
        b"<>" | b"!=" => Token::Neq,
        b"+" => Token::Plus,
        b"-" => Token::Minus,
        b"/" => Token::Div,
        b"%" => Token::Mod,
        b"||" => Token::StringConcat,
        _ => return operator(text),
    })
}

/// Returns the token of an operator. One that sqlparser does not have is an operator of the database's own.
fn operator(text: &[u8]) -> Option<Token> {
    let text = std::str::from_utf8(text).ok()?;
    if !text.chars().all(|character| POSTGRES.is_custom_operator_part(character)) {
        return None;
    }
    let mut known = Tokenizer::new(&POSTGRES, text).tokenize().unwrap_or_default();
    match known.as_slice() {
        // These two are sqlparser's with another precedence than PostgreSQL's "any other operator".
        [Token::Char(_) | Token::Spaceship | Token::DoubleEq] => Some(Token::CustomBinaryOperator(text.to_owned())),
        [_] => known.pop(),
        _ => Some(Token::CustomBinaryOperator(text.to_owned())),
    }
}

/// Rewrites spellings that PostgreSQL reads and the parser does not: `TABLE t` becomes `SELECT * FROM t`, `FOR NO KEY UPDATE` a
/// lock like `FOR UPDATE`, `BETWEEN SYMMETRIC` is treated like `BETWEEN`, `MOVE` like `FETCH`, `(row).*` like the row,
/// `OPERATOR(pg_catalog.=)` like `=`; `ONLY` before a table's name, which would be taken for the name, is removed.
pub(super) fn as_the_parser_knows(tokens: Vec<Token>) -> Vec<Token> {
    let mut known = Vec::with_capacity(tokens.len() + 2);
    let mut first = None;
    for mut token in tokens {
        if first.is_none()
            && matches!(&token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("move"))
        {
            token = Token::make_word("fetch", None);
        }
        let (word, before) = (keyword(&token), known.last());
        match (before.map(keyword), word) {
            (before_word, Keyword::TABLE) if is_query(first, before_word, before) => {
                first = first.or(Some(Keyword::SELECT));
                known.extend([Token::make_word("select", None), Token::Mul, Token::make_word("from", None)]);
                continue;
            }
            (Some(Keyword::FOR), Keyword::NO | Keyword::KEY)
            | (Some(Keyword::BETWEEN), Keyword::SYMMETRIC | Keyword::ASYMMETRIC) => {
                continue;
            }
            (Some(before_word), Keyword::ONLY) if BEFORE_TABLES.contains(&before_word) || before == Some(&Token::Comma) => {
                continue;
            }
            _ => {}
        }
        if token == Token::Mul
            && let [.., Token::RParen | Token::RBracket, Token::Period] = known.as_slice()
        {
            known.pop();
            continue;
        }
        if token == Token::RParen
            && let [.., operator, Token::LParen, Token::Word(schema), Token::Period, _] = known.as_slice()
            && keyword(operator) == Keyword::OPERATOR
            && schema.value == "pg_catalog"
            && let Some(named) = known.pop()
        {
            known.truncate(known.len().saturating_sub(4));
            known.push(named);
            continue;
        }
        first = if token == Token::SemiColon {
            None
        } else {
            first.or(Some(word))
        };
        known.push(token);
    }
    known
}

/// Keywords that come before names of tables.
const BEFORE_TABLES: [Keyword; 8] = [
    Keyword::FROM,
    Keyword::JOIN,
    Keyword::UPDATE,
    Keyword::INTO,
    Keyword::TABLE,
    Keyword::TRUNCATE,
    Keyword::LOCK,
    Keyword::USING,
];

/// Returns true if `TABLE` begins a query, after this token and in a command that begins with `first`.
fn is_query(first: Option<Keyword>, word: Option<Keyword>, before: Option<&Token>) -> bool {
    let Some(first) = first else { return true };
    let set = [
        Keyword::AS,
        Keyword::UNION,
        Keyword::EXCEPT,
        Keyword::INTERSECT,
        Keyword::ALL,
        Keyword::DISTINCT,
    ];
    let explained = [Keyword::EXPLAIN, Keyword::ANALYZE, Keyword::VERBOSE];
    let closed = before == Some(&Token::RParen);
    match (first, word) {
        _ if before == Some(&Token::LParen) => true,
        (_, Some(word)) if set.contains(&word) => true,
        (Keyword::INSERT, _) => true,
        (Keyword::WITH, _) => closed,
        (Keyword::EXPLAIN, Some(word)) => closed || explained.contains(&word),
        (Keyword::DECLARE, word) => word == Some(Keyword::FOR),
        _ => false,
    }
}

/// Returns the keyword of a token, if it is one.
fn keyword(token: &Token) -> Keyword {
    match token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    }
}
