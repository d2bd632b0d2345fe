//! One PostgreSQL container per major version and test process, and databases in them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdump::postgres::disposable::{Watchdog, ensure_image};
use testcontainers::core::{IntoContainerPort, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio_postgres::NoTls;

use super::command::{run, run_ok};

const PASSWORD: &str = "test-password";
/// The images with packages of extensions.
const EXTENSIONS: &str = "rdump-extensions";
const LABEL: &str = "org.rdump.test-process";
/// Where [`Server::start_with_small_disk`] has it.
pub const SMALL_DISK: &str = "/small-disk";
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running server. The ones from [`server`] are shared and live until the process ends.
pub struct Server {
    pub major: u32,
    pub host: String,
    pub port: u16,
    /// The container's name, for `docker exec`, `docker pause` and the like.
    pub container: String,
    /// Where other containers reach it, on port 5432.
    bridge_address: String,
    // Removes the container however this process ends: statics are never dropped.
    _watchdog: Option<Watchdog>,
}

/// The shared server of this major version, started on first use.
pub fn server(major: u32) -> &'static Server {
    static SHARED: [(u32, OnceLock<Result<Server, String>>); 5] = [
        (14, OnceLock::new()),
        (15, OnceLock::new()),
        (16, OnceLock::new()),
        (17, OnceLock::new()),
        (18, OnceLock::new()),
    ];
    let (_, slot) = SHARED
        .iter()
        .find(|(known, _)| *known == major)
        .unwrap_or_else(|| panic!("no shared server of PostgreSQL {major}"));
    match slot.get_or_init(|| Server::try_start(major, &[])) {
        Ok(server) => server,
        Err(reason) => panic!("{reason}"),
    }
}

/// Whether there is an image of this version with the extensions that Debian has packages of. It is
/// built, which takes minutes, only where `RDUMP_TEST_EXTENSIONS` lists the version ("15,18") or in
/// the long variants.
pub fn extensions_image(major: u32) -> bool {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _turn = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let tag = format!("{EXTENSIONS}:{major}");
    let mut inspect = Command::new("docker");
    inspect.args(["image", "inspect", "--format", "{{.Id}}", &tag]);
    if run(&mut inspect, b"").code == 0 {
        return true;
    }
    let listed = std::env::var("RDUMP_TEST_EXTENSIONS").unwrap_or_default();
    let wanted = listed
        .split(',')
        .any(|version| version.trim() == major.to_string());
    if !wanted && !super::soak() {
        eprintln!("no image {tag}; RDUMP_TEST_EXTENSIONS={major} builds it");
        return false;
    }
    let mut build = Command::new("bash");
    build
        .arg(super::fixture_path("images/build"))
        .args([&major.to_string(), &tag])
        .args(["postgis-3", "pgvector", "cron", "partman", "pgaudit"]);
    let built = run(&mut build, b"");
    eprint!("{}", built.stderr);
    assert_eq!(built.code, 0, "image {tag} could not be built");
    true
}

/// `fixtures/labels` as a library that a server of this version loads.
fn compile_labels(major: u32) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let library = folder.path().join("rdump_labels.so");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(format!("-DMAJOR={major}"))
        .arg(super::fixture_path("labels/rdump_labels.c"));
    let finished = run(&mut compiler, b"");
    if finished.code != 0 {
        return Err(format!(
            "fixtures/labels does not compile:\n{}",
            finished.stderr
        ));
    }
    std::fs::read(&library).map_err(|error| error.to_string())
}

/// testcontainers is asynchronous; tests are not. The runtime lives as long as the process.
fn block_on<F>(future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("starting a runtime")
    });
    // A thread of its own, since the caller may be within a runtime.
    std::thread::scope(
        |scope| match scope.spawn(|| runtime.block_on(future)).join() {
            Ok(output) => output,
            Err(panic) => std::panic::resume_unwind(panic),
        },
    )
}

