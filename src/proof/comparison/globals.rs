//! Whether a server has the roles and tablespaces of an archive.

use bstr::BString;

use super::difference::of_sets;
use super::finding::{Finding, FindingKind};
use super::matching::{Pair, first_line, label, match_entries, statement_difference};
use super::target::Target;
use super::{CompareOptions, Comparison};
use crate::archive::{Entry, RandomReader};
use crate::catalog;
use crate::catalog::globals::{self, GlobalsScope, is_password, without_passwords};
use crate::error::{Result, ResultExt};
use crate::postgres::{Connector, ServerVersion};
use crate::proof::Listed;
use crate::sql;
use crate::storage::ReadAt;

/// Compares the globals of a server with an archive of them. Passwords are compared and never shown.
pub async fn compare<R: ReadAt>(
    reader: &RandomReader<R>,
    connector: Connector,
    options: &CompareOptions,
) -> Result<Comparison> {
    let header = reader.header();
    let mut expected = reader.entries()?;
    let (mut session, _) = Target::open(connector, header, options.lock_wait).await?;
    let from = ServerVersion(header.server_version_num);
    let to = session.version()?;
    for entry in &mut expected {
        catalog::adapt(entry, from, to);
    }
    let of_tablespaces = |entry: &Entry| entry.kind == "TABLESPACE";
    let has_roles = expected.iter().any(|entry| entry.kind == "ROLE");
    let has_tablespaces = expected.iter().any(of_tablespaces);
    let scope = GlobalsScope {
        roles: has_roles,
        tablespaces: !options.no_tablespaces,
        no_passwords: header.is_without_passwords(),
        as_of: Some(from),
    };
    let read = globals::read(&mut session, &scope);
    let read = sql::quoting_all(header.quotes_all(), read).await;
    let mut found = read.context("reading the globals of the server")?;
    session.close().await;

    let mut comparison = Comparison::default();
    let mut leave_out = |what: &str| comparison.not_compared.push(Listed::from(what));
    if header.is_without_passwords() {
        leave_out("passwords of roles: the archive was made without");
    } else if found.without_passwords {
        leave_out("passwords of roles: the role that compares may not read pg_authid");
        expected.iter_mut().for_each(remove_password);
    }
    if !has_roles {
        leave_out("roles: the archive has none");
    }
    if options.no_tablespaces {
        leave_out("tablespaces: left out on request");
    } else if !has_tablespaces && found.entries.iter().any(of_tablespaces) {
        leave_out("tablespaces: the archive has none");
    }
    let is_compared = |entry: &Entry| {
        let tablespace = of_tablespaces(entry)
            || (matches!(entry.kind.as_str(), "ACL" | "COMMENT" | "SECURITY LABEL")
                && entry.name.starts_with(b"TABLESPACE "));
        (!tablespace || (has_tablespaces && !options.no_tablespaces))
            && (!options.no_privileges || entry.kind != "ACL")
    };
    expected.retain(is_compared);
    found.entries.retain(is_compared);

    let matched = match_entries(&expected, &found.entries);
    comparison.compared.entries = matched.pairs.len() as u64;
    for entry in &matched.missing {
        let finding = Finding::new(FindingKind::Missing, label(entry), shown_line(entry));
        comparison.findings.push(finding);
    }
    for pair in &matched.pairs {
        comparison.findings.extend(difference(pair));
        if !options.no_owner {
            comparison.findings.extend(pair.owner_difference());
        }
    }
    if !options.ignore_unexpected {
        for entry in &matched.unexpected {
            let finding = Finding::new(FindingKind::Unexpected, label(entry), shown_line(entry));
            comparison.findings.push(finding);
        }
    }
    Ok(comparison)
}

fn remove_password(entry: &mut Entry) {
    if entry.kind == "ROLE" {
        let statements = sql::statements(&entry.create);
        let kept = statements
            .into_iter()
            .filter(|statement| !is_password(&entry.name, statement));
        let mut create = BString::from(bstr::join("\n", kept));
        create.push(b'\n');
        entry.create = create;
    }
}

fn shown_line(entry: &Entry) -> String {
    first_line(&Entry {
        create: without_passwords(entry),
        ..entry.clone()
    })
}

fn difference(pair: &Pair<'_>) -> Option<Finding> {
    if statement_difference(&pair.expected.create, &pair.found.create).is_empty() {
        return None;
    }
    let (expected, found) = (
        without_passwords(pair.expected),
        without_passwords(pair.found),
    );
    let lines = statement_difference(&expected, &found);
    let label = label(pair.expected);
    if lines.is_empty() {
        let detail = "its password is another; it is not shown";
        return Some(Finding::new(FindingKind::Different, label, detail));
    }
    // what a role may do stands in one long statement: word by word
    let words = |text: &[u8]| -> Vec<Vec<u8>> {
        text.split(|byte| byte.is_ascii_whitespace())
            .map(<[u8]>::to_vec)
            .collect()
    };
    if pair.expected.kind == "ROLE"
        && sql::statements(&expected).len() == sql::statements(&found).len()
    {
        let (left, right) = (words(&expected), words(&found));
        let only = |these: &[Vec<u8>], those: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let lacking = these.iter().filter(|word| !those.contains(word));
            lacking.cloned().collect()
        };
        let (left, right) = (only(&left, &right), only(&right, &left));
        if !left.is_empty() || !right.is_empty() {
            let lines = of_sets(
                left.iter().map(Vec::as_slice),
                right.iter().map(Vec::as_slice),
            );
            return Some(Finding::different(label, lines));
        }
    }
    Some(Finding::different(label, lines))
}
