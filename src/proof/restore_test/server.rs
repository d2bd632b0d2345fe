//! Where an archive is restored for the test: a server of its own, or a database on a given one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bstr::BString;

use crate::error::{Error, Result, ResultExt};
use crate::postgres::conninfo::{ConnectionFlags, Environment, resolve};
use crate::postgres::disposable::{DisposableServer, Network};
use crate::postgres::{Connector, ServerVersion, Session};
use crate::sql;

/// What was asked for.
#[derive(Debug, Clone)]
pub enum ServerChoice {
    /// Programs on this machine, else Docker.
    Any,
    Local,
    Docker {
        /// Not that of the major version.
        image: Option<String>,
    },
    Given(Box<Connector>),
}

pub struct Server {
    connector: Connector,
    origin: String,
    network: Network,
    version: ServerVersion,
    /// A database on a given server, which goes when the test ends.
    scratch: Option<BString>,
    started: Duration,
    // it is removed when this is dropped
    disposable: Option<DisposableServer>,
}

/// Starts a server for archives of this version, or looks at the one that is given.
pub async fn start(
    choice: &ServerChoice,
    major: u32,
    told: &mut (dyn FnMut(&str) + Send),
) -> Result<Server> {
    let begun = Instant::now();
    let disposable = match choice {
        ServerChoice::Given(connector) => return given(connector, begun).await,
        ServerChoice::Docker { image } => {
            DisposableServer::start_isolated_container(major, image.as_deref(), told).await?
        }
        ServerChoice::Local => DisposableServer::start_isolated_local(major)
            .await?
            .ok_or_else(|| no_programs(major))?,
        ServerChoice::Any => match DisposableServer::start_isolated_local(major).await? {
            Some(server) => server,
            None => DisposableServer::start_isolated_container(major, None, told)
                .await
                .map_err(|error| {
                    Error::new(format!(
                        "no server to test with: no programs of PostgreSQL {major} or later on this machine, and Docker started none: {error}"
                    ))
                    .hint(WAYS)
                })?,
        },
    };
    let postgres = connector(&disposable)?;
    let mut session = postgres.open().await?;
    let version = session.version()?;
    // so that all others can be dropped
    let own = drawn_name();
    let create = sql!(
        "CREATE DATABASE {} TEMPLATE template0",
        sql::identifier(&own)
    );
    session.execute(create).await?;
    session.close().await;
    let connector = postgres.with_database(own);
    Ok(Server {
        connector,
        origin: disposable.origin().to_owned(),
        network: disposable.network(),
        version,
        scratch: None,
        started: begun.elapsed(),
        disposable: Some(disposable),
    })
}

const WAYS: &str = "install PostgreSQL's server package, or start Docker (--server docker, --image NAME), or give a server for a database that is dropped afterwards (--on CONNINFO)";

fn no_programs(major: u32) -> Error {
    Error::new(format!(
        "no programs of PostgreSQL {major} or later on this machine"
    ))
    .hint(WAYS)
}

async fn given(connector: &Connector, begun: Instant) -> Result<Server> {
    let (session, connector) = connector.clone().first().await?;
    let version = session.version()?;
    session.close().await;
    Ok(Server {
        connector,
        origin: format!("PostgreSQL {version}, given"),
        network: Network::OfServer,
        version,
        scratch: Some(drawn_name()),
        started: begun.elapsed(),
        disposable: None,
    })
}

/// A name that no database has.
pub fn drawn_name() -> BString {
    format!("rdump_test_{:08x}", rand::random::<u32>()).into()
}

fn connector(server: &DisposableServer) -> Result<Connector> {
    let flags = ConnectionFlags {
        dbname: Some(server.conninfo()),
        ..ConnectionFlags::default()
    };
    // the user's own PG* variables must not lead elsewhere
    let environment = Environment {
        variables: Default::default(),
        home: None,
        ..Environment::of_process()
    };
    Ok(Connector::new(resolve(&flags, &environment)?))
}

impl Server {
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn network(&self) -> Network {
        self.network
    }

    pub fn version(&self) -> ServerVersion {
        self.version
    }

    pub fn started(&self) -> Duration {
        self.started
    }

    pub fn is_disposable(&self) -> bool {
        self.disposable.is_some()
    }

    pub fn scratch(&self) -> Option<&BString> {
        self.scratch.as_ref()
    }

