//! How two texts differ, line by line.

use bstr::ByteSlice;
use serde::Serialize;

/// Who has a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Archive,
    Database,
    /// Shown for its place.
    Both,
    /// Lines of both that are not shown.
    Omitted,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Line {
    pub side: Side,
    pub text: String,
}

impl Line {
    pub fn new(side: Side, text: &[u8]) -> Line {
        // what would move the cursor is spelt out
        let mut shown = String::new();
        for character in text.as_bstr().to_string().chars() {
            match character {
                '\t' => shown.push(character),
                _ if character.is_control() => shown.extend(character.escape_default()),
                _ => shown.push(character),
            }
        }
        Line { side, text: shown }
    }

    fn omitted() -> Line {
        Line::new(Side::Omitted, b"")
    }
}

/// Lines that differ, each run of them with a line before and behind that does not.
pub fn of_texts(expected: &[u8], found: &[u8]) -> Vec<Line> {
    let expected: Vec<&[u8]> = expected.split_str("\n").collect();
    let found: Vec<&[u8]> = found.split_str("\n").collect();
    let all = aligned(&expected, &found);
    let is_same = |at: usize| all.get(at).is_none_or(|(side, _)| *side == Side::Both);
    let mut lines: Vec<Line> = Vec::new();
    let mut is_gap = false;
    for (at, (side, text)) in all.iter().enumerate() {
        let is_beside =
            !is_same(at + 1) || at.checked_sub(1).is_some_and(|before| !is_same(before));
        // the end of the last line is no line
        let is_end = at + 1 == all.len() && text.is_empty();
        if *side == Side::Both && (!is_beside || is_end) {
            is_gap = true;
            continue;
        }
        if is_gap && !lines.is_empty() {
            lines.push(Line::omitted());
        }
        is_gap = false;
        lines.push(Line::new(*side, text));
    }
    lines
}

/// What only one side has, where the order of lines counts for nothing.
pub fn of_sets<'a>(
    expected: impl IntoIterator<Item = &'a [u8]>,
    found: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Line> {
    let archive = expected.into_iter().map(|text| (Side::Archive, text));
    let database = found.into_iter().map(|text| (Side::Database, text));
    archive
        .chain(database)
        .map(|(side, text)| Line::new(side, text.trim_ascii()))
        .collect()
}

/// Longer texts are not aligned but shown as replaced: the time taken is the product of both.
const MAX_PRODUCT: usize = 1 << 20;

/// All lines of both, the common ones once: a longest common subsequence.
fn aligned<'a>(expected: &[&'a [u8]], found: &[&'a [u8]]) -> Vec<(Side, &'a [u8])> {
    let same = |(left, right): &(&&[u8], &&[u8])| left == right;
    let before = expected.iter().zip(found).take_while(same).count();
    let (start, left, right) = (&expected[..before], &expected[before..], &found[before..]);
    let behind = left
        .iter()
        .rev()
        .zip(right.iter().rev())
        .take_while(same)
        .count();
    let (left, end) = left.split_at(left.len() - behind);
    let right = &right[..right.len() - behind];

    let mut all: Vec<(Side, &[u8])> = start.iter().map(|text| (Side::Both, *text)).collect();
    let (mut i, mut j) = (0, 0);
    if left.len().saturating_mul(right.len()) <= MAX_PRODUCT {
        // at (i, j): how many lines what follows has in common
        let width = right.len() + 1;
        let mut common = vec![0u32; (left.len() + 1) * width];
        for i in (0..left.len()).rev() {
            for j in (0..right.len()).rev() {
                common[i * width + j] = if left[i] == right[j] {
                    common[(i + 1) * width + j + 1] + 1
                } else {
                    common[(i + 1) * width + j].max(common[i * width + j + 1])
                };
            }
        }
        while i < left.len() && j < right.len() {
            if left[i] == right[j] {
                all.push((Side::Both, left[i]));
                (i, j) = (i + 1, j + 1);
            } else if common[(i + 1) * width + j] >= common[i * width + j + 1] {
                all.push((Side::Archive, left[i]));
                i += 1;
            } else {
                all.push((Side::Database, right[j]));
                j += 1;
            }
        }
    }
    all.extend(left[i..].iter().map(|text| (Side::Archive, *text)));
    all.extend(right[j..].iter().map(|text| (Side::Database, *text)));
    all.extend(end.iter().map(|text| (Side::Both, *text)));
    all
}

/// What the signs of `in_words` mean.
pub const LEGEND: &str = "(- archive, + database)";

/// Lines of one side that are shown together; the rest are counted.
const SHOWN_LINES: usize = 12;
/// Lines that are shown in all.
const SHOWN_IN_ALL: usize = 60;

/// Each line behind a line break and its sign; all of it, or what is enough for most.
pub fn in_words(lines: &[Line], all: bool) -> String {
    let mut words = String::new();
    let mut shown = 0;
    for (start, run) in runs(lines) {
        let Some(first) = run.first() else { continue };
        let sign = match first.side {
            Side::Archive => "-",
            Side::Database => "+",
            Side::Both => " ",
            Side::Omitted => {
                words.push_str("\n    ...");
                continue;
            }
        };
        if !all && shown >= SHOWN_IN_ALL {
            let rest = lines[start..].iter();
            let count = rest.filter(|line| line.side != Side::Omitted).count();
            words.push_str(&format!("\n    ... and {count} more lines"));
            break;
        }
        let take = if all { run.len() } else { SHOWN_LINES };
        for (at, line) in run.iter().enumerate().take(take) {
            let text = if all {
                line.text.clone()
            } else {
                shortened(&line.text, counterpart(lines, start, run.len(), at))
            };
            words.push_str(&format!("\n  {sign} {text}"));
            shown += 1;
        }
        match run.len().saturating_sub(take) {
            0 => {}
            1 => words.push_str(&format!("\n  {sign} ... and 1 more line")),
            more => words.push_str(&format!("\n  {sign} ... and {more} more lines")),
        }
    }
    words
}

