//! Definitions that read differently and may mean the same.
//!
//! Servers print expressions from parse trees, each major version in its own way, and some
//! (`varchar IN (...)`) are printed differently once they have been restored. So where texts
//! differ, the database's server is asked: both texts are run as twins in schemas of their own,
//! the catalogs are read again, and both must then read the same. All of it happens in a
//! transaction that is never committed, and only statements run that define something (`shape`).
//! Routines have transactions of their own: no other twin, whose index expressions the planner may
//! try, can call one.

use std::collections::HashMap;

use bstr::{BString, ByteSlice};

use super::difference::{Line, of_texts};
use super::finding::{Finding, FindingKind, Reason};
use super::matching::{Pair, label};
use super::shape;
use super::target::{Target, recover, set_savepoint};
use crate::archive::Entry;
use crate::catalog::filter::Parts;
use crate::catalog::{self, Scope};
use crate::error::{Error, Result, SqlState};
use crate::postgres::Session;
use crate::sql;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// What differs once the server has printed both.
    Different(Vec<Line>),
    /// The server does not take the archive's definition.
    Refused(String),
    /// The server could not be asked, for this reason.
    Unknown(Reason),
}

impl Verdict {
    /// What it says of a pair whose texts differ.
    pub fn finding(self, pair: &Pair<'_>) -> Option<Finding> {
        let object = label(pair.expected);
        match self {
            Verdict::Same => None,
            // which twins may show in no line: where one names itself, the other the original
            Verdict::Different(lines) if lines.is_empty() => {
                Some(Finding::different(object, pair.text_difference()))
            }
            Verdict::Different(lines) => Some(Finding::different(object, lines)),
            Verdict::Refused(error) => {
                let detail = format!("what the archive has cannot be created here: {error}");
                let finding = Finding::new(FindingKind::Different, object, detail);
                Some(finding.with_difference(pair.text_difference()))
            }
            Verdict::Unknown(reason) => {
                let text = format!(
                    "the texts differ, and whether they mean the same cannot be told: {}",
                    reason.text
                );
                let finding = Finding::not_comparable(object, Reason { text, ..reason });
                Some(finding.with_difference(pair.text_difference()))
            }
        }
    }
}

const HINT_CREATE: &str = "the server is asked by creating both, in schemas of their own and a \
     transaction that is rolled back: connect as a role that may create schemas in the database";
const HINT_STANDBY: &str =
    "the server is asked in a transaction that writes, as a standby cannot: compare the primary";

/// That the server could not be asked.
fn unknown(error: &Error) -> Verdict {
    Verdict::Unknown(Reason::of(error, HINT_CREATE))
}

/// Questions of one transaction: few enough not to fill the server's lock table.
const BATCH: usize = 100;

/// What the statements of an entry are about: what must be renamed in them to make a twin.
#[derive(Debug, Clone)]
enum Subject {
    /// They create it.
    Created(BString),
    /// They change or add to a relation, which must be there first.
    Relation(BString),
}

/// None for entries without expressions: their texts can be trusted.
fn subject(entry: &Entry) -> Option<Subject> {
    entry.schema.as_ref()?;
    match entry.kind.as_str() {
        "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "DOMAIN" => {
            Some(Subject::Created(entry.name.clone()))
        }
        "FUNCTION" | "PROCEDURE" => {
            let end = entry.name.find_byte(b'(')?;
            Some(Subject::Created(entry.name[..end].into()))
        }
        "CONSTRAINT" if entry.create.find("EXCLUDE").is_none() => None,
        "INDEX" | "CONSTRAINT" | "CHECK CONSTRAINT" | "DEFAULT" | "TRIGGER" | "RULE" | "POLICY" => {
            entry.relation.clone().map(Subject::Relation)
        }
        _ => None,
    }
}

/// Whether two texts may differ and mean the same.
pub fn can_be_asked(pair: &Pair<'_>) -> bool {
    subject(pair.expected).is_some()
}

