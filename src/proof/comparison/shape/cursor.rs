//! Reading a statement token by token.

use bstr::BString;

use super::tokens::{Token, is_word};

/// Reads one statement from its beginning; None as soon as it is not as expected.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    pub rest: &'a [Token],
    pub twin: &'a str,
}

impl<'a> Cursor<'a> {
    pub fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub fn skip(&mut self, word: &str) -> bool {
        let found = is_word(self.rest.first(), word);
        if found {
            self.next();
        }
        found
    }

    pub fn words(&mut self, words: &str) -> Option<()> {
        words.split(' ').all(|word| self.skip(word)).then_some(())
    }

    pub fn one_of(&mut self, words: &[&str]) -> Option<()> {
        words.iter().any(|word| self.skip(word)).then_some(())
    }

    pub fn identifier(&mut self) -> Option<BString> {
        match self.next()? {
            Token::Word(word) => Some(word.to_ascii_lowercase().into()),
            Token::Quoted(name) => Some(name.clone()),
            _ => None,
        }
    }

    /// The name of something in the twin's schema.
    pub fn of_twin(&mut self) -> Option<()> {
        let in_twin = self.identifier()? == self.twin && *self.next()? == Token::Sign(b'.');
        self.identifier().filter(|_| in_twin).map(drop)
    }

    /// All up to the parenthesis that closes the one here.
    pub fn group(&mut self) -> Option<()> {
        if *self.next()? != Token::Sign(b'(') {
            return None;
        }
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Token::Sign(b'(' | b'[') => depth += 1,
                Token::Sign(b')' | b']') => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }

    /// A keyword and what stands in parentheses behind it, if it is there.
    pub fn clause(&mut self, word: &str) -> Option<()> {
        if self.skip(word) {
            self.group()
        } else {
            Some(())
        }
    }

    pub fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// To behind the first such word outside of parentheses.
    pub fn find(&mut self, word: &str) -> Option<()> {
        while !self.skip(word) {
            if self.rest.first() == Some(&Token::Sign(b'(')) {
                self.group()?;
            } else {
                self.next()?;
            }
        }
        Some(())
    }

    /// Whether a comma stands outside of parentheses: another action of ALTER TABLE.
    pub fn is_list(&self) -> bool {
        let mut depth = 0usize;
        self.rest.iter().any(|token| {
            match token {
                Token::Sign(b'(' | b'[') => depth += 1,
                Token::Sign(b')' | b']') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && *token == Token::Sign(b',')
        })
    }
}