/// Lines of equal sides, each run with its position.
fn runs(lines: &[Line]) -> impl Iterator<Item = (usize, &[Line])> {
    let mut start = 0;
    lines.chunk_by(|a, b| a.side == b.side).map(move |run| {
        let at = start;
        start += run.len();
        (at, run)
    })
}

/// The line of the other side that stands against one of a run.
fn counterpart(lines: &[Line], start: usize, length: usize, at: usize) -> Option<&str> {
    let wanted = match lines.get(start)?.side {
        Side::Archive => Side::Database,
        Side::Database => Side::Archive,
        Side::Both | Side::Omitted => return None,
    };
    let other = match wanted {
        Side::Database => start + length + at,
        _ => {
            let before = lines[..start].iter().rev();
            let run = before.take_while(|line| line.side == wanted).count();
            start - run + at.min(run)
        }
    };
    lines
        .get(other)
        .filter(|line| line.side == wanted)
        .map(|line| line.text.as_str())
}

/// Characters of a line that are shown.
const SHOWN: usize = 160;
/// Characters before the place where two long lines part.
const BEFORE: usize = 40;

/// A long line is shown from a little before where it parts from the other one.
fn shortened(text: &str, other: Option<&str>) -> String {
    let length = text.chars().count();
    if length <= SHOWN {
        return text.to_owned();
    }
    let common = other.map_or(0, |other| {
        let pairs = text.chars().zip(other.chars());
        pairs.take_while(|(left, right)| left == right).count()
    });
    let start = if common + BEFORE < SHOWN {
        0
    } else {
        common - BEFORE
    };
    let mut part: String = text.chars().skip(start).take(SHOWN).collect();
    if start > 0 {
        part.insert_str(0, "...");
    }
    if start + SHOWN < length {
        part.push_str("...");
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(expected: &str, found: &str, all: bool) -> String {
        in_words(&of_texts(expected.as_bytes(), found.as_bytes()), all)
    }

    #[test]
    fn every_line_that_differs_with_its_neighbours() {
        let expected =
            "CREATE TABLE t (\n    a int,\n    b int,\n    c int,\n    d int,\n    e int\n);\n";
        let found = "CREATE TABLE t (\n    a bigint,\n    b int,\n    c int,\n    d int,\n    e int,\n    f int\n);\n";
        assert_eq!(
            words(expected, found, false),
            "\n    CREATE TABLE t (\n  -     a int,\n  +     a bigint,\n        b int,\n    ...\
             \n        d int,\n  -     e int\n  +     e int,\n  +     f int\n    );"
        );
        assert_eq!(words(expected, expected, false), "");
        assert_eq!(words("a\n", "a\r\n", false), "\n  - a\n  + a\\r");
        assert_eq!(words("", "b\n", false), "\n  + b");
    }

    #[test]
    fn what_is_long_is_counted_or_shown_in_full() {
        let many = |count: usize, word: &str| -> String {
            (0..count).map(|line| format!("{word} {line}\n")).collect()
        };
        let short = words(&many(30, "old"), &many(13, "new"), false);
        assert!(
            short.contains("\n  - old 11\n  - ... and 18 more lines\n  + new 0\n"),
            "{short}"
        );
        assert!(
            short.ends_with("\n  + new 11\n  + ... and 1 more line"),
            "{short}"
        );
        let all = words(&many(30, "old"), &many(13, "new"), true);
        assert_eq!(all.lines().count(), 1 + 30 + 13, "{all}");
        // every other line differs
        let striped = |word: &str| -> String {
            (0..200)
                .map(|line| format!("same {line}\n{word} {line}\n"))
                .collect()
        };
        let short = words(&striped("old"), &striped("new"), false);
        assert!(
            short.ends_with(" more lines") && short.lines().count() < 70,
            "{short}"
        );
    }

    #[test]
    fn long_lines_are_shown_where_they_part() {
        let line = |end: &str| format!("{}{end}{}", "x".repeat(300), "y".repeat(200));
        let short = words(&line("old"), &line("new"), false);
        let (minus, plus) = short.trim_start().split_once('\n').unwrap();
        assert!(
            minus.starts_with(&format!("- ...{}old", "x".repeat(40))),
            "{minus}"
        );
        assert!(
            plus.starts_with(&format!("  + ...{}new", "x".repeat(40))),
            "{plus}"
        );
        assert!(minus.ends_with("y...") && plus.ends_with("y..."), "{short}");
        assert!(words(&line("old"), &line("new"), true).contains(&line("old")));
    }

    #[test]
    fn texts_too_long_to_be_aligned_are_replaced() {
        let text = |word: &str| format!("{word}\n").repeat(2000);
        let lines = of_texts(text("a").as_bytes(), text("b").as_bytes());
        assert_eq!(lines.len(), 4000);
    }
}
