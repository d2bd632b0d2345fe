//! The run of a restore into one database, stage by stage.

use std::collections::BTreeSet;
use std::sync::Arc;

use bstr::BString;

use super::connections::from_file;
use super::create::{self, Place, Shared, create, lock};
use super::dependencies::{self, Relocation};
use super::input::{Contents, Opened};
use super::schedule::is_data;
use super::selection::{self, label};
use super::transactions::Transactions;
use super::{Doing, Options, Report, Severity, database, preflight, prepare, stream, triggers};
use crate::archive::{Entry, Header, Pass, Section};
use crate::catalog::roles::map_roles;
use crate::catalog::{self, rows_alone};
use crate::error::Result;
use crate::postgres::{Connector, ServerVersion, Session, open_workers, refuse_transaction_mode};
use crate::report::Progress;
use crate::sql;

/// Restores the archive of a database. After an error `Options::triggers` knows of those that are
/// left disabled.
pub async fn run(
    connector: &Connector,
    mut opened: Opened,
    options: Options,
    progress: Arc<Progress>,
) -> Result<Report> {
    let mut chosen = Chosen::of(&mut opened, options)?;
    let mut target = Target::open(connector, &opened.header, &mut chosen.warnings).await?;
    chosen.add_needed(&mut target.leader, &opened).await?;
    chosen.check(&mut target.leader, &opened).await?;
    if chosen.options.create_database {
        target = target.create_database(&opened, &chosen.options).await?;
        // created; left to do are its owner, comment, settings and privileges
        database::keep_properties(&mut chosen.entries);
    }
    let relocation = chosen.relocation.take();
    let shared = Arc::new(chosen.ready(&mut target, &opened, progress).await?);
    let outcome = replay(target, opened, &shared, relocation).await;
    let warnings = std::mem::take(&mut *lock(&shared.warnings));
    let (database, connections) = outcome.inspect_err(|_| {
        // they may tell why
        warnings.iter().for_each(|line| shared.progress.warn(line));
    })?;
    let failures = std::mem::take(&mut *lock(&shared.failures));
    Ok(Report {
        database,
        entries: shared.entries.len(),
        rows: shared.rows(),
        connections,
        failures,
        warnings,
    })
}

/// Looks at the target as a restore would, and writes nothing. What would fail is an error; returned is
/// what is worth knowing.
pub async fn check(
    connector: &Connector,
    mut opened: Opened,
    options: Options,
) -> Result<Vec<String>> {
    let mut chosen = Chosen::of(&mut opened, options)?;
    let mut target = Target::open(connector, &opened.header, &mut chosen.warnings).await?;
    chosen.check(&mut target.leader, &opened).await?;
    target.leader.close().await;
    Ok(chosen.warnings)
}

/// The database and over how many connections it was restored.
async fn replay(
    mut target: Target,
    opened: Opened,
    shared: &Arc<Shared>,
    relocation: Option<Relocation>,
) -> Result<(String, usize)> {
    expect(shared, &opened.rows)?;
    let transactions = Transactions::of(&shared.options);
    transactions.begin(&mut target.leader).await?;
    pre_data(&mut target.leader, shared, relocation.as_ref()).await?;
    let workers = target.workers(shared, &opened.header).await?;
    if shared.options.disable_triggers && shared.options.selection.parts.no_schema {
        triggers::disable(&mut target.leader, shared, &target.connector).await?;
    }
    let connections = 1 + workers.len();
    if connections > 1 {
        // of several connections each commits as it goes
        transactions.publish(&mut target.leader).await?;
    }

    let mut leader = target.load(workers, shared, opened.rows).await?;
    last(&mut leader, shared, transactions).await?;
    if let Some(relocation) = &relocation {
        relocation.finish(&mut leader, shared).await?;
    }
    transactions.settle(&mut leader, shared).await?;
    let database = leader.database().to_owned();
    leader.close().await;
    Ok((database, connections))
}

/// What is restored, and how.
struct Chosen {
    entries: Vec<Entry>,
    options: Options,
    relocation: Option<Relocation>,
    /// The archive holds rows and no definitions, so that it does not say what refers to what.
    has_rows_alone: bool,
    warnings: Vec<String>,
}

impl Chosen {
    /// By what the archive says, with the names that it is to be restored under.
    fn of(opened: &mut Opened, mut options: Options) -> Result<Chosen> {
        let has_rows_alone = options.selection.heed(&opened.header)?;
        let mut mapped = BTreeSet::new();
        for entry in &mut opened.entries {
            map_roles(entry, &options.roles, &mut mapped);
        }
        let new_name = options.database_name.as_ref();
        if let Some(name) = new_name.filter(|_| options.create_database) {
            catalog::rename_database(&mut opened.header, &mut opened.entries, name);
        }
        let of_database = options.create_database || options.database_properties;
        let (mut entries, mut warnings) = match is_empty(&opened.entries, &options, of_database) {
            true => (Vec::new(), vec![EMPTY.to_owned()]),
            false => selection::choose(&opened.entries, &options.selection, of_database)?,
        };
        if options.database_properties {
            database::keep_properties(&mut entries);
        }
        let unmapped = options.roles.keys().filter(|role| !mapped.contains(*role));
        warnings.extend(unmapped.map(|role| format!("the archive does not name role \"{role}\"")));
        Ok(Chosen {
            entries,
            options,
            relocation: None,
            has_rows_alone,
            warnings,
        })
    }

