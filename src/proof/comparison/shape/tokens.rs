//! Texts taken apart into tokens and statements, as the server does it.

use bstr::{BString, ByteSlice};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A bare word, in capitals.
    Word(BString),
    /// What stands in "".
    Quoted(BString),
    Text,
    Number,
    Sign(u8),
}

/// None where the server might read it in another way, or rdump never writes such a thing.
pub fn tokens(text: &[u8], conforming: bool) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(&first) = rest.first() {
        match first {
            b' ' | b'\t' | b'\r' | b'\n' => rest = &rest[1..],
            b'"' => {
                let (name, after) = quoted(rest, b'"', false)?;
                tokens.push(Token::Quoted(name));
                rest = after;
            }
            b'\'' => {
                let escapes = match tokens.last() {
                    Some(Token::Word(word)) if word == "E" && is_adjacent(text, rest) => {
                        tokens.pop();
                        true
                    }
                    // a string may go on in the next line, with the escapes of its beginning
                    Some(Token::Text) => return None,
                    _ => !conforming,
                };
                rest = quoted(rest, b'\'', escapes)?.1;
                tokens.push(Token::Text);
            }
            b'$' if rest.get(1).is_some_and(u8::is_ascii_digit) => {
                rest = rest[1..].trim_start_with(|c| c.is_ascii_digit());
                if rest
                    .first()
                    .is_some_and(|byte| in_word(*byte) || *byte == b'$')
                {
                    return None;
                }
                tokens.push(Token::Number);
            }
            b'$' => {
                let tag = rest[1..].iter().take_while(|byte| in_word(**byte)).count();
                let tag = rest.get(..tag + 2).filter(|tag| tag.ends_with(b"$"))?;
                let end = rest[tag.len()..].find(tag)?;
                rest = &rest[tag.len() + end + tag.len()..];
                tokens.push(Token::Text);
            }
            b'0'..=b'9' => {
                rest = rest.trim_start_with(|c| c.is_ascii_digit());
                tokens.push(Token::Number);
            }
            // comments: the server never prints any
            b'-' | b'/' if matches!(rest, [b'-', b'-', ..] | [b'/', b'*', ..]) => return None,
            _ if in_word(first) => {
                let length = rest
                    .iter()
                    .take_while(|byte| in_word(**byte) || **byte == b'$')
                    .count();
                tokens.push(Token::Word(rest[..length].to_ascii_uppercase().into()));
                rest = &rest[length..];
            }
            _ if first.is_ascii_control() => return None,
            _ => {
                tokens.push(Token::Sign(first));
                rest = &rest[1..];
            }
        }
    }
    Some(tokens)
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether nothing stands between what comes next and the word before.
fn is_adjacent(text: &[u8], rest: &[u8]) -> bool {
    let before = text.len() - rest.len();
    before > 0 && in_word(text[before - 1])
}

/// What stands in quotes, and what comes behind.
fn quoted(text: &[u8], quote: u8, escapes: bool) -> Option<(BString, &[u8])> {
    let mut inside = BString::default();
    let mut at = 1;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        if byte == quote {
            if text.get(at) != Some(&quote) {
                return Some((inside, &text[at..]));
            }
            at += 1;
        } else if escapes && byte == b'\\' {
            at += 1;
        }
        inside.push(byte);
    }
}

/// Splits at each `;`, but for those in parentheses and in BEGIN ATOMIC ... END: the END that closes
/// such a body stands behind a `;` or ATOMIC itself, and no END of a CASE does.
pub fn statements(tokens: &[Token]) -> Vec<&[Token]> {
    let mut found = Vec::new();
    let (mut start, mut depth, mut in_body) = (0, 0usize, false);
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        match token {
            Token::Sign(b'(' | b'[') => depth += 1,
            Token::Sign(b')' | b']') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 => match word.as_slice() {
                b"ATOMIC" if !in_body => in_body = is_word(before, "BEGIN"),
                b"END" if in_body => {
                    in_body = before != Some(&Token::Sign(b';')) && !is_word(before, "ATOMIC");
                }
                _ => {}
            },
            Token::Sign(b';') if depth == 0 && !in_body => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[start..]);
    found.retain(|statement| !statement.is_empty());
    found
}

pub fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word == wanted)
}
