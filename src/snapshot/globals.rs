//! Snapshots of what belongs to the whole server.

use std::sync::Arc;

use bstr::BString;

use super::sealing::{Destination, Writer, begin_archive};
use super::{Options, Report, recorded_settings};
use crate::archive::limits::HEADER_FLAG_WITHOUT_PASSWORDS;
use crate::archive::{ArchiveId, Content, Header};
use crate::catalog::globals::{self, GlobalsScope};
use crate::error::{Result, ResultExt};
use crate::postgres::settings::{BEGIN_LOOKING, KnownSettings};
use crate::postgres::{Connector, Session};
use crate::report::{Cancellation, Progress};
use crate::sql;

/// Takes a snapshot of the globals alone. Nothing is left behind on an error.
pub async fn run(
    connector: Connector,
    options: &Options,
    scope: &GlobalsScope,
    progress: Arc<Progress>,
    cancellation: &Arc<Cancellation>,
) -> Result<Report> {
    let (mut session, connector) = connector.first().await?;
    let mut destination = Destination::alone(&options.output, cancellation)?;
    let taken = async {
        begin(&mut session).await?;
        let (report, _) = take(
            &mut session,
            options,
            scope,
            &mut destination,
            progress,
            cancellation,
        )
        .await?;
        // a pooler throws connections away whose transaction was left open
        session.execute("COMMIT").await?;
        Ok(report)
    };
    let outcome = taken.await;
    match &outcome {
        Ok(_) => session.close().await,
        Err(_) => connector.cancel_all().await,
    }
    outcome
}

/// Begins the transaction that all is read in.
pub async fn begin(session: &mut Session) -> Result<()> {
    session.execute(BEGIN_LOOKING).await?;
    let known = KnownSettings::read(session).await?;
    session.execute("COMMIT").await?;
    let encoding = encoding(session);
    let mut begin = BString::from("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n");
    begin.extend_from_slice(&known.for_reading(&encoding));
    session
        .execute(begin)
        .await
        .context("starting the transaction")
}

fn encoding(session: &Session) -> String {
    let encoding = session.parameter("server_encoding");
    encoding.unwrap_or("SQL_ASCII").to_owned()
}

/// Reads and writes the globals, in the transaction that the session is in and that stays open.
pub async fn take(
    session: &mut Session,
    options: &Options,
    scope: &GlobalsScope,
    destination: &mut Destination,
    progress: Arc<Progress>,
    cancellation: &Arc<Cancellation>,
) -> Result<(Report, Header)> {
    let rows = session
        .query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS time")
        .await
        .context("taking the snapshot")?;
    let time = rows.only()?.number("time")?;
    let quotes_all = options.reading.quote_all_identifiers;
    let read = sql::quoting_all(quotes_all, globals::read(session, scope)).await;
    let read = read.context("reading the globals of the server")?;
    progress.log(|| format!("the server has {} globals", read.entries.len()));

    let mut header = Header::new(ArchiveId::random());
    header.content = Content::Globals;
    header.set = destination.set();
    header.codec = options.codec.to_string();
    if read.without_passwords {
        header.optional_flags |= HEADER_FLAG_WITHOUT_PASSWORDS;
    }
    header.server_version_num = session.version()?.0;
    header.server_version = session
        .parameter("server_version")
        .unwrap_or_default()
        .to_owned();
    header.encoding = encoding(session);
    header.snapshot_time = time;
    header.settings = recorded_settings(options);

    let mut archive = begin_archive(destination.take()?, &header, options)?;
    archive.write_entries(&read.entries)?;
    let writer = Writer::start(archive, destination, options, progress, cancellation)?;
    let summary = writer.finish(destination).await?;
    let report = Report {
        summary,
        database: BString::default(),
        server_version: header.server_version.clone(),
        snapshot_time: time,
        tables: 0,
        connections: 1,
        warnings: read.warnings,
    };
    Ok((report, header))
}
