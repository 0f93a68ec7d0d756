//! PostgreSQL on the wire and in text: messages, SCRAM, tokens of SQL. Pure: bytes in, values out.

pub mod lexer;
pub mod scram;
pub mod wire;
