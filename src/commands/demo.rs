//! `rdump demo`: the whole cycle on a disposable server.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::output::{bytes, print};
use crate::archive::{Codec, RandomReader};
use crate::catalog::Scope;
use crate::error::{Error, Result};
use crate::postgres::Connector;
use crate::postgres::conninfo::{ConnectionFlags, Environment, resolve};
use crate::postgres::disposable::DisposableServer;
use crate::proof::{CompareOptions, compare, verify_file};
use crate::report::Progress;
use crate::restore::{self, Input};
use crate::snapshot::{self, Output};
use crate::storage::LocalFile;

/// The sample database, part of the program so that the demo needs nothing beside it.
const SAMPLE: &str = include_str!("../../fixtures/sample/shop.sql");

#[derive(Debug, Args)]
pub struct Arguments {
    /// Major version of the server, where there is a choice
    #[arg(long, value_name = "MAJOR")]
    server: Option<u32>,
    /// Size of the sample database; 1 has some 60,000 rows
    #[arg(long, value_name = "FACTOR", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
}

const CONNECTIONS: usize = 4;

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let whole = Instant::now();
        print("rdump demo: snapshot, verify, restore and proof on a disposable server\n");
        let mut told = |message: &str| print(format_args!("   {message}"));
        let (server, took) = timed(DisposableServer::start(self.server, &mut told)).await?;
        step("server", took, server.origin());

        let (rows, took) = timed(load_sample(&server, self.scale)).await?;
        step(
            "source",
            took,
            &format!("database \"shop\" with {rows} rows in its tables"),
        );

        let folder = Folder::create()?;
        let file = folder.0.join("shop.rdump");
        let options = snapshot::Options {
            output: Output::File(file.clone()),
            jobs: CONNECTIONS,
            codec: Codec::default(),
            encryption: None,
            lock_wait: Duration::from_secs(60),
            sync: true,
            scope: Scope::default(),
            reading: Default::default(),
            least_slice: snapshot::LEAST_SLICE,
            window_hook: None,
        };
        let (report, took) = timed(snapshot::run(
            connector(&server, "shop")?,
            &options,
            Arc::new(Progress::default()),
        ))
        .await?;
        let totals = report.summary.totals;
        step(
            "snapshot",
            took,
            &format!(
                "{} entries and {} rows over {} connections; {} of rows in an archive of {}",
                totals.entries,
                totals.rows,
                report.connections,
                bytes(totals.raw_length),
                bytes(report.summary.file_length)
            ),
        );

        let (checked, took) = timed(verify(&file)).await?;
        step(
            "verify",
            took,
            &format!("{checked} rows decoded; every checksum and fingerprint holds"),
        );

        let started = Instant::now();
        administer(&server, "CREATE DATABASE shop_restored").await?;
        let restored = restore::run(
            connector(&server, "shop_restored")?,
            Input::File(file.clone()),
            restore::Options {
                jobs: CONNECTIONS,
                ..restore::Options::default()
            },
            Arc::new(Progress::default()),
        )
        .await?;
        for failure in &restored.failures {
            print(format_args!(
                "   {} ({}): {}",
                failure.object, failure.doing, failure.message
            ));
        }
        let restored = restored.into_result()?;
        step(
            "restore",
            started.elapsed(),
            &format!(
                "{} entries and {} rows over {} connections into \"shop_restored\"",
                restored.entries, restored.rows, restored.connections
            ),
        );

        let reader = RandomReader::open(LocalFile::open(&file)?)?;
        let options = CompareOptions {
            jobs: CONNECTIONS,
            ..CompareOptions::default()
        };
        let (comparison, took) = timed(compare(
            &reader,
            connector(&server, "shop_restored")?,
            &options,
            Arc::new(Progress::default()),
        ))
        .await?;
        step("proof", took, &comparison.summary());
        if !comparison.is_equal() {
            print(&comparison);
            return Err(Error::new("the restored database differs from the archive"));
        }
        drop(server);
        print(format_args!(
            "\nAll of it took {:.1} s. The server is gone again.",
            whole.elapsed().as_secs_f64()
        ));
        Ok(())
    }
}

fn step(name: &str, took: Duration, what: &str) {
    print(format_args!(
        "{name:>9}  {:>5.1} s  {what}",
        took.as_secs_f64()
    ));
}

async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let started = Instant::now();
    let value = work.await?;
    Ok((value, started.elapsed()))
}

fn connector(server: &DisposableServer, database: &str) -> Result<Connector> {
    let flags = ConnectionFlags {
        dbname: Some(server.conninfo_of(database)),
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

async fn administer(server: &DisposableServer, sql: &str) -> Result<()> {
    let mut session = connector(server, "postgres")?.open().await?;
    session.execute(sql).await?;
    session.close().await;
    Ok(())
}

async fn load_sample(server: &DisposableServer, scale: u32) -> Result<u64> {
    administer(server, "CREATE DATABASE shop").await?;
    let mut session = connector(server, "shop")?.open().await?;
    session
        .execute(format!("SET shop.scale = {scale};\n{SAMPLE}"))
        .await?;
    let rows = session
        .query("SELECT sum(reltuples)::bigint AS rows FROM pg_class WHERE relkind = 'r' AND oid >= 16384")
        .await?;
    let rows = rows.only()?.number("rows")?;
    session.close().await;
    Ok(rows)
}

async fn verify(file: &Path) -> Result<u64> {
    let file = file.to_owned();
    let report = tokio::task::spawn_blocking(move || verify_file(LocalFile::open(file)?, true))
        .await
        .map_err(|error| Error::new(format!("the check broke off: {error}")))??;
    match report.findings.first() {
        None => Ok(report.rows_checked),
        Some(finding) => Err(Error::new(format!("the archive is damaged: {finding}"))),
    }
}

/// A folder of our own, removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn create() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("rdump-demo-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| {
            Error::new(format!(
                "could not create folder \"{}\": {error}",
                path.display()
            ))
        })?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // a leftover in the temporary folder does no harm
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