/// Asks about each pair, in order.
pub async fn ask(target: &Target, pairs: &[Pair<'_>]) -> Result<Vec<Verdict>> {
    let mut verdicts: Vec<Option<Verdict>> = vec![None; pairs.len()];
    let (routines, others): (Vec<usize>, Vec<usize>) =
        (0..pairs.len()).partition(|at| is_routine(pairs[*at].expected));
    for batch in others.chunks(BATCH).chain(routines.chunks(BATCH)) {
        let questions: Vec<Pair<'_>> = batch.iter().map(|at| pairs[*at]).collect();
        let answers = match target.join_writing().await {
            Ok(mut session) => {
                let answer = ask_batch(&mut session, &questions, target.conforming).await;
                // what was made goes whether or not it is said; saying so ends it now
                let ended = session.execute("ROLLBACK").await;
                session.close().await;
                let answer = answer?;
                ended?;
                answer
            }
            // a standby, or no more connections
            Err(error) if error.sqlstate().is_some() => {
                let verdict = if target.standby {
                    Verdict::Unknown(Reason::new(error.to_string(), HINT_STANDBY))
                } else {
                    unknown(&error)
                };
                vec![verdict; batch.len()]
            }
            Err(error) => return Err(error),
        };
        for (at, answer) in batch.iter().zip(answers) {
            verdicts[*at] = Some(answer);
        }
    }
    let unasked = || Verdict::Unknown(Reason::from("it was not asked about"));
    Ok(verdicts
        .into_iter()
        .map(|verdict| verdict.unwrap_or_else(unasked))
        .collect())
}

fn is_routine(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), "FUNCTION" | "PROCEDURE")
}

/// The two schemas of a question: names of equal length, which differ in nothing but a letter.
fn schemas(question: usize) -> [String; 2] {
    ["a", "b"].map(|side| format!("{PREFIX}{side}{question}"))
}

/// What the names of twins' schemas begin with.
const PREFIX: &str = "rdump_proof_";

async fn ask_batch(
    session: &mut Session,
    pairs: &[Pair<'_>],
    conforming: bool,
) -> Result<Vec<Verdict>> {
    session
        .execute("SET LOCAL check_function_bodies = off")
        .await?;
    let mut settled: Vec<Option<Verdict>> = Vec::with_capacity(pairs.len());
    for (question, pair) in pairs.iter().enumerate() {
        settled.push(make_twins(session, pair, &schemas(question), conforming).await?);
    }
    if settled.iter().all(Option::is_some) {
        return Ok(settled.into_iter().flatten().collect());
    }
    set_savepoint(session).await?;
    let scope = Scope {
        no_large_objects: true,
        parts: Parts {
            no_security_labels: true,
            ..Scope::default().parts
        },
        ..Scope::default()
    };
    let entries = match catalog::read(session, &scope).await {
        Ok(catalog) => catalog.entries,
        Err(error) => {
            let error = recover(session, error).await?;
            return Ok(vec![unknown(&error); pairs.len()]);
        }
    };
    let mut made = twins_as_read(&entries);
    let mut verdicts = Vec::with_capacity(pairs.len());
    for (question, (pair, settled)) in pairs.iter().zip(settled).enumerate() {
        let mut text = |schema: &str| made.remove(schema.as_bytes());
        let [a, b] = schemas(question);
        verdicts.push(match (settled, text(&a), text(&b)) {
            (Some(verdict), ..) => verdict,
            (None, Some(expected), Some(found)) => compare_twins(pair, &expected, &found),
            _ => Verdict::Unknown(Reason::from("its twins cannot be read")),
        });
    }
    Ok(verdicts)
}

/// The definitions in each schema of twins, all in one text.
fn twins_as_read(entries: &[Entry]) -> HashMap<&[u8], BString> {
    let mut made: HashMap<&[u8], BString> = HashMap::new();
    for entry in entries {
        if let Some(schema) = &entry.schema
            && schema.starts_with(PREFIX.as_bytes())
        {
            let text = made.entry(schema.as_slice()).or_default();
            // no name that a definition can have: what else it names stays another
            text.extend_from_slice(&entry.create.replace(schema.as_slice(), PLACEHOLDER));
        }
    }
    made
}

/// Stands for the schema of a twin, in quotes or not: no text of a definition has a zero byte.
const PLACEHOLDER: &[u8] = b"\0";

fn compare_twins(pair: &Pair<'_>, expected: &BString, found: &BString) -> Verdict {
    if expected == found {
        return Verdict::Same;
    }
    let shown = |text: &BString| text.replace(PLACEHOLDER, schema_of(pair).as_slice());
    Verdict::Different(of_texts(&shown(expected), &shown(found)))
}

/// Where the server stopped, which is our own block.
const OUR_PLACE: &str = " [PL/pgSQL function inline_code_block line 1 at EXECUTE]";

/// Says of the real schema what the server says of a twin's.
fn without_twins(error: Error, pair: &Pair<'_>, twins: &[String; 2]) -> Error {
    let mut message = error.to_string().replace(OUR_PLACE, "");
    for twin in twins {
        message = message.replace(twin, &schema_of(pair).to_string());
    }
    match error.sqlstate() {
        Some(state) => Error::new(message).with_sqlstate(state.clone()),
        None => Error::new(message),
    }
}

fn schema_of(pair: &Pair<'_>) -> BString {
    let schema = pair.expected.schema.as_ref();
    schema.map_or_else(BString::default, sql::identifier)
}

/// Makes both twins; a verdict where that alone decides.
async fn make_twins(
    session: &mut Session,
    pair: &Pair<'_>,
    schemas: &[String; 2],
    conforming: bool,
) -> Result<Option<Verdict>> {
    let [a, b] = schemas;
    // before anything runs
    let twins = Twin::of(pair.found, b, conforming)
        .and_then(|found| Ok((found, Twin::of(pair.expected, a, conforming)?)));
    let (found, expected) = match twins {
        Ok(twins) => twins,
        Err(error) => return Ok(Some(unknown(&error))),
    };
    set_savepoint(session).await?;
    let outcome = match found.make(session).await {
        Ok(()) => expected.make(session).await.map_err(|error| (error, true)),
        Err(error) => Err((error, false)),
    };
    let verdict = match outcome {
        Ok(()) => None,
        Err((error, is_archived)) => {
            let error = without_twins(recover(session, error).await?, pair, schemas);
            let of_definition = !matches!(
                error.sqlstate(),
                Some(&(SqlState::INSUFFICIENT_PRIVILEGE | SqlState::LOCK_NOT_AVAILABLE))
            );
            Some(if is_archived && of_definition {
                Verdict::Refused(error.to_string())
            } else {
                unknown(&error)
            })
        }
    };
    session.execute("RELEASE SAVEPOINT rdump_proof").await?;
    Ok(verdict)
}

/// The copy of an entry in a schema of its own.
struct Twin<'a> {
    twin: &'a str,
    schema: &'a BString,
    subject: Subject,
    /// All of it was looked at: it defines and does nothing else.
    text: BString,
}

