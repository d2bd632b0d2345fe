//! The archive that a command reads: a file, a stream, or one of a repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::inputs;
use super::output::tell;
use super::repository::one_url;
use crate::archive::{RandomReader, SetReader, is_set};
use crate::error::{Error, Outcome, Result};
use crate::repository::{Archive, ArchiveName, Label, Repository, Selector};
use crate::restore::{Input, Stored, blocking};
use crate::sql::hex;
use crate::storage;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct ArchiveArguments {
    /// The archive: a file; where a repository is given, `latest`, or an archive's name or the eight digits at its end
    #[arg(value_name = "ARCHIVE", required_unless_present_any = ["at", "repo"])]
    archive: Option<PathBuf>,
    /// Repository: a folder, or s3://BUCKET/PREFIX with its parameters
    #[arg(
        long,
        value_name = "URL",
        env = "RDUMP_REPO",
        help_heading = "Repository"
    )]
    repo: Option<String>,
    /// Of a repository's archives, those made with this label: the database's name unless another was given
    #[arg(
        long,
        value_name = "LABEL",
        requires = "repo",
        help_heading = "Repository"
    )]
    label: Option<String>,
    /// The newest archive whose snapshot was taken not after this time, by the server's clock; without a
    /// zone, such as Z or +02:00, in this machine's
    #[arg(
        long,
        value_name = "TIME",
        requires = "repo",
        conflicts_with = "archive",
        help_heading = "Repository"
    )]
    at: Option<String>,
}

/// What the arguments lead to.
pub struct Chosen {
    pub input: Input,
    /// As messages call it.
    pub name: String,
    /// What is to be said of the choice.
    pub told: Option<String>,
    pub stored: Option<(Repository, Archive)>,
}

impl Chosen {
    /// What lies under an archive's name is to be that archive. One that cannot be opened is for the
    /// command itself to tell of.
    pub async fn refuse_another(&self) -> Result<()> {
        let Some((_, archive)) = &self.stored else {
            return Ok(());
        };
        let input = self.input.clone();
        let found = blocking(move || {
            let stored = Stored::open(input)?;
            if is_set(&stored)? {
                let set = SetReader::open(stored)?;
                return Ok((set.id().to_string(), hex(&set.hash())));
            }
            let reader = RandomReader::open(stored)?;
            let hash = hex(&reader.trailer().root_hash);
            Ok((reader.header().id.to_string(), hash))
        });
        let manifest = &archive.manifest;
        match found.await {
            Ok((id, hash)) if id != manifest.archive_id || hash != manifest.root_hash => {
                Err(Error::new(format!(
                    "what is stored as {} is another archive: {id}, and its manifest says {}",
                    manifest.name, manifest.archive_id
                ))
                .hint("restore from another archive of the list; somebody has changed this one")
                .outcome(Outcome::Partial))
            }
            _ => Ok(()),
        }
    }
}

impl ArchiveArguments {
    /// As messages and checks of inputs see it; an archive of a repository is no file.
    pub fn file(&self) -> Option<&Path> {
        match self.repo.is_some() && !self.is_file() {
            true => None,
            false => self.archive.as_deref(),
        }
    }

    pub fn is_stream(&self) -> bool {
        self.file().is_some_and(|file| file.as_os_str() == "-")
    }

    /// For commands that read at any place.
    pub fn refuse_stream(&self, what: &str) -> Result<()> {
        match self.file() {
            Some(file) => inputs::refuse_stream(what, file),
            None => Ok(()),
        }
    }

    /// With a repository in the environment, files can still be named: by a path, or their ending.
    fn is_file(&self) -> bool {
        let Some(archive) = &self.archive else {
            return false;
        };
        archive.as_os_str() == "-"
            || archive.components().count() > 1
            || archive.extension().is_some_and(|end| end == "rdump")
            || archive.is_file()
    }

    /// For commands that write: a repository in the environment alone chooses nothing.
    pub fn require(&self) -> Result<()> {
        match self.archive.is_some() || self.at.is_some() {
            true => Ok(()),
            false => Err(Error::usage("no archive is given")
                .hint("latest is the newest of the repository; --at TIME chooses another")),
        }
    }

