//! The server's side: the scratch schema, and the way out of it.

use bstr::{BString, ByteSlice};

use super::{Move, Name, Relocation};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::Session;
use crate::restore::Options;
use crate::restore::create::{Shared, lock};
use crate::restore::dependencies::removal;
use crate::sql;

impl Relocation {
    /// Makes the schemas.
    pub async fn begin(&self, session: &mut Session, options: &Options) -> Result<()> {
        let mut text = sql!("CREATE SCHEMA {};\n", sql::identifier(&self.scratch));
        for schema in &self.new_schemas {
            text.extend_from_slice(&sql!("CREATE SCHEMA {};\n", sql::identifier(schema)));
        }
        let rows = session
            .query("SELECT rolname AS role FROM pg_roles WHERE rolname <> current_user")
            .await?;
        for row in rows.iter() {
            let role = row.text("role")?;
            if self.roles.contains(&role) {
                text.extend_from_slice(&sql!(
                    "GRANT USAGE, CREATE ON SCHEMA {} TO {};\n",
                    sql::identifier(&self.scratch),
                    sql::identifier(role)
                ));
            }
        }
        // of one transaction nothing is left behind
        let scratch = options.dependencies.as_ref().map(|wanted| &wanted.scratch);
        let scratch = scratch.filter(|_| !options.single_transaction);
        if let Some(scratch) = scratch {
            scratch.set(Some(self.scratch.clone()));
        }
        session.execute(text).await.map_err(|error| {
            if let Some(scratch) = scratch {
                scratch.set(None);
            }
            error
                .context("making the schema in which tables are restored before they get their new names")
                .hint("the role needs the privilege CREATE on the database")
        })
    }

    /// Gives everything its name and its place, in one transaction. What is not there in full keeps
    /// away from where somebody would take it for complete.
    pub async fn finish(&self, session: &mut Session, shared: &Shared) -> Result<()> {
        let told = match self.incomplete(shared) {
            Some(told) => {
                lock(&shared.warnings).push(told);
                Ok(())
            }
            None => self.place_all(session, &shared.options).await,
        };
        for failure in lock(&shared.failures).iter_mut() {
            failure.message = self.as_known(&failure.message);
        }
        for warning in lock(&shared.warnings).iter_mut() {
            *warning = self.as_known(warning);
        }
        told
    }