impl<'a> Twin<'a> {
    fn of(entry: &'a Entry, twin: &'a str, conforming: bool) -> Result<Twin<'a>> {
        let (Some(schema), Some(subject)) = (&entry.schema, subject(entry)) else {
            return Err(Error::new("it has no name to make a twin of"));
        };
        let (Subject::Created(name) | Subject::Relation(name)) = &subject;
        let text = twin_text(entry, schema, name, twin);
        if is_routine(entry) && shape::loads_library(&text, conforming) {
            return Err(Error::new("making it would load a library into the server"));
        }
        if !shape::is_ours(&entry.kind, &text, twin, conforming) {
            return Err(Error::new(
                "it has statements of a form that rdump does not write, and none was run",
            ));
        }
        Ok(Twin {
            twin,
            schema,
            subject,
            text,
        })
    }

    async fn make(&self, session: &mut Session) -> Result<()> {
        session.execute(sql!("CREATE SCHEMA {}", self.twin)).await?;
        if let Subject::Relation(name) = &self.subject {
            make_relation(session, self.schema, name, self.twin).await?;
        }
        // EXECUTE refuses to end the transaction, whatever the text holds
        let block = sql!("BEGIN EXECUTE {}; END", sql::literal(&self.text));
        session
            .execute(sql!("DO LANGUAGE plpgsql {}", sql::dollar_quoted(&block)))
            .await
    }
}

/// The statements of an entry, about its twin.
fn twin_text(entry: &Entry, schema: &BString, name: &BString, twin: &str) -> BString {
    let in_twin = |text: &[u8], name: &[u8]| {
        let from = sql::qualified(schema, name);
        renamed(text, &from, &sql::qualified(twin, name))
    };
    let text = in_twin(&entry.create, name);
    // an index is altered by its own name
    match own_name(entry) {
        Some(own) => in_twin(&text, own),
        None => text,
    }
}

