//! What a restore test comes to.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::assertions::Assertion;
use super::{Options, Server, Subject};
use crate::postgres::disposable::Network;
use crate::proof::Listed;
use crate::proof::comparison::{self, Finding, FindingKind};
use crate::restore::Failure;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// As the user knows it.
    pub archive: String,
    /// "database shop", or the members of a set.
    pub contents: Vec<String>,
    pub snapshot: Timestamp,
    /// Of the server that the archive was made of.
    pub source_version: String,
    pub started: Timestamp,
    pub server: ServerUsed,
    /// Those that were restored into.
    pub databases: Vec<String>,
    pub seconds: Seconds,
    pub max_seconds: Option<f64>,
    /// None: it did not come to that.
    pub restored: Option<Restored>,
    pub compared: Vec<Compared>,
    pub assertions: Vec<Assertion>,
    /// What was left out on request, and so was not tested.
    pub skipped: Vec<String>,
    /// Why the test failed; empty: it passed.
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    pub rdump_version: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct ServerUsed {
    pub origin: String,
    pub version: String,
    pub network: Network,
}

/// How long each part took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    pub start: f64,
    pub restore: Option<f64>,
    pub proof: Option<f64>,
    pub assertions: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    pub entries: u64,
    pub rows: u64,
    /// Bytes of rows before compression.
    pub bytes: u64,
    pub connections: usize,
    pub rows_per_second: f64,
    pub bytes_per_second: f64,
}

impl Restored {
    pub fn new(entries: u64, rows: u64, bytes: u64, connections: usize, took: Duration) -> Self {
        // a rate that is infinite is no JSON
        let seconds = took.as_secs_f64().max(1e-6);
        Restored {
            entries,
            rows,
            bytes,
            connections,
            rows_per_second: rows as f64 / seconds,
            bytes_per_second: bytes as f64 / seconds,
        }
    }
}

/// A comparison of a database, or of the globals.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Of a set.
    pub member: Option<String>,
    pub summary: String,
    pub compared: comparison::Compared,
    pub not_compared: Vec<Listed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The server has not an extension of the archive, or cannot create it.
    MissingExtension,
    /// Something could not be restored.
    NotRestored,
    /// The database differs from the archive.
    Difference,
    /// It could not be told whether it does.
    NotComparable,
    /// An assertion does not hold.
    Assertion,
    /// The restore took longer than it may.
    TooSlow,
}

/// One reason why a test failed.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    pub kind: ProblemKind,
    /// Of a set.
    pub member: Option<String>,
    /// "TABLE public.orders"
    pub object: String,
    pub message: String,
}

impl Problem {
    fn new(kind: ProblemKind, object: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            kind,
            member: None,
            object: object.into(),
            message: message.into(),
        }
    }

    fn of(self, member: Option<&str>) -> Problem {
        Problem {
            member: member.map(str::to_owned),
            ..self
        }
    }

    pub(super) fn missing_extension(name: &bstr::BString) -> Problem {
        Problem::new(
            ProblemKind::MissingExtension,
            format!("extension \"{name}\""),
            "the server does not have it: use --image with an image that has, or --skip-extension",
        )
    }

    pub(super) fn of_failure(failure: &Failure, member: Option<&str>) -> Problem {
        let message = format!("{}: {}", failure.doing, failure.message);
        // such as one that must be preloaded
        let kind = match failure.object.starts_with("EXTENSION ") {
            true => ProblemKind::MissingExtension,
            false => ProblemKind::NotRestored,
        };
        Problem::new(kind, &failure.object, message).of(member)
    }

    pub(super) fn of_finding(finding: &Finding, member: Option<&str>) -> Problem {
        let kind = match finding.kind {
            FindingKind::NotComparable => ProblemKind::NotComparable,
            _ => ProblemKind::Difference,
        };
        let object = finding.object.in_words(false);
        let words = finding.in_words(false);
        let message = words
            .strip_prefix(&format!("{object}: "))
            .unwrap_or(&words)
            .to_owned();
        Problem::new(kind, object, message).of(member)
    }

    pub(super) fn of_assertion(assertion: &Assertion) -> Option<Problem> {
        let problem = assertion.problem.as_ref()?;
        let place = format!("{}:{}", assertion.file, assertion.line);
        let message = format!("{problem}: {}", assertion.statement);
        Some(Problem::new(ProblemKind::Assertion, place, message))
    }

    pub(super) fn too_slow(took: Duration, most: Duration) -> Problem {
        let message = format!(
            "took {:.1} s, longer than the {:.1} s that it may take",
            took.as_secs_f64(),
            most.as_secs_f64()
        );
        Problem::new(ProblemKind::TooSlow, "the restore", message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(member) = &self.member {
            write!(f, "{member}: ")?;
        }
        write!(f, "{}: {}", self.object, self.message)
    }
}

