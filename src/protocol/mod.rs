//! PostgreSQL on the wire and in text: messages, SCRAM, OAUTHBEARER, tokens of SQL. Pure: bytes in, values out.

pub mod lexer;
pub mod oauth_bearer;
pub mod scram;
pub mod wire;
