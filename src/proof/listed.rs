//! Text that ends in names, of which there may be very many.

use std::fmt;

use serde::{Serialize, Serializer};

/// "rows of", and the tables. People are shown the first names, unless they ask for all;
/// programs always get all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    text: String,
    names: Vec<String>,
}

/// Names that are shown; the rest are counted.
const SHOWN: usize = 10;

impl Listed {
    pub fn new(text: impl Into<String>, names: Vec<String>) -> Listed {
        Listed {
            text: text.into(),
            names,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.names.is_empty()
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether names are left out unless all are asked for.
    pub fn is_long(&self) -> bool {
        self.names.len() > SHOWN
    }

    pub fn in_words(&self, all: bool) -> String {
        let mut words = self.text.clone();
        let shown = if all { self.names.len() } else { SHOWN };
        for (position, name) in self.names.iter().take(shown).enumerate() {
            if position > 0 {
                words.push_str(", ");
            } else if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(name);
        }
        match self.names.len().saturating_sub(shown) {
            0 => {}
            more => words.push_str(&format!(" and {more} more")),
        }
        words
    }
}

impl<T: Into<String>> From<T> for Listed {
    fn from(text: T) -> Listed {
        Listed::new(text, Vec::new())
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(false))
    }
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.in_words(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_or_all() {
        let names = |count: usize| (1..=count).map(|name| format!("t{name}")).collect();
        let ten = "t1, t2, t3, t4, t5, t6, t7, t8, t9, t10";
        assert_eq!(Listed::from("rows").to_string(), "rows");
        assert_eq!(Listed::new("rows of", names(1)).to_string(), "rows of t1");
        assert_eq!(Listed::new("", names(10)).to_string(), ten);
        let long = Listed::new("rows of", names(12));
        assert!(long.is_long());
        assert_eq!(long.to_string(), format!("rows of {ten} and 2 more"));
        let all = format!("rows of {ten}, t11, t12");
        assert_eq!(long.in_words(true), all);
        assert_eq!(serde_json::json!(long), all);
    }
}
