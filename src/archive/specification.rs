//! Holds `format-spec/archive.md` and the code against each other.

use std::collections::BTreeMap;

use super::block::BlockKind;
use super::codec::BlockCodec;
use super::header::*;
use super::index::*;
use super::limits::*;
use super::segment::*;
use super::toc::*;

const SPECIFICATION: &str = include_str!("../../format-spec/archive.md");

trait Value {
    fn as_specified(&self) -> String;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Value for $integer {
            fn as_specified(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize);

impl<const N: usize> Value for [u8; N] {
    fn as_specified(&self) -> String {
        self.map(|byte| format!("{byte:02x}")).join(" ")
    }
}

macro_rules! constants {
    ($($name:ident),* $(,)?) => {
        [$((stringify!($name).to_owned(), $name.as_specified())),*]
    };
}

fn of_the_code() -> BTreeMap<String, String> {
    const BLOCK_KIND_ENTRIES: u8 = BlockKind::Entries as u8;
    const BLOCK_KIND_DATA: u8 = BlockKind::Data as u8;
    const BLOCK_KIND_INDEX_PAGE: u8 = BlockKind::IndexPage as u8;
    const BLOCK_KIND_INDEX_ROOT: u8 = BlockKind::IndexRoot as u8;
    const BLOCK_CODEC_NONE: u8 = BlockCodec::None as u8;
    const BLOCK_CODEC_LZ4: u8 = BlockCodec::Lz4 as u8;
    const BLOCK_CODEC_ZSTD: u8 = BlockCodec::Zstd as u8;
    const ROW_ENCODING_TEXT: u8 = RowEncoding::Text as u8;
    BTreeMap::from(constants![
        HEADER_MAGIC,
        FORMAT_VERSION,
        HEADER_FIXED_LENGTH,
        MAX_HEADER_LENGTH,
        KNOWN_CRITICAL_FLAGS,
        HEADER_FLAG_ENCRYPTED,
        HEADER_FLAG_WITHOUT_DATA,
        HEADER_FLAG_WITHOUT_LARGE_OBJECTS,
        HEADER_FLAG_WITHOUT_PASSWORDS,
        HEADER_TAG_MINIMUM_READER,
        HEADER_TAG_RDUMP_VERSION,
        HEADER_TAG_CODEC,
        HEADER_TAG_DATABASE,
        HEADER_TAG_SERVER_VERSION_NUM,
        HEADER_TAG_SERVER_VERSION,
        HEADER_TAG_ENCODING,
        HEADER_TAG_SNAPSHOT_TIME,
        HEADER_TAG_STANDARD_CONFORMING_STRINGS,
        HEADER_TAG_SETTINGS,
        HEADER_TAG_FILTERS,
        HEADER_TAG_SET,
        HEADER_TAG_CONTENT,
        HEADER_TAG_ENVELOPE_RECIPIENTS,
        HEADER_TAG_ENVELOPE_PASSPHRASE,
        HEADER_TAG_SEALED,
        CONTENT_DATABASE,
        CONTENT_GLOBALS,
        BLOCK_SYNC,
        BLOCK_HEADER_LENGTH,
        MAX_BLOCK_LENGTH,
        TARGET_DATA_BLOCK_LENGTH,
        TARGET_ENTRIES_BLOCK_LENGTH,
        CRITICAL_BLOCK_FLAGS,
        BLOCK_FLAG_CONTINUED,
        BLOCK_FLAG_SEALED,
        ARCHIVE_KEY_LENGTH,
        TAG_LENGTH,
        CODE_LENGTH,
        MAX_ENVELOPE_LENGTH,
        SCRYPT_WORK_FACTOR,
        MAX_SCRYPT_WORK_FACTOR,
        BLOCK_KIND_ENTRIES,
        BLOCK_KIND_DATA,
        BLOCK_KIND_INDEX_PAGE,
        BLOCK_KIND_INDEX_ROOT,
        BLOCK_CODEC_NONE,
        BLOCK_CODEC_LZ4,
        BLOCK_CODEC_ZSTD,
        MAX_ENTRY_LENGTH,
        MAX_COLUMNS,
        ENTRY_TAG_KIND,
        ENTRY_TAG_SECTION,
        ENTRY_TAG_PASS,
        ENTRY_TAG_SCHEMA,
        ENTRY_TAG_NAME,
        ENTRY_TAG_RELATION,
        ENTRY_TAG_OWNER,
        ENTRY_TAG_OWNER_TARGET,
        ENTRY_TAG_TABLESPACE,
        ENTRY_TAG_ACCESS_METHOD,
        ENTRY_TAG_CREATE,
        ENTRY_TAG_DROP,
        ENTRY_TAG_DROP_IF_EXISTS,
        ENTRY_TAG_DEPENDENCIES,
        ENTRY_TAG_CONTENTS,
        ENTRY_TAG_LOAD_INTO,
        CONTENTS_ROWS,
        CONTENTS_SEQUENCE_VALUE,
        CONTENTS_LARGE_OBJECTS,
        SEGMENT_KIND_ROWS,
        SEGMENT_KIND_END,
        SEGMENT_FLAG_FIRST,
        SEGMENT_FLAG_LAST,
        ROW_ENCODING_TEXT,
        FINGERPRINT_TEXT_SUM,
        INDEX_PAGE_RECORDS,
        INDEX_TAG_TOTALS,
        INDEX_TAG_PAGES,
        INDEX_TAG_CODE,
        TRAILER_LENGTH,
        TRAILER_MAGIC,
        TRAILER_END_MAGIC,
    ])
}

/// Rows of tables whose first cell is an upper-case name: that name and the second cell.
fn of_the_specification() -> BTreeMap<String, String> {
    constants_of(SPECIFICATION)
}

fn constants_of(specification: &str) -> BTreeMap<String, String> {
    specification
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let name = cells.next()?.trim().strip_suffix('`')?;
            let value = cells.next()?.trim();
            let upper =
                |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            name.bytes()
                .all(upper)
                .then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[test]
fn constants_are_those_of_the_specification() {
    assert_eq!(of_the_code(), of_the_specification());
}

#[test]
fn sets_are_as_specified() {
    let specification = include_str!("../../format-spec/set.md");
    let (constants, context) = super::set::specified();
    let of_the_code: BTreeMap<String, String> = constants
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(of_the_code, constants_of(specification));
    assert!(specification.contains(&format!("`{context}`")), "{context}");
}

#[test]
fn the_root_hash_has_the_specified_context() {
    let context = format!("`{}`", super::trailer::ROOT_CONTEXT);
    assert!(SPECIFICATION.contains(&context), "{context}");
}

#[test]
fn subkeys_have_the_specified_contexts() {
    for context in super::encryption::CONTEXTS {
        let context = format!("`{context}`");
        assert!(SPECIFICATION.contains(&context), "{context}");
    }
}

/// Every constant of `limits.rs` is specified.
#[test]
fn no_limit_is_left_out() {
    let specified = of_the_specification();
    for line in include_str!("limits.rs").lines() {
        if let Some(rest) = line.strip_prefix("pub const ") {
            let name = rest.split(':').next().unwrap_or_default();
            assert!(specified.contains_key(name), "{name}");
        }
    }
}
