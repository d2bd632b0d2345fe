//! Arguments that hold secrets: given by the environment, or in a file that the environment names.

use std::fmt;

use crate::error::{Error, Result};

/// Larger files hold no secret.
const LARGEST_FILE: u64 = 1 << 16;

/// A text that no message shows.
#[derive(Clone, Default)]
pub struct Concealed(String);

impl From<&str> for Concealed {
    fn from(text: &str) -> Concealed {
        Concealed(text.to_owned())
    }
}

impl fmt::Debug for Concealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Concealed(..)")
    }
}

/// What was given, or else what stands in the file that `VARIABLE_FILE` names. Empty is not given.
pub fn given(value: Option<&Concealed>, variable: &str) -> Result<Option<String>> {
    if let Some(Concealed(text)) = value
        && !text.is_empty()
    {
        return Ok(Some(text.clone()));
    }
    let variable = format!("{variable}_FILE");
    let Some(path) = std::env::var_os(&variable).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    from_file(path.as_ref())
        .map_err(|error| Error::usage(format!("the file that {variable} names: {error}")))
}

fn from_file(path: &std::path::Path) -> Result<Option<String>> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(LARGEST_FILE)
        .read_to_string(&mut text)?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("url");
        std::fs::write(&path, "https://example.org/x\n").expect("written");
        assert_eq!(
            from_file(&path).expect("read").as_deref(),
            Some("https://example.org/x")
        );
        std::fs::write(&path, "\n").expect("written");
        assert_eq!(from_file(&path).expect("read"), None);
        assert!(from_file(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn what_was_given_is_shown_nowhere() {
        let concealed = Concealed::from("geheim");
        assert!(!format!("{concealed:?}").contains("geheim"));
        let given = given(Some(&concealed), "RDUMP_NO_SUCH_VARIABLE");
        assert_eq!(given.expect("given").as_deref(), Some("geheim"));
    }
}