/// The name of an index, or of a constraint's: behind that of its table, where it stands there.
fn own_name(entry: &Entry) -> Option<&[u8]> {
    if !matches!(entry.kind.as_str(), "INDEX" | "CONSTRAINT") {
        return None;
    }
    let relation = entry.relation.as_ref()?;
    let own = entry
        .name
        .strip_prefix(relation.as_slice())
        .and_then(|rest| rest.strip_prefix(b" "));
    Some(own.unwrap_or(&entry.name))
}

/// A relation with the columns of another, to hang a definition on.
async fn make_relation(
    session: &mut Session,
    schema: &BString,
    name: &BString,
    twin: &str,
) -> Result<()> {
    let rows = session
        .query(sql!(
            "SELECT c.relkind, CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = {} AND c.relname = {}",
            sql::literal(schema),
            sql::literal(name)
        ))
        .await?;
    let row = rows.only()?;
    let source = sql::qualified(schema, name);
    let copy = sql::qualified(twin, name);
    let create = match (row.char("relkind")?, row.optional("partition_key")?) {
        (b'v', _) => sql!("CREATE VIEW {} AS SELECT * FROM {}", copy, source),
        (b'p', Some(key)) => sql!(
            "CREATE TABLE {} (LIKE {}) PARTITION BY {}",
            copy,
            source,
            key.to_owned()
        ),
        _ => sql!("CREATE TABLE {} (LIKE {})", copy, source),
    };
    session.execute(create).await
}

/// Replaces a qualified name wherever it stands as a whole. Within strings too: both twins are
/// changed alike, and both are read back alike.
fn renamed(text: &[u8], from: &[u8], to: &[u8]) -> BString {
    let part_of_name = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'"') || *byte >= 0x80
    };
    let mut out = BString::default();
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(from) {
        let end = at + from.len();
        let left = at
            .checked_sub(1)
            .and_then(|at| rest.get(at))
            .copied()
            .or(before);
        let whole = !left.is_some_and(|byte| part_of_name(&byte) || byte == b'.')
            && !rest.get(end).is_some_and(part_of_name);
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if whole { to } else { from });
        before = from.last().copied();
        rest = &rest[end..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Entry {
        Entry {
            pass: crate::archive::Pass::Main,
            schema: Some("s".into()),
            name: "i".into(),
            relation: Some("t".into()),
            access_method: None,
            create:
                "CREATE INDEX i ON s.t (a);\nALTER INDEX s.i ALTER COLUMN 1 SET STATISTICS 7;\n"
                    .into(),
            contents: crate::archive::Contents::None,
            ..Entry::new(
                crate::archive::EntryId(1),
                "INDEX",
                crate::archive::Section::PostData,
            )
        }
    }

    #[test]
    fn messages_name_no_twins() {
        let entry = index();
        let pair = Pair {
            expected: &entry,
            found: &entry,
        };
        let said = format!("relation \"rdump_proof_a7.t\" does not exist{OUR_PLACE}");
        let error = Error::new(said).with_sqlstate(SqlState::UNDEFINED_TABLE);
        let error = without_twins(error, &pair, &schemas(7));
        assert_eq!(error.message(), "relation \"s.t\" does not exist");
        assert_eq!(error.sqlstate(), Some(&SqlState::UNDEFINED_TABLE));
    }

    #[test]
    fn every_statement_must_be_about_the_twin() {
        let mut entry = index();
        assert_eq!(
            Twin::of(&entry, "x", true).unwrap().text,
            "CREATE INDEX i ON x.t (a);\nALTER INDEX x.i ALTER COLUMN 1 SET STATISTICS 7;\n"
        );
        entry
            .create
            .extend_from_slice(b"ALTER INDEX s.j ALTER COLUMN 1 SET STATISTICS 7;\n");
        assert!(Twin::of(&entry, "x", true).is_err());
    }

    #[test]
    fn only_whole_names_are_replaced() {
        for (text, expected) in [
            ("CREATE VIEW public.v AS", "CREATE VIEW x.v AS"),
            ("public.v(public.v)", "x.v(x.v)"),
            ("public.v_id_seq, public.vv", "public.v_id_seq, public.vv"),
            ("a.public.v, \"public.v\"", "a.public.v, \"public.v\""),
            ("mypublic.v public.v.id", "mypublic.v x.v.id"),
            ("public.vpublic.v", "public.vpublic.v"),
            ("", ""),
        ] {
            assert_eq!(renamed(text.as_bytes(), b"public.v", b"x.v"), expected);
        }
    }
}