impl Report {
    pub(super) fn new(
        archive: &str,
        subject: &Subject,
        server: &Server,
        options: &Options,
    ) -> Report {
        let members = subject.members.iter();
        Report {
            archive: archive.to_owned(),
            contents: members.map(|member| member.label.clone()).collect(),
            snapshot: subject.snapshot(),
            source_version: subject.server_version().to_owned(),
            started: Timestamp::now(),
            server: ServerUsed {
                origin: server.origin().to_owned(),
                version: server.version().to_string(),
                network: server.network(),
            },
            databases: Vec::new(),
            seconds: Seconds {
                start: server.started().as_secs_f64(),
                ..Seconds::default()
            },
            max_seconds: options.max_time.map(|most| most.as_secs_f64()),
            restored: None,
            compared: Vec::new(),
            assertions: Vec::new(),
            skipped: Vec::new(),
            problems: Vec::new(),
            warnings: newer_server(subject, server),
            rdump_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn not_restored(&mut self, member: &str, why: &str) {
        let problem = Problem::new(ProblemKind::NotRestored, member, why);
        self.problems.push(problem);
    }

    pub fn is_passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// What the test says of the archive: that it restores and equals itself, or not. None: nothing, for
    /// a server that lacks an extension, and all that needs it, or is slow is not the archive's fault, nor is an
    /// assertion, which may be wrong itself. A part that restores says nothing of the rest.
    pub fn verdict(&self) -> Option<bool> {
        use ProblemKind::{Assertion, MissingExtension, NotComparable, TooSlow};
        let mut kinds = self.problems.iter().map(|problem| problem.kind);
        if self.is_passed() {
            return self.skipped.is_empty().then_some(true);
        }
        let says_nothing = kinds.clone().any(|kind| kind == MissingExtension)
            || kinds.all(|kind| matches!(kind, NotComparable | TooSlow | Assertion));
        (!says_nothing).then_some(false)
    }
}

fn newer_server(subject: &Subject, server: &Server) -> Vec<String> {
    let (from, to) = (subject.version().major(), server.version().major());
    let mut warnings = Vec::new();
    if from != to {
        warnings.push(format!(
            "the archive is of PostgreSQL {from}, and was tested with {to}"
        ));
    }
    if server.network() == Network::OfMachine {
        warnings.push(
            "the server was not cut off from the network, which this machine does not allow: what the archive holds could reach other servers (--server docker cuts it off)"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(kinds: &[ProblemKind]) -> Report {
        let problems = kinds.iter().map(|kind| Problem::new(*kind, "x", "y"));
        Report {
            archive: String::new(),
            contents: Vec::new(),
            snapshot: Timestamp::UNIX_EPOCH,
            source_version: String::new(),
            started: Timestamp::UNIX_EPOCH,
            server: ServerUsed {
                origin: String::new(),
                version: String::new(),
                network: Network::None,
            },
            databases: Vec::new(),
            seconds: Seconds::default(),
            max_seconds: None,
            restored: None,
            compared: Vec::new(),
            assertions: Vec::new(),
            skipped: Vec::new(),
            problems: problems.collect(),
            warnings: Vec::new(),
            rdump_version: String::new(),
        }
    }

    #[test]
    fn what_the_server_lacks_is_not_held_against_the_archive() {
        use ProblemKind::*;
        for (problems, verdict) in [
            (&[][..], Some(true)),
            (&[Difference], Some(false)),
            // it may be wrong itself
            (&[Assertion], None),
            (&[Assertion, Difference], Some(false)),
            (&[NotRestored, NotRestored], Some(false)),
            (&[TooSlow], None),
            (&[NotComparable], None),
            (&[NotComparable, Difference], Some(false)),
            (&[TooSlow, Assertion], None),
            (&[MissingExtension], None),
            // what needs the extension fails as well
            (&[MissingExtension, NotRestored, Difference], None),
        ] {
            let report = with(problems);
            assert_eq!(report.verdict(), verdict, "{problems:?}");
            let mut part = with(problems);
            part.skipped.push("hstore".to_owned());
            assert_eq!(part.verdict(), verdict.filter(|good| !good), "{problems:?}");
            let result = report.into_result();
            assert_eq!(result.is_ok(), problems.is_empty());
            if let Err(error) = result {
                assert_eq!(error.exit_code(), 3);
            }
        }
    }

    #[test]
    fn rates_are_finite() {
        let restored = Restored::new(1, 10, 100, 2, Duration::ZERO);
        assert!(restored.rows_per_second.is_finite());
        let restored = Restored::new(1, 10, 100, 2, Duration::from_secs(2));
        assert_eq!(
            (restored.rows_per_second, restored.bytes_per_second),
            (5.0, 50.0)
        );
    }
}