    /// Drops what has the name of a database that is to be restored, such as "postgres": it would keep
    /// the locale of this server.
    pub async fn make_room(&self, names: BTreeSet<BString>) -> Result<()> {
        let mut session = self.connector.open().await?;
        let rows = session
            .query("SELECT datname FROM pg_catalog.pg_database")
            .await?;
        let present = rows.iter().map(|row| row.text("datname"));
        let present: BTreeSet<BString> = present.collect::<Result<_>>()?;
        for name in names.intersection(&present).map(sql::identifier) {
            for statement in [
                sql!("ALTER DATABASE {} IS_TEMPLATE false", name),
                sql!("DROP DATABASE {} WITH (FORCE)", name),
            ] {
                let dropped = session.execute(statement).await;
                dropped.with_context(|| format!("making room for database {name}"))?;
            }
        }
        session.close().await;
        Ok(())
    }

    pub async fn missing_extensions(&self, wanted: BTreeSet<BString>) -> Result<Vec<BString>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut session = self.connector.open().await?;
        let rows = session
            .query("SELECT name FROM pg_catalog.pg_available_extensions")
            .await
            .context("listing the extensions that the server offers")?;
        session.close().await;
        let names = rows.iter().map(|row| row.text("name"));
        let available: BTreeSet<BString> = names.collect::<Result<_>>()?;
        Ok(wanted.difference(&available).cloned().collect())
    }

    /// Roles that archives of databases only name. They log in nowhere, and may do nothing.
    pub async fn create_roles(&self, roles: BTreeSet<BString>) -> Result<()> {
        let mut session = self.connector.open().await?;
        let rows = session
            .query("SELECT rolname FROM pg_catalog.pg_roles")
            .await?;
        let names = rows.iter().map(|row| row.text("rolname"));
        let present: BTreeSet<BString> = names.collect::<Result<_>>()?;
        for role in roles.difference(&present) {
            let create = sql!("CREATE ROLE {} NOLOGIN", sql::identifier(role));
            session.execute(create).await.with_context(|| {
                format!(
                    "creating role {}, which the archive names",
                    sql::identifier(role)
                )
            })?;
        }
        session.close().await;
        Ok(())
    }

    /// Ends what a test that broke off still runs.
    pub async fn cancel(&self) {
        self.connector.cancel_all().await;
    }

    /// Leaves nothing behind, unless the database is to be kept.
    pub async fn end(self, keep: bool) -> Result<()> {
        let Some(name) = self.scratch.as_ref().filter(|_| !keep) else {
            return Ok(());
        };
        let dropped = drop_database(&self.connector, name).await;
        dropped.map_err(|error| {
            let name = sql::identifier(name);
            error
                .context(format!("dropping the database of the test, {name}"))
                .hint(format!(
                    "drop it by hand: DROP DATABASE {name} WITH (FORCE)"
                ))
        })
    }
}

async fn drop_database(connector: &Connector, name: &BString) -> Result<()> {
    let mut session = connector.open().await?;
    let exists = session
        .query(sql!(
            "SELECT 1 AS one FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) {}",
            sql::literal(name)
        ))
        .await?;
    if !exists.is_empty() {
        // as the archive may have it; a template is never dropped
        let plain = sql!("ALTER DATABASE {} IS_TEMPLATE false", sql::identifier(name));
        session.execute(plain).await?;
        // where nobody gets in, there may be none: the drop says so
        if let Ok(mut within) = connector.with_database(name.clone()).open().await {
            drop_subscriptions(&mut within).await?;
            within.close().await;
        }
        let drop = sql!("DROP DATABASE {} WITH (FORCE)", sql::identifier(name));
        session.execute(drop).await?;
    }
    session.close().await;
    Ok(())
}

/// No database is dropped that has them. They were made without a connection and own no slot: what is
/// at the other end belongs to the database that the archive is of.
async fn drop_subscriptions(session: &mut Session) -> Result<()> {
    let rows = session
        .query(
            "SELECT s.subname AS name FROM pg_catalog.pg_subscription s
             JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
             WHERE d.datname = pg_catalog.current_database()",
        )
        .await?;
    for row in &rows {
        let name = sql::identifier(row.text("name")?);
        for statement in [
            sql!("ALTER SUBSCRIPTION {} DISABLE", name),
            sql!("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", name),
            sql!("DROP SUBSCRIPTION {}", name),
        ] {
            session.execute(statement).await?;
        }
    }
    Ok(())
}
