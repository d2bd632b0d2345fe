//! One error type: what failed, on which object, what to do next, and how the process ends.

use std::fmt;

pub use tokio_postgres::error::SqlState;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How the process ends (`docs/exit-codes.md` lists them for users).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command failed: exit code 1.
    Failed,
    /// The command line was not understood: exit code 2.
    Usage,
    /// Done in part, with findings or ignored errors: exit code 3.
    Partial,
    /// The repository does not exist: exit code 10.
    NoRepository,
    /// The key does not open the archive: exit code 12.
    WrongKey,
    /// Ended by a signal: exit code 128 + its number.
    Signal(u8),
}

impl Outcome {
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Failed => 1,
            Outcome::Usage => 2,
            Outcome::Partial => 3,
            Outcome::NoRepository => 10,
            Outcome::WrongKey => 12,
            Outcome::Signal(number) => 128 + number,
        }
    }
}

/// What callers tell apart, whatever the message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Other,
    /// Found before anything was written: the target is not fit for the archive.
    TargetNotReady,
    /// The credential does not allow it.
    Denied,
}

/// An error in PostgreSQL's message style: lower case, no full stop, the hint apart.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    message: String,
    /// What was being done, innermost first: "reading table public.orders".
    context: Vec<String>,
    hint: Option<String>,
    outcome: Outcome,
    kind: Kind,
    /// SQLSTATE, where the server raised the error.
    sqlstate: Option<SqlState>,
}

impl Error {
    pub fn new(message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            message: message.into(),
            context: Vec::new(),
            hint: None,
            outcome: Outcome::Failed,
            kind: Kind::Other,
            sqlstate: None,
        }))
    }

    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(message).outcome(Outcome::Usage)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what was being done when it failed; the innermost call comes first.
    pub fn context(mut self, doing: impl Into<String>) -> Error {
        self.0.context.push(doing.into());
        self
    }

    pub fn outcome(mut self, outcome: Outcome) -> Error {
        self.0.outcome = outcome;
        self
    }

    pub fn with_kind(mut self, kind: Kind) -> Error {
        self.0.kind = kind;
        self
    }

    pub fn with_sqlstate(mut self, sqlstate: SqlState) -> Error {
        self.0.sqlstate = Some(sqlstate);
        self
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn exit_code(&self) -> u8 {
        self.0.outcome.exit_code()
    }

    pub fn sqlstate(&self) -> Option<&SqlState> {
        self.0.sqlstate.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for doing in self.0.context.iter().rev() {
            write!(f, "{doing}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::new(error.to_string())
    }
}

/// `.context()` on results, as errors travel up.
pub trait ResultExt<T> {
    fn context(self, doing: impl Into<String>) -> Result<T>;
    fn with_context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for Result<T, E> {
    fn context(self, doing: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().context(doing))
    }

    fn with_context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().context(doing()))
    }
}