    /// What to say where a table could not be made, or not all of its rows and values were loaded.
    fn incomplete(&self, shared: &Shared) -> Option<String> {
        let failures = lock(&shared.failures);
        let mut failed = failures
            .iter()
            .filter(|failure| failure.doing.loses_contents())
            .filter(|failure| self.contents.contains(&failure.entry));
        let first = failed.next()?;
        let more = match failed.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "nothing was given its name, since {}{more} failed: what was restored is in schema {}",
            first.object,
            removal(&self.scratch)
        ))
    }

    async fn place_all(&self, session: &mut Session, options: &Options) -> Result<()> {
        let in_transaction = options.single_transaction;
        if !in_transaction {
            session.execute("BEGIN").await?;
        }
        self.refuse_references(session).await?;
        let mut text = BString::default();
        let scratch = sql::literal(&self.scratch);
        // what is there after all that failed
        let found = session
            .query(sql!(
                "SELECT c.relname AS name, c.relkind AS kind,
                        EXISTS (SELECT FROM pg_depend d
                                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                  AND d.refclassid = 'pg_class'::regclass
                                  AND c.relkind = 'S' AND d.deptype IN ('a', 'i')) AS owned
                 FROM pg_class c
                 WHERE c.relnamespace = {}::regnamespace AND c.relkind IN ('r', 'p', 'f', 'S', 'i', 'I')
                 ORDER BY c.relkind IN ('r', 'p', 'f'), c.relname",
                sql::literal(sql::identifier(&self.scratch))
            ))
            .await?;
        let mut moves = BString::default();
        for row in found.iter() {
            let name = row.text("name")?;
            let Some(Move { to, .. }) = self.relations.get(&name) else {
                continue;
            };
            let kind = match row.char("kind")? {
                b'S' => "SEQUENCE",
                b'i' | b'I' => "INDEX",
                b'f' => "FOREIGN TABLE",
                _ => "TABLE",
            };
            self.rename(&mut text, kind, &name, &to.1);
            // what is the table's goes with it
            if kind != "INDEX" && !row.bool("owned")? {
                self.place(&mut moves, kind, to);
            }
        }
        let found = session
            .query(sql!(
                "SELECT s.stxname AS name FROM pg_statistic_ext s
                 JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE n.nspname = {}",
                scratch
            ))
            .await?;
        for row in found.iter() {
            let name = row.text("name")?;
            if let Some(Move { to, .. }) = self.statistics.get(&name) {
                self.rename(&mut text, "STATISTICS", &name, &to.1);
                self.place(&mut moves, "STATISTICS", to);
            }
        }
        text.extend_from_slice(&moves);
        text.extend_from_slice(&sql!("DROP SCHEMA {};\n", sql::identifier(&self.scratch)));
        session
            .execute(text)
            .await
            .context("giving what was restored its name and schema")?;
        if !in_transaction {
            session.execute("COMMIT").await?;
            if let Some(wanted) = &options.dependencies {
                wanted.scratch.set(None);
            }
        }
        Ok(())
    }

    /// A message of the server, with the names that things are to get.
    fn as_known(&self, message: &str) -> String {
        let scratch = format!("{}.", self.scratch);
        let mut known = String::new();
        let mut rest = message;
        while let Some((before, after)) = rest.split_once(&scratch) {
            known.push_str(before);
            let length = after
                .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')))
                .unwrap_or(after.len());
            let (name, after) = match after.strip_prefix('"').and_then(|own| own.split_once('"')) {
                Some((name, after)) => (name, after),
                None => after.split_at(length),
            };
            match self.relations.get(name.as_bytes().as_bstr()) {
                Some(Move { to, .. }) => known.push_str(&sql::qualified(&to.0, &to.1).to_string()),
                None => known.push_str(name),
            }
            rest = after;
        }
        known.push_str(rest);
        known
    }

    fn rename(&self, text: &mut BString, kind: &str, name: &BString, to: &BString) {
        if name != to {
            text.extend_from_slice(&sql!(
                "ALTER {} {} RENAME TO {};\n",
                kind,
                sql::qualified(&self.scratch, name),
                sql::identifier(to)
            ));
        }
    }

    fn place(&self, text: &mut BString, kind: &str, to: &Name) {
        text.extend_from_slice(&sql!(
            "ALTER {} {} SET SCHEMA {};\n",
            kind,
            sql::qualified(&self.scratch, &to.1),
            sql::identifier(&to.0)
        ));
    }

    /// Nothing that was made may refer to a table of the old name: the server knows.
    async fn refuse_references(&self, session: &mut Session) -> Result<()> {
        let old = self.relations.values().map(|one| {
            sql!(
                "({}, {})",
                sql::literal(&one.from.0),
                sql::literal(&one.from.1)
            )
        });
        let rows = session
            .query(sql!(
                "WITH old AS (SELECT c.oid, c.reltype, format('%I.%I', n.nspname, c.relname) AS name
                              FROM (VALUES {}) AS v (schema, name)
                              JOIN pg_namespace n ON n.nspname = v.schema
                              JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.name),
                      made AS (SELECT oid FROM pg_class WHERE relnamespace = {}::regnamespace),
                      part (classid, objid) AS (
                          SELECT 'pg_class'::regclass, oid FROM made
                          UNION ALL SELECT 'pg_attrdef'::regclass, a.oid
                                    FROM pg_attrdef a JOIN made ON made.oid = a.adrelid
                          UNION ALL SELECT 'pg_constraint'::regclass, c.oid
                                    FROM pg_constraint c JOIN made ON made.oid = c.conrelid
                          UNION ALL SELECT 'pg_trigger'::regclass, t.oid
                                    FROM pg_trigger t JOIN made ON made.oid = t.tgrelid
                          UNION ALL SELECT 'pg_rewrite'::regclass, r.oid
                                    FROM pg_rewrite r JOIN made ON made.oid = r.ev_class
                          UNION ALL SELECT 'pg_policy'::regclass, p.oid
                                    FROM pg_policy p JOIN made ON made.oid = p.polrelid)
                 SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object, old.name
                 FROM part JOIN pg_depend d ON d.classid = part.classid AND d.objid = part.objid
                 JOIN old ON d.refclassid = 'pg_class'::regclass AND d.refobjid = old.oid
                          OR d.refclassid = 'pg_type'::regclass AND d.refobjid = old.reltype
                 ORDER BY 1, 2 LIMIT 1",
                sql::join(old, ", "),
                sql::literal(sql::identifier(&self.scratch))
            ))
            .await
            .context("looking for references to the table of the old name")?;
        match rows.iter().next() {
            None => Ok(()),
            Some(row) => Err(Error::new(format!(
                "{} refers to {}, not to the table restored",
                self.as_known(&row.text("object")?.to_string()),
                row.text("name")?
            ))),
        }
    }
}
