//! The report of a restore test: text, JSON, HTML.

use std::path::{Path, PathBuf};

use html_escape::encode_text;

use super::output::bytes;
use crate::error::{Error, Result};
use crate::postgres::disposable::Network;
use crate::proof::restore_test::Report;
use crate::report::counted;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Html,
}

/// A file that takes the report.
#[derive(Debug, Clone)]
pub struct ReportFile {
    path: PathBuf,
    format: Format,
}

impl ReportFile {
    pub fn parse(path: &str) -> Result<ReportFile, String> {
        let ending = Path::new(path).extension();
        let ending = ending.map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        let format = match ending.as_deref() {
            Some("txt") => Format::Text,
            Some("json") => Format::Json,
            Some("html" | "htm") => Format::Html,
            _ => return Err("it ends in .html, .json or .txt".to_owned()),
        };
        Ok(ReportFile {
            path: path.into(),
            format,
        })
    }

    pub fn write(&self, report: &Report) -> Result<()> {
        let text = match self.format {
            Format::Text => in_words(report),
            Format::Json => format!("{:#}\n", json(report)),
            Format::Html => html(report),
        };
        std::fs::write(&self.path, text).map_err(|error| {
            Error::new(format!(
                "could not write the report to \"{}\": {error}",
                self.path.display()
            ))
        })
    }
}

fn outcome(report: &Report) -> &'static str {
    match report.is_passed() {
        true => "passed",
        false => "failed",
    }
}

pub fn json(report: &Report) -> serde_json::Value {
    let mut value = serde_json::json!(report);
    if let Some(object) = value.as_object_mut() {
        object.insert("type".to_owned(), "summary".into());
        object.insert("outcome".to_owned(), outcome(report).into());
    }
    value
}

fn network(network: Network) -> &'static str {
    match network {
        Network::None => "without a network",
        Network::OfMachine => "with this machine's network",
        Network::OfServer => "with a network of its own",
    }
}

/// Name and value of each line of the report's head.
fn lines(report: &Report) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("archive", report.archive.clone()),
        ("contents", report.contents.join(", ")),
        (
            "snapshot",
            format!(
                "{} of PostgreSQL {}",
                report.snapshot, report.source_version
            ),
        ),
        (
            "server",
            format!(
                "{}, {}",
                report.server.origin,
                network(report.server.network)
            ),
        ),
    ];
    if !report.databases.is_empty() {
        lines.push(("restored as", report.databases.join(", ")));
    }
    let seconds = &report.seconds;
    lines.push(("start", format!("{:.1} s", seconds.start)));
    if let (Some(took), Some(restored)) = (seconds.restore, &report.restored) {
        lines.push((
            "restore",
            format!(
                "{took:.1} s: {}, {} ({:.0}/s), {} ({}/s), {}",
                counted(restored.entries, "entry", "entries"),
                counted(restored.rows, "row", "rows"),
                restored.rows_per_second,
                bytes(restored.bytes),
                bytes(restored.bytes_per_second as u64),
                counted(restored.connections as u64, "connection", "connections"),
            ),
        ));
    }
    for compared in &report.compared {
        let member = compared.member.as_ref();
        let member = member.map(|name| format!("{name}: ")).unwrap_or_default();
        lines.push(("proof", format!("{member}{}", compared.summary)));
    }
    if let Some(took) = seconds.proof {
        lines.push(("proof took", format!("{took:.1} s")));
    }
    if let Some(took) = seconds.assertions {
        let hold = report.assertions.iter().filter(|a| a.problem.is_none());
        lines.push((
            "assertions",
            format!(
                "{took:.1} s: {} of {} hold",
                hold.count(),
                report.assertions.len()
            ),
        ));
    }
    lines
}

/// Lists that follow: what they are, and what they hold.
fn lists(report: &Report) -> Vec<(&'static str, Vec<String>)> {
    let problems = report.problems.iter().map(ToString::to_string).collect();
    let compared = report.compared.iter().flat_map(|c| &c.not_compared);
    let not_compared = compared.map(|what| what.in_words(false)).collect();
    vec![
        ("problem", problems),
        ("not tested", report.skipped.clone()),
        ("not compared", not_compared),
        ("warning", report.warnings.clone()),
    ]
}

fn last_line(report: &Report) -> String {
    match (report.seconds.restore, report.is_passed()) {
        (Some(took), true) => format!("restored in {took:.1} s, and proved equal"),
        (Some(took), false) => format!("restored in {took:.1} s; the test failed"),
        (None, _) => "nothing was restored; the test failed".to_owned(),
    }
}

pub fn in_words(report: &Report) -> String {
    let mut text = format!("restore test {}\n", outcome(report));
    for (name, value) in lines(report) {
        text.push_str(&format!("  {name:<11} {value}\n"));
    }
    for (name, values) in lists(report) {
        for value in values {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    text.push_str(&last_line(report));
    text.push('\n');
    text
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
th{text-align:left;padding-right:1.5em;vertical-align:top}.passed{color:#176117}.failed{color:#a11414}\
li{white-space:pre-wrap}";

pub fn html(report: &Report) -> String {
    let outcome = outcome(report);
    let title = format!("Restore test of {}: {outcome}", report.archive);
    let title = encode_text(&title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1 class=\"{outcome}\">{title}</h1>\n<p>{}</p>\n<table>\n",
        encode_text(&last_line(report))
    );
    for (name, value) in lines(report) {
        page.push_str(&format!(
            "<tr><th>{name}</th><td>{}</td></tr>\n",
            encode_text(&value)
        ));
    }
    page.push_str("</table>\n");
    let assertions = report.assertions.iter().map(|assertion| {
        let outcome = assertion.problem.as_deref().unwrap_or("holds");
        let place = format!("{}:{}", assertion.file, assertion.line);
        format!("{place}: {}: {outcome}", assertion.statement)
    });
    let mut lists = lists(report);
    lists.insert(1, ("assertion", assertions.collect()));
    for (name, values) in lists {
        if values.is_empty() {
            continue;
        }
        page.push_str(&format!("<h2>{name}</h2>\n<ul>\n"));
        for value in values {
            page.push_str(&format!("<li>{}</li>\n", encode_text(&value)));
        }
        page.push_str("</ul>\n");
    }
    page.push_str(&format!(
        "<p>{}, rdump {}</p>\n</body>\n</html>\n",
        report.started,
        encode_text(&report.rdump_version)
    ));
    page
}
