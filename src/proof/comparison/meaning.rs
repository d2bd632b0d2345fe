//! Definitions that read differently and may mean the same.
//!
//! Servers print expressions from parse trees, each major version in its own way, and some
//! (`varchar IN (...)`) are printed differently once they have been restored. So where texts
//! differ, the database's server is asked: both texts are run as twins in schemas of their own,
//! the catalogs are read again, and both must then read the same. All of it happens in a
//! transaction that is never committed.

use std::collections::HashMap;

use bstr::{BStr, BString, ByteSlice};

use super::matching::{Pair, text_difference};
use super::target::{Target, recover, set_savepoint};
use crate::archive::Entry;
use crate::catalog::{self, Scope};
use crate::error::{Error, Result};
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
        "TABLE" | "FOREIGN TABLE" | "VIEW" | "MATERIALIZED VIEW" | "DOMAIN" => {
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
    let mut verdicts = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(BATCH) {
        verdicts.extend(match target.join_writing().await {
            Ok(mut session) => {
                let answer = ask_batch(&mut session, batch).await;
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
        });
    }
    Ok(verdicts)
}

/// The two schemas of a question: names of equal length, which differ in nothing but a letter.
fn schemas(question: usize) -> [String; 2] {
    ["a", "b"].map(|side| format!("rdump_proof_{side}{question}"))
}

async fn ask_batch(session: &mut Session, pairs: &[Pair<'_>]) -> Result<Vec<Verdict>> {
    session
        .execute("SET LOCAL check_function_bodies = off")
        .await?;
    let mut settled: Vec<Option<Verdict>> = Vec::with_capacity(pairs.len());
    for (question, pair) in pairs.iter().enumerate() {
        settled.push(make_twins(session, pair, &schemas(question)).await?);
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
    schemas: &[String; 2],
) -> Result<Option<Verdict>> {
    set_savepoint(session).await?;
    let [a, b] = schemas;
    let verdict = match make_twin(session, pair.found, b).await {
        Err(error) => {
            let error = recover(session, error).await?;
            Some(Verdict::Unknown(error.to_string()))
        }
        Ok(()) => match make_twin(session, pair.expected, a).await {
            Ok(()) => None,
            Err(error) => {
                let error = recover(session, error).await?;
                Some(match error.sqlstate() {
                    // nothing that the definition itself says
                    Some(INSUFFICIENT_PRIVILEGE | LOCK_NOT_AVAILABLE) => {
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

const INSUFFICIENT_PRIVILEGE: &str = "42501";
const LOCK_NOT_AVAILABLE: &str = "55P03";

async fn make_twin(session: &mut Session, entry: &Entry, twin: &str) -> Result<()> {
    let (Some(schema), Some(subject)) = (&entry.schema, subject(entry)) else {
        return Err(Error::new("it has no name to make a twin of"));
    };
    session.execute(sql!("CREATE SCHEMA {}", twin)).await?;
    let name = match subject {
        Subject::Created(name) => name,
        Subject::Relation(name) => {
            make_relation(session, schema, &name, twin).await?;
            name
        }
    };
    let text = renamed(
        &entry.create,
        &sql::qualified(schema, &name),
        &sql::qualified(twin, &name),
    );
    // EXECUTE refuses to end the transaction, whatever the text holds
    let block = sql!("BEGIN EXECUTE {}; END", sql::literal(&text));
    session
        .execute(sql!("DO LANGUAGE plpgsql {}", sql::dollar_quoted(&block)))
        .await
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
