//! Compression of blocks.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use super::refusal::damaged;
use crate::error::{Error, Result};

/// What the user asks for with `-Z METHOD[:LEVEL]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Lz4,
    Zstd { level: i32 },
}

/// zstd's own default.
const DEFAULT_ZSTD_LEVEL: i32 = 3;
const MAX_ZSTD_LEVEL: i32 = 22;
/// zstd's ZSTD_minCLevel().
const MIN_ZSTD_LEVEL: i32 = -131_072;

impl Default for Codec {
    fn default() -> Codec {
        Codec::Zstd { level: 1 }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Codec::None => f.write_str("none"),
            Codec::Lz4 => f.write_str("lz4"),
            Codec::Zstd { level } => write!(f, "zstd:{level}"),
        }
    }
}

/// pg_dump's syntax: a method, or `METHOD:LEVEL`, or `METHOD:level=LEVEL`. A level alone is gzip's
/// in pg_dump; here it is zstd's (0 still means no compression).
impl FromStr for Codec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Codec> {
        if let Ok(level) = text.parse::<i32>() {
            return match level {
                0 => Ok(Codec::None),
                _ => zstd_level(level),
            };
        }
        let (method, detail) = match text.split_once(':') {
            Some((method, detail)) => (method, Some(detail)),
            None => (text, None),
        };
        let level = detail.map(parse_level).transpose()?;
        match (method, level) {
            ("none", None) => Ok(Codec::None),
            ("none", Some(_)) => Err(Error::usage("compression method \"none\" takes no level")),
            // lz4's fast mode is the only one here: levels above it are another, slower compressor.
            ("lz4", None | Some(0 | 1)) => Ok(Codec::Lz4),
            ("lz4", Some(level)) => Err(Error::usage(format!(
                "compression level {level} is not supported for lz4"
            ))
            .hint("use lz4 without a level, or zstd")),
            ("zstd", None | Some(0)) => Ok(Codec::Zstd {
                level: DEFAULT_ZSTD_LEVEL,
            }),
            ("zstd", Some(level)) => zstd_level(level),
            ("gzip", _) => Err(Error::usage("compression method \"gzip\" is not supported")
                .hint("use zstd:1, which is faster and compresses better")),
            _ => Err(
                Error::usage(format!("unrecognized compression method \"{method}\""))
                    .hint("use none, lz4 or zstd[:LEVEL]"),
            ),
        }
    }
}

fn parse_level(detail: &str) -> Result<i32> {
    let number = detail.strip_prefix("level=").unwrap_or(detail);
    number.parse().map_err(|_| {
        Error::usage(format!("invalid compression detail \"{detail}\""))
            .hint("only a level is taken, as in zstd:3")
    })
}

fn zstd_level(level: i32) -> Result<Codec> {
    if !(MIN_ZSTD_LEVEL..=MAX_ZSTD_LEVEL).contains(&level) {
        return Err(Error::usage(format!(
            "compression level {level} is out of range for zstd"
        ))
        .hint(format!("levels go up to {MAX_ZSTD_LEVEL}")));
    }
    Ok(Codec::Zstd { level })
}

/// How one block's stored bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockCodec {
    None = 0,
    Lz4 = 1,
    Zstd = 2,
}

impl BlockCodec {
    pub fn from_number(number: u8) -> Option<BlockCodec> {
        Some(match number {
            0 => BlockCodec::None,
            1 => BlockCodec::Lz4,
            2 => BlockCodec::Zstd,
            _ => return None,
        })
    }
}

thread_local! {
    /// A zstd context is large: one a thread, kept with the level it is set to.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses into `out`, which is cleared. Returns `BlockCodec::None`, with `out` in any state,
/// where compression would gain nothing: the raw bytes are then to be stored.
pub(super) fn compress(codec: Codec, raw: &[u8], out: &mut Vec<u8>) -> Result<BlockCodec> {
    out.clear();
    let (used, length) = match codec {
        Codec::None => return Ok(BlockCodec::None),
        Codec::Lz4 => {
            out.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
            let length = lz4_flex::block::compress_into(raw, out)
                .map_err(|error| Error::new(format!("could not compress with lz4: {error}")))?;
            (BlockCodec::Lz4, length)
        }
        Codec::Zstd { level } => {
            out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            let length = COMPRESSOR.with_borrow_mut(|slot| {
                let compressor = match slot {
                    Some((at, compressor)) => {
                        if *at != level {
                            compressor.set_compression_level(level)?;
                            *at = level;
                        }
                        compressor
                    }
                    None => &mut slot.insert((level, zstd::bulk::Compressor::new(level)?)).1,
                };
                compressor.compress_to_buffer(raw, out)
            });
            let length = length
                .map_err(|error| Error::new(format!("could not compress with zstd: {error}")))?;
            (BlockCodec::Zstd, length)
        }
    };
    if length >= raw.len() {
        return Ok(BlockCodec::None);
    }
    out.truncate(length);
    Ok(used)
}

/// Decompresses to exactly `raw_length` bytes, which the caller has held against its cap. A
/// `BlockCodec::None` block is returned as it is.
pub(crate) fn decompress(codec: BlockCodec, stored: Vec<u8>, raw_length: usize) -> Result<Vec<u8>> {
    let wrong =
        |problem: &dyn fmt::Display| damaged(format_args!("block does not decompress: {problem}"));
    match codec {
        BlockCodec::None if stored.len() == raw_length => Ok(stored),
        BlockCodec::None => Err(wrong(&"length does not match")),
        BlockCodec::Lz4 => {
            let mut raw = vec![0; raw_length];
            match lz4_flex::block::decompress_into(&stored, &mut raw) {
                Ok(length) if length == raw_length => Ok(raw),
                Ok(_) => Err(wrong(&"length does not match")),
                Err(error) => Err(wrong(&error)),
            }
        }
        BlockCodec::Zstd => {
            let mut raw = vec![0; raw_length];
            let length = DECOMPRESSOR.with_borrow_mut(|slot| {
                let decompressor = match slot {
                    Some(decompressor) => decompressor,
                    None => slot.insert(zstd::bulk::Decompressor::new()?),
                };
                decompressor.decompress_to_buffer(&stored, &mut raw[..])
            });
            match length {
                Ok(length) if length == raw_length => Ok(raw),
                Ok(_) => Err(wrong(&"length does not match")),
                Err(error) => Err(wrong(&error)),
            }
        }
    }
}
