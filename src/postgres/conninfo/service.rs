//! Connection service files: named groups of connection options.
//!
//! The manual's page "The Connection Service File"; precedence and search order are those of
//! parseServiceInfo in fe-connect.c.

use std::io;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::settings::{self, Settings};
use crate::error::{Error, Result};

/// Where a system-wide file is looked for without PGSYSCONFDIR. libpq has one folder compiled in,
/// which differs between distributions: Debian's first, then the default of a build from source.
const SYSTEM_FOLDERS: [&str; 3] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc"];

/// Adds the options of the service that `settings` or PGSERVICE name, below those already given.
pub fn apply(settings: &mut Settings, environment: &Environment) -> Result<()> {
    let Some(service) = settings
        .given("service")
        .or_else(|| environment.variable("PGSERVICE"))
        .map(str::to_owned)
    else {
        return Ok(());
    };
    if service.is_empty() {
        return Ok(());
    }

    let named = environment.variable("PGSERVICEFILE").map(PathBuf::from);
    if let Some(path) = named {
        // A file that was named must be there.
        let text = read(&path, environment)?.ok_or_else(|| {
            Error::usage(format!("service file \"{}\" not found", path.display()))
        })?;
        if apply_file(settings, &text, &service, &path)? {
            return Ok(());
        }
    } else if let Some(home) = &environment.home {
        let path = home.join(".pg_service.conf");
        if let Some(text) = read(&path, environment)?
            && apply_file(settings, &text, &service, &path)?
        {
            return Ok(());
        }
    }

    let folders: Vec<&str> = match environment.variable("PGSYSCONFDIR") {
        Some(folder) => vec![folder],
        None => SYSTEM_FOLDERS.to_vec(),
    };
    for folder in folders {
        let path = Path::new(folder).join("pg_service.conf");
        if let Some(text) = read(&path, environment)?
            && apply_file(settings, &text, &service, &path)?
        {
            return Ok(());
        }
    }
    Err(
        Error::usage(format!("definition of service \"{service}\" not found")).hint(
            "services are looked for in PGSERVICEFILE or ~/.pg_service.conf, and then in \
             pg_service.conf in PGSYSCONFDIR",
        ),
    )
}

fn read(path: &Path, environment: &Environment) -> Result<Option<String>> {
    match environment.files.read(path) {
        Ok(file) => Ok(Some(String::from_utf8_lossy(&file.contents).into_owned())),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::usage(format!(
            "could not read service file \"{}\": {error}",
            path.display()
        ))),
    }
}

/// Returns whether the file has the service. Lines of other services are not looked at.
fn apply_file(settings: &mut Settings, text: &str, service: &str, path: &Path) -> Result<bool> {
    let mut found = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix('[') {
            if found {
                break;
            }
            found = heading
                .strip_prefix(service)
                .is_some_and(|rest| rest.starts_with(']'));
            continue;
        }
        if !found {
            continue;
        }
        let at = || format!("service file \"{}\", line {}", path.display(), index + 1);
        let Some((name, value)) = line.split_once('=') else {
            return Err(if line.starts_with("ldap") {
                Error::usage(format!("LDAP lookup is not supported in {}", at()))
            } else {
                Error::usage(format!("syntax error in {}", at()))
            });
        };
        match name {
            "service" => {
                return Err(Error::usage(format!(
                    "nested service specifications not supported in {}",
                    at()
                )));
            }
            name if settings::find(name).is_some() => settings.set_default(name, value)?,
            name if settings::looks_like_option(name) => {
                return Err(Error::usage(format!(
                    "invalid connection option \"{name}\" in {}",
                    at()
                )));
            }
            _ => return Err(Error::usage(format!("syntax error in {}", at()))),
        }
    }
    Ok(found)
}