impl Server {
    /// A server of one's own with further options (`&["-c", "wal_level=logical"]`), removed when
    /// dropped.
    pub fn start(major: u32, options: &[&str]) -> Server {
        Server::try_start(major, options).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// As [`Server::start`]; the error holds the end of the server's log.
    pub fn try_start(major: u32, options: &[&str]) -> Result<Server, String> {
        Server::try_start_with("postgres", major, options, None)
    }

    /// As [`Server::start`], from the image that [`extensions_image`] makes sure of.
    pub fn start_with_extensions(major: u32, options: &[&str]) -> Server {
        Server::try_start_with(EXTENSIONS, major, options, None)
            .unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// As [`Server::start`], with a small disk of this size mounted at [`SMALL_DISK`].
    pub fn start_with_small_disk(major: u32, bytes: i64) -> Server {
        let disk = Mount::tmpfs_mount(SMALL_DISK).with_size_bytes(bytes);
        Server::try_start_with("postgres", major, &[], Some(disk))
            .unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn try_start_with(
        image: &str,
        major: u32,
        options: &[&str],
        mount: Option<Mount>,
    ) -> Result<Server, String> {
        static SWEPT: OnceLock<()> = OnceLock::new();
        SWEPT.get_or_init(sweep_leftovers);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("rdump-test-{process}-{number}-{major}");

        let keep = std::env::var_os("RDUMP_TEST_KEEP").is_some();
        let watchdog = (!keep)
            .then(|| Watchdog::spawn("", r#"docker rm -f -v "$1""#, [&name], None))
            .transpose()
            .map_err(|error| error.to_string())?;

        let mut arguments: Vec<&str> = Vec::new();
        for setting in [
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_connections=200",
            "max_locks_per_transaction=256",
            "max_wal_size=8GB",
            "max_prepared_transactions=20",
            "autovacuum_naptime=1h",
            // fixtures/labels
            "session_preload_libraries=rdump_labels",
        ] {
            arguments.extend(["-c", setting]);
        }
        arguments.extend(options);

        let labels = compile_labels(major)?;
        let started = block_on(async {
            if image == "postgres" {
                ensure_image(major, &mut |line| eprintln!("{line}"))
                    .await
                    .map_err(|error| error.to_string())?;
            }
            let mut request = GenericImage::new(image, &major.to_string())
                .with_exposed_port(5432.tcp())
                .with_container_name(&name)
                .with_label(LABEL, process.to_string())
                .with_env_var("POSTGRES_PASSWORD", PASSWORD)
                .with_shm_size(512 << 20)
                .with_startup_timeout(START_LIMIT)
                .with_cmd(arguments);
            for file in ["rdump_settings.control", "rdump_settings--1.0.sql"] {
                request = request.with_copy_to(
                    format!("/usr/share/postgresql/{major}/extension/{file}"),
                    super::fixture_path(&format!("extensions/{file}")),
                );
            }
            request = request.with_copy_to(
                format!("/usr/lib/postgresql/{major}/lib/rdump_labels.so"),
                labels,
            );
            if let Some(mount) = mount {
                request = request.with_mount(mount);
            }
            let container = request.start().await.map_err(|error| error.to_string())?;
            // Where the container has ended already, these fail; its log says more.
            let address = async {
                let host = container.get_host().await?.to_string();
                let port = container.get_host_port_ipv4(5432).await?;
                Ok::<_, testcontainers::TestcontainersError>((host, port))
            };
            let (host, port) = match address.await {
                Ok(address) => address,
                Err(error) => return Err(with_log(&error.to_string(), &name)),
            };
            // "localhost" may be ::1 first, which Docker need not publish.
            let host = if host == "localhost" {
                "127.0.0.1".to_owned()
            } else {
                host
            };
            wait_until_ready(&host, port, &container, &name).await?;
            let bridge = bridge_address(&name);
            // Removing it is the watchdog's task, which needs no runtime.
            std::mem::forget(container);
            Ok((host, port, bridge))
        });
        let (host, port, bridge_address) =
            started.map_err(|reason: String| format!("{image}:{major} did not start: {reason}"))?;
        Ok(Server {
            major,
            host,
            port,
            container: name,
            bridge_address,
            _watchdog: watchdog,
        })
    }

    /// The conninfo string of a database, as its superuser.
    pub fn conninfo(&self, database: &str) -> String {
        format!(
            "host={} port={} user=postgres password={PASSWORD} dbname={}",
            self.host,
            self.port,
            quote_conninfo(database)
        )
    }

    /// As [`Server::conninfo`], of another server that runs in the same container.
    pub fn conninfo_of_neighbour(&self, port: u16, database: &str) -> String {
        format!(
            "host={} port={port} user=postgres password={PASSWORD} dbname={}",
            self.bridge_address,
            quote_conninfo(database)
        )
    }

    /// An empty database with a unique name that begins with `prefix`.
    pub fn create_database(&'static self, prefix: &str) -> TestDatabase {
        self.create_database_with(prefix, "")
    }

    /// As above, with options of CREATE DATABASE: `"TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"`.
    pub fn create_database_with(&'static self, prefix: &str, options: &str) -> TestDatabase {
        let database = TestDatabase::reserve(self, prefix);
        let name = quote_identifier(&database.name);
        self.psql(
            "postgres",
            &[],
            &format!("CREATE DATABASE {name} {options}"),
        );
        database
    }

    /// Runs SQL (or a psql script) in a database; the first error fails the test.
    pub fn sql(&self, database: &str, sql: &str) {
        self.psql(database, &["-q"], sql);
    }

    /// psql on this server, reading `script`; what it printed.
    fn psql(&self, database: &str, options: &[&str], script: &str) -> String {
        let finished = run(&mut self.psql_command(database, options), script.as_bytes());
        assert_eq!(
            finished.code, 0,
            "psql failed on PostgreSQL {}, database {database}:\n{}",
            self.major, finished.stderr
        );
        finished.text()
    }

    fn psql_command(&self, database: &str, options: &[&str]) -> Command {
        let mut command = self.program("psql");
        command
            .args(["-X", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d"])
            .arg(format!("dbname={}", quote_conninfo(database)))
            .args(options)
            .args(["-f", "-"]);
        command
    }

    /// One of PostgreSQL's programs in this server's container. The path goes past Debian's wrappers.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["exec", "-i", "-e"])
            .arg(format!("PGPASSWORD={PASSWORD}"))
            .arg(&self.container)
            .arg(format!("/usr/lib/postgresql/{}/bin/{name}", self.major));
        command
    }

    /// What this server's own pg_dump prints for a database of this or of another server.
    pub fn pg_dump(&self, arguments: &[&str], database: &TestDatabase) -> String {
        let mut conninfo = format!("user=postgres dbname={}", quote_conninfo(&database.name));
        if database.server.container != self.container {
            conninfo.push_str(&format!(
                " host={} port=5432",
                database.server.bridge_address
            ));
        }
        let mut command = self.program("pg_dump");
        command.args(arguments).arg("-d").arg(conninfo);
        run_ok(&mut command, b"").text()
    }

    /// What this server's own pg_dumpall prints of this or of another server.
    pub fn pg_dumpall(&self, arguments: &[&str], of: &Server) -> String {
        let mut command = self.program("pg_dumpall");
        command
            .args(arguments)
            .args(["-U", "postgres", "-l", "postgres"]);
        if of.container != self.container {
            command.args(["-h", &of.bridge_address, "-p", "5432"]);
        }
        run_ok(&mut command, b"").text()
    }

    /// Runs a psql script as it stands, as pg_dumpall prints it: errors do not end it.
    pub fn replay(&self, script: &str) -> String {
        let mut command = self.program("psql");
        command.args(["-X", "-q", "-U", "postgres", "-d", "postgres", "-f", "-"]);
        run_ok(&mut command, script.as_bytes()).stderr
    }

    /// The rows of a query: columns separated by `|`, no header, no last newline.
    pub fn query_text(&self, database: &str, sql: &str) -> String {
        let rows = self.psql(database, &["-q", "-A", "-t"], sql);
        rows.strip_suffix('\n').unwrap_or(&rows).to_owned()
    }

    /// Runs a shell script in the container, as root.
    pub fn shell(&self, script: &str) {
        let mut command = Command::new("docker");
        command.args(["exec", &self.container, "sh", "-c", script]);
        run_ok(&mut command, b"");
    }

    /// pgbench, on one of this server's databases.
    pub fn pgbench(&self, arguments: &[&str], database: &TestDatabase) -> String {
        let mut command = self.program("pgbench");
        command
            .args(arguments)
            .args(["-U", "postgres"])
            .arg(&database.name);
        run_ok(&mut command, b"").text()
    }

    /// A copy of a database (perhaps of an older server) on this one, made by this server's own
    /// pg_dump and psql: what a restore by rdump is compared with.
    pub fn copy_with_pg_dump(&'static self, source: &TestDatabase, prefix: &str) -> TestDatabase {
        self.copy_roles(source.server);
        let target = self.create_database_with(prefix, "TEMPLATE template0");
        let dump = self.pg_dump(&[], source);
        self.psql(&target.name, &["-q"], &dump);
        target
    }

    /// Makes the roles of another server on this one, by name only: a dump of a database names
    /// them and does not hold them.
    pub fn copy_roles(&self, from: &Server) {
        if from.container == self.container {
            return;
        }
        let list = from.psql(
            "postgres",
            &["-q", "-A", "-t"],
            "SELECT string_agg(quote_literal(rolname), ', ') FROM pg_roles
             WHERE rolname NOT LIKE 'pg\\_%'",
        );
        let list = list.trim();
        self.psql(
            "postgres",
            &["-q"],
            &format!(
                "SELECT pg_advisory_lock(7301) \\g /dev/null
                 SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY[{list}]::text[]) AS name
                 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
                 \\gexec
                 SELECT pg_advisory_unlock(7301) \\g /dev/null"
            ),
        );
    }

    /// Roles belong to the whole server, and tests run side by side: makes those of
    /// `fixtures/kinds/_roles.sql`, once.
    pub fn ensure_roles(&self) {
        self.psql("postgres", &["-q"], &super::fixture("kinds/_roles.sql"));
    }
}

/// A database of one test, dropped at its end unless the test failed.
pub struct TestDatabase {
    pub name: String,
    pub server: &'static Server,
}

impl TestDatabase {
    /// A unique name whose database does not exist yet (`restore -C` is to make it), dropped
    /// at the end as well.
    pub fn reserve(server: &'static Server, prefix: &str) -> TestDatabase {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        TestDatabase {
            name: format!("{prefix}_{number}"),
            server,
        }
    }

    pub fn conninfo(&self) -> String {
        self.server.conninfo(&self.name)
    }

    /// Runs SQL (or a psql script); the first error fails the test.
    pub fn sql(&self, sql: &str) {
        self.server.sql(&self.name, sql);
    }

    /// Runs SQL that must fail, and returns what psql says.
    pub fn sql_error(&self, sql: &str) -> String {
        let finished = run(
            &mut self.server.psql_command(&self.name, &["-q"]),
            sql.as_bytes(),
        );
        assert_ne!(finished.code, 0, "this was to fail: {sql}");
        finished.stderr
    }

    /// The rows of a query: columns separated by `|`, no header, no last newline.
    pub fn query_text(&self, sql: &str) -> String {
        let rows = self.server.psql(&self.name, &["-q", "-A", "-t"], sql);
        rows.strip_suffix('\n').unwrap_or(&rows).to_owned()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("RDUMP_TEST_KEEP").is_some() {
            return;
        }
        let name = quote_identifier(&self.name);
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        run(
            &mut self.server.psql_command("postgres", &["-q"]),
            drop.as_bytes(),
        );
    }
}

async fn wait_until_ready(
    host: &str,
    port: u16,
    container: &ContainerAsync<GenericImage>,
    name: &str,
) -> Result<(), String> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(host)
        .port(port)
        .user("postgres")
        .password(PASSWORD)
        .dbname("postgres");
    config.connect_timeout(Duration::from_secs(5));
    let started = Instant::now();
    // During set-up the server listens on its Unix socket only, so a connection means ready.
    while let Err(error) = config.connect(NoTls).await {
        if !container.is_running().await.unwrap_or(false) {
            return Err(with_log("the container has ended", name));
        }
        if started.elapsed() > START_LIMIT {
            return Err(with_log(&format!("no connection: {error:?}"), name));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Where another container of Docker's default network reaches this one.
fn bridge_address(container: &str) -> String {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let mut inspect = Command::new("docker");
    inspect.args(["inspect", "--format", format, container]);
    run_ok(&mut inspect, b"").text().trim().to_owned()
}

fn with_log(reason: &str, container: &str) -> String {
    let finished = run(
        Command::new("docker").args(["logs", "--tail", "30", container]),
        b"",
    );
    format!(
        "{reason}\nthe end of its log:\n{}{}",
        finished.text(),
        finished.stderr
    )
}

/// Removes containers of test processes that are gone and could not clean up, as after a power cut.
fn sweep_leftovers() {
    let list = run(
        Command::new("docker")
            .args(["ps", "-a", "--filter"])
            .arg(format!("label={LABEL}"))
            .args([
                "--format",
                &format!("{{{{.Names}}}} {{{{.Label \"{LABEL}\"}}}}"),
            ]),
        b"",
    );
    for line in list.text().lines() {
        let Some((name, process)) = line.split_once(' ') else {
            continue;
        };
        let gone = std::path::Path::new("/proc/self").exists()
            && process.parse::<u32>().is_ok()
            && !std::path::Path::new("/proc").join(process).exists();
        if gone && std::env::var_os("RDUMP_TEST_KEEP").is_none() {
            run(Command::new("docker").args(["rm", "-f", "-v", name]), b"");
        }
    }
}

/// A name as SQL has it, for tests that make statements of names.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_conninfo(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}