    pub async fn choose(&self) -> Result<Chosen> {
        if let Some(file) = self.file() {
            let input = match self.is_stream() {
                true => Input::Stdin,
                false => Input::File(file.to_owned()),
            };
            return Ok(Chosen {
                input,
                name: file.display().to_string(),
                told: None,
                stored: None,
            });
        }
        let Some(url) = &self.repo else {
            return Err(Error::usage("no archive is given"));
        };
        let repository = Repository::open(storage::open(one_url(url)?).await?).await?;
        let label = self
            .label
            .as_deref()
            .map(|label| Label::new(label.as_bytes()));
        let catalogue = repository.catalogue(label.transpose()?.as_ref()).await?;
        let (selector, asked) = self.selector()?;
        let archive = catalogue.find(&selector)?.clone();
        for problem in &catalogue.problems {
            tell(format_args!("warning: {}", problem.error));
        }
        let is_newer = |name: &ArchiveName| name.order() > archive.name().order();
        if selector == Selector::Latest
            && let Some(newer) = catalogue.problems.iter().find(|p| is_newer(&p.name))
        {
            return Err(Error::new(format!(
                "the newest archive may be {}, whose manifest cannot be read",
                newer.name
            ))
            .hint(format!("name the one before to use it: {}", archive.name())));
        }
        let input = Input::Volumes(Arc::new(repository.read(&archive.manifest)?));
        let snapshot = archive.manifest.snapshot;
        let told = match asked {
            Some(asked) => format!(
                "{}: snapshot of {snapshot}, {} before {asked}; changes in between are not in it",
                archive.name(),
                before(snapshot, asked.timestamp())
            ),
            None => format!("{}: snapshot of {snapshot}", archive.name()),
        };
        Ok(Chosen {
            input,
            name: archive.name().to_string(),
            told: Some(told),
            stored: Some((repository, archive)),
        })
    }

    fn selector(&self) -> Result<(Selector, Option<Zoned>)> {
        if let Some(text) = &self.at {
            let time = parse_time(text)?;
            return Ok((Selector::At(time.timestamp()), Some(time)));
        }
        let archive = self
            .archive
            .as_ref()
            .map(|archive| archive.to_string_lossy());
        Ok(match archive.as_deref() {
            None | Some("latest") => (Selector::Latest, None),
            Some(name) => (Selector::Named(name.to_owned()), None),
        })
    }
}

/// "31 min 5 s"
fn before(snapshot: Timestamp, asked: Timestamp) -> String {
    let seconds = asked
        .as_second()
        .saturating_sub(snapshot.as_second())
        .max(0);
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2);
    let shown: Vec<String> = shown
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    shown.join(" ")
}

/// With a zone, or in this machine's, which the answer then names.
pub fn parse_time(text: &str) -> Result<Zoned> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Zoned>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.to_zoned(TimeZone::UTC));
    }
    let local = text.parse::<DateTime>();
    let zone = TimeZone::system();
    local
        .and_then(|time| time.to_zoned(zone))
        .map_err(|error| {
            Error::usage(format!("not a time: \"{text}\": {error}"))
                .hint("for example '2026-01-06 02:30Z', '2026-01-06 02:30+01:00' or '2026-01-06 02:30[Europe/Berlin]'")
        })
}

#[cfg(test)]
mod tests {
    use super::{before, parse_time};

    #[test]
    fn times_with_their_zones() {
        for (text, time) in [
            ("2026-01-06 02:30Z", "2026-01-06T02:30:00Z"),
            ("2026-01-06T02:30:15Z", "2026-01-06T02:30:15Z"),
            ("2026-01-06 02:30+01:00", "2026-01-06T01:30:00Z"),
            ("2026-07-06 02:30[Europe/Berlin]", "2026-07-06T00:30:00Z"),
        ] {
            assert_eq!(parse_time(text).expect(text).timestamp().to_string(), time);
        }
        for text in ["", "yesterday", "2026-13-01", "02:30"] {
            assert_eq!(parse_time(text).expect_err(text).exit_code(), 2);
        }
    }

    #[test]
    fn what_is_missing_in_words() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_600, "1 h 0 min"),
            (90_000, "1 d 1 h"),
        ] {
            let asked = jiff::Timestamp::from_second(1_000_000 + seconds).unwrap();
            let snapshot = jiff::Timestamp::from_second(1_000_000).unwrap();
            assert_eq!(before(snapshot, asked), words);
        }
    }
}
