//! Nouns of the product: names and ids, requests, grants, lines, endings. Pure: nothing here touches a clock, file or socket.

pub mod arrival;
pub mod ending;
pub mod grant;
pub mod ids;
pub mod line;
pub mod names;
pub mod request;
mod seconds;
pub mod sign_in;
mod text_type;
