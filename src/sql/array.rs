//! Arrays in PostgreSQL's text form, as array_out writes them.

use bstr::BString;

use crate::error::{Error, Result};

/// Elements of a one-dimensional array such as `{a,"b c",NULL}`.
pub fn parse(text: &[u8]) -> Result<Vec<Option<BString>>> {
    let malformed = || Error::new(format!("malformed array: {}", BString::from(text)));
    let inner = text
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_suffix(b"}"))
        .ok_or_else(malformed)?;
    let mut elements = Vec::new();
    if inner.is_empty() {
        return Ok(elements);
    }
    let mut bytes = inner.iter().copied().peekable();
    loop {
        let mut element = BString::default();
        let mut quoted = false;
        if bytes.peek() == Some(&b'"') {
            quoted = true;
            bytes.next();
            loop {
                match bytes.next().ok_or_else(malformed)? {
                    b'"' => break,
                    b'\\' => element.push(bytes.next().ok_or_else(malformed)?),
                    byte => element.push(byte),
                }
            }
        } else {
            while let Some(&byte) = bytes.peek() {
                if byte == b',' {
                    break;
                }
                if byte == b'{' {
                    return Err(malformed());
                }
                bytes.next();
                element.push(if byte == b'\\' {
                    bytes.next().ok_or_else(malformed)?
                } else {
                    byte
                });
            }
        }
        elements.push((quoted || element != "NULL").then_some(element));
        match bytes.next() {
            None => return Ok(elements),
            Some(b',') => {}
            Some(_) => return Err(malformed()),
        }
    }
}

/// An element as an array's text form takes any.
pub fn element(text: &[u8]) -> BString {
    let mut quoted = BString::from("\"");
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_nulls() {
        let parsed = parse(br#"{a,"b c","q\"\\",NULL,"NULL",""}"#).unwrap();
        let expected = [
            Some("a"),
            Some("b c"),
            Some("q\"\\"),
            None,
            Some("NULL"),
            Some(""),
        ];
        assert_eq!(parsed.len(), expected.len());
        for (element, expected) in parsed.iter().zip(expected) {
            assert_eq!(
                element.as_ref().map(|e| e.as_slice()),
                expected.map(str::as_bytes)
            );
        }
        assert!(parse(b"{}").unwrap().is_empty());
    }

    #[test]
    fn malformed_is_an_error() {
        for text in ["", "a", "{", "{\"a}", "{\"a\"b}", "{{1},{2}}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
