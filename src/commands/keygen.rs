//! `rdump keygen`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{print, tell};
use crate::archive::{ExposeSecret, Identity};
use crate::error::{Error, Result, ResultExt};

/// Make a key that archives can be encrypted for
///
/// The file has the form of age-keygen, and the public age tool takes it too.
#[derive(Debug, Args)]
pub struct Arguments {
    /// File to write, which only its owner may read; standard output unless given. An existing file is
    /// never replaced
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const WARNING: &str = "whoever has this key can read every archive that is encrypted for it; without it nobody can, \
and nobody can bring it back: if it is lost, so are the archives. Keep a copy of it apart from this machine and from the \
archives, and encrypt for a second recipient too, whose key is kept elsewhere (snapshot --recipient may be repeated)";

impl Arguments {
    pub fn run(self) -> Result<()> {
        let identity = Identity::generate();
        let public = identity.to_public();
        let secret = identity.to_string();
        let text = format!(
            "# created: {}\n# public key: {public}\n{}\n",
            jiff::Timestamp::now()
                .round(jiff::Unit::Second)
                .unwrap_or_else(|_| jiff::Timestamp::now()),
            secret.expose_secret()
        );
        match &self.output {
            Some(file) => {
                write_new(file, &text)?;
                print(&public);
            }
            None => {
                print(text.trim_end());
                tell(format_args!("public key: {public}"));
            }
        }
        tell(WARNING);
        Ok(())
    }
}

fn write_new(file: &Path, text: &str) -> Result<()> {
    let named = || format!("key file \"{}\"", file.display());
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut created = match created {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::new(format!("{} exists already", named()))
                .hint("a key is never replaced: archives may need it; give another name"));
        }
        other => other.with_context(named)?,
    };
    created
        .write_all(text.as_bytes())
        .and_then(|()| created.sync_all())
        .with_context(named)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_for_its_owner_alone_and_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        let run = || {
            let output = Some(file.clone());
            Arguments { output }.run()
        };
        run().expect("made");
        let text = std::fs::read_to_string(&file).expect("a key");
        let mode = std::fs::metadata(&file)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let lines: Vec<&str> = text.lines().collect();
        let [created, public, secret] = lines[..] else {
            panic!("{} lines", lines.len());
        };
        assert!(
            created.starts_with("# created: 2") && created.ends_with('Z'),
            "{created}"
        );
        let identity: Identity = secret.parse().expect("an identity");
        assert_eq!(public, format!("# public key: {}", identity.to_public()));

        let error = run().expect_err("there already");
        assert!(error.to_string().contains("exists already"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).expect("kept"), text);
    }
}
