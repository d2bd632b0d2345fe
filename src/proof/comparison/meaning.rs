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

use bstr::{BStr, BString, ByteSlice};

use super::matching::{Pair, text_difference};
use super::shape;
use super::target::{Target, recover, set_savepoint};
use crate::archive::Entry;
use crate::catalog::{self, Scope};
use crate::error::{Error, Result, SqlState};
use crate::postgres::Session;
use crate::sql;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// Why, where more is known than that the texts differ.
    Different(Option<String>),
    /// The server could not be asked, for this reason.
    Unknown(String),
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
                vec![Verdict::Unknown(error.to_string()); batch.len()]
            }
            Err(error) => return Err(error),
        };
        for (at, answer) in batch.iter().zip(answers) {
            verdicts[*at] = Some(answer);
        }
    }
    let unasked = || Verdict::Unknown("it was not asked about".to_owned());
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
    ["a", "b"].map(|side| format!("rdump_proof_{side}{question}"))
}

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
    };
    let entries = match catalog::read(session, &scope).await {
        Ok(catalog) => catalog.entries,
        Err(error) => {
            let error = recover(session, error).await?;
            return Ok(vec![Verdict::Unknown(error.to_string()); pairs.len()]);
        }
    };
    let mut made: HashMap<&BStr, BString> = HashMap::new();
    for entry in &entries {
        if let Some(schema) = &entry.schema
            && schema.starts_with(b"rdump_proof_")
        {
            let text = made.entry(schema.as_bstr()).or_default();
            text.extend_from_slice(&entry.create.replace(schema.as_slice(), "twin"));
        }
    }
    Ok(settled
        .into_iter()
        .enumerate()
        .map(|(question, settled)| {
            settled.unwrap_or_else(|| {
                let [a, b] = schemas(question);
                let text = |schema: &str| made.get(BStr::new(schema));
                match (text(&a), text(&b)) {
                    (Some(expected), Some(found)) if expected == found => Verdict::Same,
                    (Some(expected), Some(found)) => {
                        Verdict::Different(Some(text_difference(expected, found, false)))
                    }
                    _ => Verdict::Unknown("its twins cannot be read".to_owned()),
                }
            })
        })
        .collect())
}

/// Makes both twins; a verdict where that alone decides.
async fn make_twins(
    session: &mut Session,
    pair: &Pair<'_>,
    [a, b]: &[String; 2],
    conforming: bool,
) -> Result<Option<Verdict>> {
    // before anything runs
    let twins = Twin::of(pair.found, b, conforming)
        .and_then(|found| Ok((found, Twin::of(pair.expected, a, conforming)?)));
    let (found, expected) = match twins {
        Ok(twins) => twins,
        Err(error) => return Ok(Some(Verdict::Unknown(error.to_string()))),
    };
    set_savepoint(session).await?;
    let verdict = match found.make(session).await {
        Err(error) => {
            let error = recover(session, error).await?;
            Some(Verdict::Unknown(error.to_string()))
        }
        Ok(()) => match expected.make(session).await {
            Ok(()) => None,
            Err(error) => {
                let error = recover(session, error).await?;
                Some(match error.sqlstate() {
                    // nothing that the definition itself says
                    Some(&(SqlState::INSUFFICIENT_PRIVILEGE | SqlState::LOCK_NOT_AVAILABLE)) => {
                        Verdict::Unknown(error.to_string())
                    }
                    _ => Verdict::Different(Some(format!(
                        "what the archive has cannot be created here: {error}"
                    ))),
                })
            }
        },
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

    #[test]
    fn every_statement_must_be_about_the_twin() {
        let mut entry = Entry {
            id: crate::archive::EntryId(1),
            kind: "INDEX".to_owned(),
            section: crate::archive::Section::PostData,
            pass: crate::archive::Pass::Main,
            schema: Some("s".into()),
            name: "i".into(),
            relation: Some("t".into()),
            owner: None,
            owner_target: None,
            tablespace: None,
            access_method: None,
            create:
                "CREATE INDEX i ON s.t (a);\nALTER INDEX s.i ALTER COLUMN 1 SET STATISTICS 7;\n"
                    .into(),
            drop: BString::default(),
            drop_if_exists: BString::default(),
            dependencies: Vec::new(),
            contents: crate::archive::Contents::None,
            load_into: None,
        };
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