    /// --with-dependencies: what the chosen tables need of the archive, as the target has it.
    async fn add_needed(&mut self, leader: &mut Session, opened: &Opened) -> Result<()> {
        let Some(wanted) = &self.options.dependencies else {
            return Ok(());
        };
        let plan = dependencies::plan(leader, opened, &self.options, wanted).await?;
        (self.entries, self.relocation) = (plan.entries, plan.relocation);
        self.warnings.extend(plan.warnings);
        Ok(())
    }

    /// Refuses what will fail.
    async fn check(&mut self, leader: &mut Session, opened: &Opened) -> Result<()> {
        let (header, all) = (&opened.header, &opened.entries);
        let findings = preflight::check(leader, header, all, &self.entries, &self.options).await?;
        let (blocking, others): (Vec<_>, Vec<_>) = findings
            .into_iter()
            .partition(|finding| finding.severity == Severity::WillFail && !self.options.force);
        if !blocking.is_empty() {
            return Err(preflight::refusal(&blocking));
        }
        self.warnings.extend(others.iter().map(ToString::to_string));
        Ok(())
    }

    /// What all connections share, with the entries as this server takes them.
    async fn ready(
        mut self,
        target: &mut Target,
        opened: &Opened,
        progress: Arc<Progress>,
    ) -> Result<Shared> {
        let from = ServerVersion(opened.header.server_version_num);
        let to = target.leader.version()?;
        for entry in &mut self.entries {
            catalog::adapt(entry, from, to);
        }
        let current_role: BString = target
            .leader
            .query("SELECT current_user AS role")
            .await?
            .only()?
            .text("role")?;
        let options = &self.options;
        let is_alone = options.selection.parts.no_schema;
        let order = match (&opened.rows, is_alone) {
            (Contents::File(_), true) => rows_alone::order(&opened.entries, &mut self.entries),
            // a stream has the rows in the order that it has them
            (Contents::Stream(_), true) if !self.has_rows_alone && !options.disable_triggers => {
                self.warnings.push(AS_THEY_COME.to_owned());
                rows_alone::Order::default()
            }
            _ => rows_alone::Order::default(),
        };
        // in order even with --disable-triggers: it may turn out that they cannot be
        if !options.disable_triggers {
            self.warnings.extend(order.warnings);
        }
        if self.options.no_table_access_method {
            self.entries
                .iter_mut()
                .for_each(create::without_access_method);
        }
        let role = target.connector.role().map(str::to_owned);
        let mut shared = Shared::new(self.entries, self.options, progress, current_role, role);
        shared.whole = order.whole;
        if self.has_rows_alone && !shared.options.disable_triggers {
            // which tables refer to themselves is not known
            shared.whole = shared.entries.iter().map(|entry| entry.id).collect();
        }
        *lock(&shared.warnings) = self.warnings;
        Ok(shared)
    }
}

const AS_THEY_COME: &str = "rows of a stream are loaded as they come, and tables with foreign keys may come before those that they refer to: restore from a file, or with --disable-triggers";

const EMPTY: &str = "the archive holds no objects: there is nothing to restore";

/// Whether it is the archive, and no filter, that leaves nothing to do.
fn is_empty(all: &[Entry], options: &Options, of_database: bool) -> bool {
    let mut all = all.iter();
    !options.selection.is_of_a_part() && all.all(|entry| !of_database && entry.is_of_database())
}

/// The server that is restored to.
struct Target {
    leader: Session,
    connector: Connector,
}

impl Target {
    async fn open(
        connector: &Connector,
        header: &Header,
        warnings: &mut Vec<String>,
    ) -> Result<Target> {
        let (mut leader, connector) = connector.clone().first().await?;
        preflight::refuse_unsupported(&leader)?;
        warnings.extend(leader.take_warnings());
        refuse_transaction_mode(&mut leader, &connector, "restore").await?;
        prepare(&mut leader, header).await?;
        Ok(Target { leader, connector })
    }

    /// -C: goes on in the new database.
    async fn create_database(self, opened: &Opened, options: &Options) -> Result<Target> {
        let created = database::create(self.leader, &self.connector, opened, options).await;
        let (mut leader, connector) = created?;
        prepare(&mut leader, &opened.header).await?;
        Ok(Target { leader, connector })
    }

