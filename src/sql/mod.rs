//! SQL text: quoting names and literals. Every statement that is built from a name goes through here.
//!
//! Names and literals are bytes in the encoding of their database, not necessarily UTF-8. Every
//! server encoding is a superset of ASCII in which no byte of a multi-byte character is below
//! 0x80, so scanning for quotes byte by byte is sound.

pub mod array;
mod cut;
pub mod granted;
mod keywords;
pub mod privileges;
pub mod psql;
mod quote;
pub mod renaming;
mod text;

pub use cut::{LONGEST_NAME, after_character, before_character, with_ending};
pub use quote::{
    dollar_quoted, hex, identifier, literal, push_literal_part, qualified, quoting_all,
};
pub use text::{find_unquoted, join, render, statements};
