//! What rows and definitions show as it is when they are read, whatever the snapshot says, and no lock
//! holds still: labels of enums, attributes of composite types, and the names that the server's
//! deparsing functions print.

use std::collections::HashMap;
use std::time::Duration;

use bstr::BString;

use crate::error::{Error, Result, ResultExt};
use crate::postgres::settings::{BEGIN_LOOKING, set_local};
use crate::postgres::{Connector, Oid, Session};

/// What it is, its OID, and what must stay the same of it. Array types follow their elements.
const NAMES: &str = "
    SELECT 'a label of type ' || format_type(e.enumtypid, NULL) AS what, e.oid, e.enumlabel AS shown
    FROM pg_enum e
    UNION ALL
    SELECT 'attributes of a type', c.oid,
           concat(n.nspname, '.', c.relname, '(', string_agg(
               concat(a.attname, ' ', format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum), ')')
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind = 'c'
    GROUP BY n.nspname, c.relname, c.oid
    UNION ALL
    SELECT o.what, o.oid, concat(n.nspname, '.', o.name)
    FROM (SELECT 'type' AS what, t.oid, t.typnamespace AS namespace, t.typname AS name
          FROM pg_type t WHERE t.typcategory <> 'A'
          UNION ALL
          SELECT 'function', p.oid, p.pronamespace, p.proname FROM pg_proc p
          UNION ALL
          SELECT 'collation', c.oid, c.collnamespace, c.collname FROM pg_collation c
          UNION ALL
          SELECT 'text search configuration', c.oid, c.cfgnamespace, c.cfgname FROM pg_ts_config c
          UNION ALL
          SELECT 'text search dictionary', d.oid, d.dictnamespace, d.dictname FROM pg_ts_dict d
          UNION ALL
          SELECT 'relation', c.oid, c.relnamespace, c.relname
          FROM pg_class c WHERE c.relkind IN ('v', 'm', 'S', 'f')) AS o
    JOIN pg_namespace n ON n.oid = o.namespace
    WHERE o.oid >= 16384 AND n.nspname !~ '^pg_'
    ORDER BY 2";

/// Refuses what was read if any of it is another now than in the leader's snapshot. It takes another
/// connection to see that.
pub async fn refuse_change(
    leader: &mut Session,
    connector: &Connector,
    settings: &[u8],
    warnings: &mut Vec<String>,
) -> Result<()> {
    // one after the other: a catalog that we read keeps those waiting who rewrite it, and they
    // whoever comes then
    let now = match Names::of_now(connector, settings).await {
        Ok(now) => now,
        Err(error) => {
            warnings.push(format!(
                "whether types or functions were altered or renamed while the snapshot was taken is not known: {error}"
            ));
            return Ok(());
        }
    };
    match Names::read(leader).await?.change(&now) {
        None => Ok(()),
        Some(change) => Err(
            Error::new(format!("{change} while the snapshot was taken")).hint(
                "what was read may not fit together: run again, and alter or rename types and functions only when no snapshot is being taken",
            ),
        ),
    }
}

/// Behind a pooler whose connections are all taken, a transaction does not begin.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody may rewrite a catalog, and may wait for us to do it.
const LOCK_WAIT: &str = "5s";

/// As a transaction sees them.
struct Names {
    order: Vec<(BString, Oid)>,
    shown: HashMap<(BString, Oid), BString>,
}

impl Names {
    async fn of_now(connector: &Connector, settings: &[u8]) -> Result<Names> {
        let mut session = connector.open().await?;
        let mut begin = BString::from(BEGIN_LOOKING);
        begin.extend_from_slice(settings);
        begin.extend_from_slice(&set_local("lock_timeout", LOCK_WAIT));
        tokio::time::timeout(PATIENCE, session.execute(&begin))
            .await
            .map_err(|_| Error::new("no transaction could be begun to find out"))??;
        let names = Names::read(&mut session).await?;
        session.execute("COMMIT").await?;
        session.close().await;
        Ok(names)
    }

    async fn read(session: &mut Session) -> Result<Names> {
        let rows = session
            .query(NAMES)
            .await
            .context("reading the names of types and functions")?;
        let mut names = Names {
            order: Vec::with_capacity(rows.len()),
            shown: HashMap::with_capacity(rows.len()),
        };
        for row in &rows {
            let key = (row.text("what")?, row.number("oid")?);
            names.order.push(key.clone());
            names.shown.insert(key, row.text("shown")?);
        }
        Ok(names)
    }

    /// The first that is another in `later`, as a sentence.
    fn change(&self, later: &Names) -> Option<String> {
        self.order.iter().find_map(|key| {
            let (before, now) = (&self.shown[key], later.shown.get(key)?);
            (now != before).then(|| format!("{} changed from \"{before}\" to \"{now}\"", key.0))
        })
    }
}
