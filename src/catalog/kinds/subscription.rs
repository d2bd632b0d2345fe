//! Subscriptions. They are restored without touching the publisher: whoever wants changes to flow
//! again enables them, when the restored database is to take the old one's place.

use bstr::{BString, ByteSlice};

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct Subscription {
    identity: Identity,
    connection: BString,
    publications: Vec<BString>,
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Subscription>> {
    let counted = reader
        .query(
            "subscriptions",
            "SELECT count(*) AS number,
                    has_column_privilege('pg_subscription', 'subconninfo', 'SELECT') AS readable
             FROM pg_subscription
             WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await?;
    let counted = counted.only()?;
    let number: u64 = counted.number("number")?;
    if number == 0 {
        return Ok(Vec::new());
    }
    // connection strings hold passwords, and only superusers may read them
    if !counted.bool("readable")? {
        reader.warn(format!(
            "subscriptions ({number}) are not in the archive: only a superuser may read them"
        ));
        return Ok(Vec::new());
    }
    let version = reader.version;
    let since = |major: u32, column: &'static str, before: &'static str| {
        if version.at_least(major) { column } else { before }
    };
    let rows = reader
        .query(
            "subscriptions",
            &format!(
                "SELECT s.oid, s.subname AS name, pg_get_userbyid(s.subowner) AS owner,
                        s.subconninfo, s.subslotname, s.subsynccommit, s.subpublications,
                        s.subbinary, s.substream::text AS streaming,
                        {} AS two_phase, {} AS disable_on_error, {} AS origin,
                        {} AS password_required, {} AS run_as_owner, {} AS failover
                 FROM pg_subscription s
                 WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
                since(15, "s.subtwophasestate <> 'd'", "false"),
                since(15, "s.subdisableonerr", "false"),
                since(16, "s.suborigin", "'any'"),
                since(16, "s.subpasswordrequired", "true"),
                since(16, "s.subrunasowner", "false"),
                since(17, "s.subfailover", "false"),
            ),
        )
        .await?;
    let mut subscriptions = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::SUBSCRIPTION, row)?.owned(row)?;
        if reader.admit(&mut identity) {
            subscriptions.push(Subscription {
                identity,
                connection: row.text("subconninfo")?,
                publications: row.texts("subpublications")?,
                options: options(row)?,
            });
        }
    }
    Ok(subscriptions)
}

fn options(row: &Row) -> Result<Vec<BString>> {
    let mut options = vec![sql!("connect = false")];
    match row.optional("subslotname")? {
        None => options.push(sql!("slot_name = NONE")),
        // the default, and not taken if said of a name that no slot can have
        Some(name) if name == row.bytes("name")? => {}
        Some(name) => options.push(sql!("slot_name = {}", sql::literal(name))),
    }
    // what is the default depends on the server
    let streaming = match row.bytes("streaming")?.as_bytes() {
        // a boolean before 16
        b"t" | b"true" => "on",
        b"p" => "parallel",
        _ => "off",
    };
    options.push(sql!("streaming = {}", streaming));
    for (column, usual, option) in [
        ("subbinary", false, "binary = true"),
        ("two_phase", false, "two_phase = on"),
        ("disable_on_error", false, "disable_on_error = true"),
        ("password_required", true, "password_required = false"),
        ("failover", false, "failover = true"),
    ] {
        if row.bool(column)? != usual {
            options.push(BString::from(option));
        }
    }
    let origin = row.bytes("origin")?;
    if origin != "any" {
        options.push(sql!("origin = {}", sql::literal(origin)));
    }
    let commit = row.bytes("subsynccommit")?;
    if commit != "off" {
        options.push(sql!("synchronous_commit = {}", sql::literal(commit)));
    }
    // the last one: see `version`
    if row.bool("run_as_owner")? {
        options.push(BString::from("run_as_owner = true"));
    }
    Ok(options)
}

impl CatalogObject for Subscription {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("SUBSCRIPTION {}", self.identity.sql());
        let create = sql!(
            "CREATE {} CONNECTION {} PUBLICATION {} WITH ({});\n",
            target,
            sql::literal(&self.connection),
            sql::join(self.publications.iter().map(sql::identifier), ", "),
            sql::join(&self.options, ", ")
        );
        let definition = Definition::new(
            "SUBSCRIPTION",
            Section::PostData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        Ok(Some(definition))
    }
}
