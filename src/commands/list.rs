//! `rdump list`: the archives of a repository.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;

use super::output::{OutputArguments, bytes, print, print_json};
use super::repository::{LabelArguments, RepositoryArguments};
use crate::error::{Error, Outcome, Result};
use crate::report::counted;
use crate::repository::{Archive, Catalogue, Checked};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    repository: RepositoryArguments,
    #[command(flatten)]
    label: LabelArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let repository = self.repository.open().await?;
        let catalogue = repository.catalogue(self.label.label()?.as_ref()).await?;
        let now = Timestamp::now();
        if self.output.json {
            for archive in &catalogue.archives {
                print_json(&json(archive));
            }
            let size: u64 = catalogue.archives.iter().map(|a| a.manifest.size).sum();
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": if catalogue.problems.is_empty() { "done" } else { "partial" },
                "repository": repository.to_string(),
                "encryption": repository.marker().encryption,
                "archives": catalogue.archives.len(),
                "archive_bytes": size,
                "unreadable": catalogue.problems.len(),
            }));
        } else {
            for line in table(&catalogue, now) {
                print(line);
            }
            if catalogue.archives.is_empty() {
                self.output.say(&format!("{repository} has no archives"));
            }
        }
        refuse_unreadable(&catalogue, &self.output)
    }
}

/// What cannot be read is told, and is no success.
pub fn refuse_unreadable(catalogue: &Catalogue, output: &OutputArguments) -> Result<()> {
    for problem in &catalogue.problems {
        output.warn(&problem.error.to_string());
    }
    match catalogue.problems.len() as u64 {
        0 => Ok(()),
        count => Err(Error::new(format!(
            "{} could not be read",
            counted(count, "manifest", "manifests")
        ))
        .outcome(Outcome::Partial)),
    }
}

pub fn json(archive: &Archive) -> serde_json::Value {
    let manifest = &archive.manifest;
    let checked = |checked: Option<Checked>| {
        checked.map(|c| serde_json::json!({"good": c.good, "time": c.time}))
    };
    serde_json::json!({
        "type": "archive",
        "name": manifest.name,
        "id": manifest.name.id(),
        "label": manifest.name.label().to_string(),
        "order": manifest.name.order(),
        "content": manifest.content,
        "snapshot": manifest.snapshot,
        "started": manifest.started,
        "finished": manifest.finished,
        "server_version": manifest.server_version,
        "rdump_version": manifest.rdump_version,
        "archive_id": manifest.archive_id,
        "root_hash": manifest.root_hash,
        "encrypted": manifest.encrypted,
        "archive_bytes": manifest.size,
        "raw_bytes": manifest.raw_size,
        "rows": manifest.rows,
        "tables": manifest.tables,
        "entries": manifest.entries,
        "volumes": manifest.volumes.len(),
        "verified": checked(archive.marks.verified),
        "tested": checked(archive.marks.tested),
        "pinned": archive.marks.pinned,
        "tags": archive.tags(),
    })
}

fn table(catalogue: &Catalogue, now: Timestamp) -> Vec<String> {
    if catalogue.archives.is_empty() {
        return Vec::new();
    }
    let head = [
        "ID", "SOURCE", "SNAPSHOT", "AGE", "SIZE", "ROWS", "CHECKED", "MARKS",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(catalogue.archives.iter().map(|archive| row(archive, now)));
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|at| width(at).unwrap_or(0)).collect();
    let line = |cells: &[String; 8]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

fn row(archive: &Archive, now: Timestamp) -> [String; 8] {
    let manifest = &archive.manifest;
    let name = archive.name();
    [
        name.id().to_owned(),
        name.label().to_string(),
        manifest.snapshot.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        age(manifest.snapshot, now),
        bytes(manifest.size),
        manifest.rows.to_string(),
        checks(archive),
        marks(archive.marks.pinned, &archive.tags()),
    ]
}

/// "3 d", "5 h", "12 min"
fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(time.as_second());
    match seconds {
        ..0 => "in the future".to_owned(),
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn checks(archive: &Archive) -> String {
    let mut words = Vec::new();
    for (what, checked) in [
        ("verified", archive.marks.verified),
        ("tested", archive.marks.tested),
    ] {
        match checked {
            Some(Checked { good: true, .. }) => words.push(what.to_owned()),
            Some(Checked { good: false, .. }) => words.push(format!("{what}: BAD")),
            None => {}
        }
    }
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(", "),
    }
}

fn marks(pinned: bool, tags: &BTreeMap<String, String>) -> String {
    let mut words = Vec::new();
    if pinned {
        words.push("pinned".to_owned());
    }
    let tag = |(key, value): (&String, &String)| match value.is_empty() {
        true => key.clone(),
        false => format!("{key}={value}"),
    };
    words.extend(tags.iter().map(tag));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::age;

    #[test]
    fn ages_for_people() {
        let time = |seconds| Timestamp::from_second(seconds).unwrap();
        for (seconds, words) in [
            (-1, "in the future"),
            (0, "0 s"),
            (3_599, "59 min"),
            (172_799, "47 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(age(time(1_000_000), time(1_000_000 + seconds)), words);
        }
    }
}