    async fn workers(&mut self, shared: &Shared, header: &Header) -> Result<Vec<Session>> {
        let jobs = match Transactions::of(&shared.options) {
            Transactions::One => 1,
            Transactions::Each | Transactions::Sized => shared.options.jobs,
        };
        let prepare = async |session: &mut Session| prepare(session, header).await;
        let mut warnings = Vec::new();
        let (leader, connector) = (&mut self.leader, &self.connector);
        let workers = open_workers(leader, connector, jobs, &mut warnings, prepare).await;
        lock(&shared.warnings).append(&mut warnings);
        workers
    }

    /// The parallel part; what is left is done by the first connection.
    async fn load(
        self,
        workers: Vec<Session>,
        shared: &Arc<Shared>,
        rows: Contents,
    ) -> Result<Session> {
        let Target { leader, connector } = self;
        match rows {
            Contents::File(source) => from_file(leader, workers, shared, &connector, source).await,
            Contents::Stream(arriving) => {
                stream::restore(leader, workers, shared, &connector, arriving).await
            }
        }
    }
}

/// Tells the display what is to come, where the index of a file says it.
fn expect(shared: &Shared, rows: &Contents) -> Result<()> {
    let (mut tables, mut bytes) = (0, 0);
    for entry in shared.entries.iter().filter(|entry| is_data(entry)) {
        tables += 1;
        if let Contents::File(source) = rows {
            bytes += source
                .reader()
                .end_record(entry.id)?
                .map_or(0, |end| end.raw_length);
        }
    }
    shared.progress.expect(tables, bytes);
    Ok(())
}

/// Definitions that come before the rows, after what is dropped for them.
async fn pre_data(
    leader: &mut Session,
    shared: &Shared,
    relocation: Option<&Relocation>,
) -> Result<()> {
    if let Some(relocation) = relocation {
        relocation.begin(leader, &shared.options).await?;
    }
    // a database that was just created holds nothing to drop
    if shared.options.clean && !shared.options.create_database {
        clean(leader, shared).await?;
    }
    have_public(leader, shared).await?;
    serial(leader, shared, |entry| {
        entry.pass == Pass::Main && entry.section != Section::PostData && !is_data(entry)
    })
    .await
}

/// What initdb grants and says of the schema public, which archives take to be so.
const AS_INITDB: &str = "GRANT USAGE ON SCHEMA public TO PUBLIC; \
                         COMMENT ON SCHEMA public IS 'standard public schema'";

/// The schema public, which archives take to be there, may have been dropped.
async fn have_public(leader: &mut Session, shared: &Shared) -> Result<()> {
    let mut entries = shared.entries.iter();
    let Some(public) = entries.find(|entry| entry.kind == "SCHEMA" && entry.create.is_empty())
    else {
        return Ok(());
    };
    let is_within = |entry: &Entry| entry.schema.as_ref() == Some(&public.name);
    if !shared.entries.iter().any(is_within) {
        return Ok(());
    }
    let name = sql::identifier(&public.name);
    let rows = leader
        .query(sql!(
            "SELECT pg_catalog.to_regnamespace({}) IS NULL AS is_missing",
            sql::literal(&name)
        ))
        .await?;
    if rows.only()?.bool("is_missing")?
        && let Err(error) = leader
            .execute(sql!("CREATE SCHEMA {}; {}", name, AS_INITDB))
            .await
    {
        create::after_failure(leader, shared, public, Doing::Creating, error).await?;
    }
    Ok(())
}

/// What comes after rows, indexes and constraints.
async fn last(leader: &mut Session, shared: &Shared, transactions: Transactions) -> Result<()> {
    let triggers = &shared.options.triggers;
    if triggers.are_disabled() {
        transactions.publish(leader).await?;
        triggers.enable(leader).await?;
    }
    transactions.resume(leader).await?;
    serial(leader, shared, |entry| entry.pass == Pass::Privileges).await?;
    serial(leader, shared, |entry| entry.pass == Pass::Last).await?;
    transactions.publish(leader).await
}

/// Runs the chosen entries one after the other.
async fn serial(
    session: &mut Session,
    shared: &Shared,
    chosen: impl Fn(&Entry) -> bool,
) -> Result<()> {
    let mut place = Place::default();
    for entry in shared.entries.iter().filter(|entry| chosen(entry)) {
        create(session, shared, entry, &mut place).await?;
    }
    create::reset(session, &mut place).await
}

/// Drops what the archive will create, dependents first.
async fn clean(session: &mut Session, shared: &Shared) -> Result<()> {
    for entry in shared.entries.iter().rev() {
        let drop = if shared.options.if_exists {
            &entry.drop_if_exists
        } else {
            &entry.drop
        };
        if drop.is_empty() || is_data(entry) {
            continue;
        }
        shared.progress.log(|| format!("dropping {}", label(entry)));
        if let Err(error) = session.execute(drop).await {
            create::after_failure(session, shared, entry, Doing::Dropping, error).await?;
        }
        create::count(session, shared).await?;
    }
    Ok(())
}
