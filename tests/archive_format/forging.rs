//! What somebody without the key can do to an encrypted archive: take it apart, change it, and put it
//! together with every length, checksum and hash made to fit. By the specification alone.

use rdump::archive::limits::*;
use rdump::archive::*;

/// The parts of an archive that a forger chooses freely; all else follows from them.
#[derive(Clone)]
pub struct Forgery {
    /// Without its checksum.
    pub header: Vec<u8>,
    /// Of entries, then of data.
    pub blocks: Vec<(BlockHeader, Vec<u8>)>,
    /// Those of chunks and of ends.
    pub pages: Vec<Page>,
    /// Entries, entries blocks, data blocks, chunks, ends, rows, row bytes.
    pub totals: [u64; 7],
    /// The authentication code: what nobody can make to fit.
    pub code: Option<Vec<u8>>,
}

#[derive(Clone)]
pub struct Page {
    pub kind: u8,
    pub first: (u64, u64),
    pub records: u64,
    pub block: (BlockHeader, Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a varint");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length as usize);
    *bytes = rest;
    taken
}

/// Key (tag × 2, plus 1 if critical) and value of each.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = varint(&mut bytes);
        fields.push((key, take(&mut bytes, length).to_vec()));
    }
    fields
}

pub fn put_fields(out: &mut Vec<u8>, fields: &[(u64, Vec<u8>)]) {
    for (key, value) in fields {
        put_varint(out, *key);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

fn payload(header: &BlockHeader, stored: &[u8]) -> Vec<u8> {
    match header.codec {
        BlockCodec::None => stored.to_vec(),
        BlockCodec::Zstd => zstd::bulk::decompress(stored, header.raw_length as usize).unwrap(),
        BlockCodec::Lz4 => panic!("no index is compressed with lz4"),
    }
}

impl Forgery {
    pub fn of(archive: &[u8]) -> Forgery {
        let mut pieces = crate::damage::pieces(archive);
        let _trailer = pieces.pop();
        let mut header = pieces.remove(0);
        header.truncate(header.len() - 4);
        let id = ArchiveId(header[24..40].try_into().unwrap());
        let mut all: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let (start, stored) = piece.split_at(BLOCK_HEADER_LENGTH);
                let block = BlockHeader::parse(start.try_into().unwrap(), id).unwrap();
                (block, stored.to_vec())
            })
            .collect();
        let (root, stored) = all.pop().unwrap();
        assert_eq!(root.kind, BlockKind::IndexRoot);
        let root = fields(&payload(&root, &stored));
        let mut totals = [0; 7];
        let mut rest = &root[0].1[..];
        totals.fill_with(|| varint(&mut rest));

        let first_page = (totals[1] + totals[2]) as usize;
        let mut of_index = all.split_off(first_page).into_iter();
        let mut rest = &root[1].1[..];
        let mut pages = Vec::new();
        for _ in 0..varint(&mut rest) {
            let kind = take(&mut rest, 1)[0];
            let first = (varint(&mut rest), varint(&mut rest));
            let records = varint(&mut rest);
            for _ in ["volume", "offset", "stored length"] {
                varint(&mut rest);
            }
            take(&mut rest, 32);
            let block = of_index.next().unwrap();
            pages.push(Page {
                kind,
                first,
                records,
                block,
            });
        }
        // the forger writes the pages of blocks anew
        pages.retain(|page| page.kind != 1);
        Forgery {
            header,
            blocks: all,
            pages,
            totals,
            code: root.get(2).map(|(_, code)| code.clone()),
        }
    }

    pub fn id(&self) -> ArchiveId {
        ArchiveId(self.header[24..40].try_into().unwrap())
    }

    pub fn header_fields(&self) -> Vec<(u64, Vec<u8>)> {
        fields(&self.header[HEADER_FIXED_LENGTH..])
    }

    pub fn set_header_fields(&mut self, fields: &[(u64, Vec<u8>)]) {
        self.header.truncate(HEADER_FIXED_LENGTH);
        put_fields(&mut self.header, fields);
    }

    /// As many as there are, whatever the archive said.
    pub fn count_blocks(&mut self) {
        let of = |kind| self.blocks.iter().filter(|(b, _)| b.kind == kind).count() as u64;
        (self.totals[1], self.totals[2]) = (of(BlockKind::Entries), of(BlockKind::Data));
    }

    pub fn write(mut self) -> Vec<u8> {
        self.count_blocks();
        let id = self.id();
        let mut out = self.header;
        let length = out.len() as u32 + 4;
        out[12..16].copy_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        let header = out.clone();

        let mut sequence = 0;
        let mut put = |out: &mut Vec<u8>, block: &BlockHeader, stored: &[u8]| {
            let block = BlockHeader {
                sequence,
                stored_length: stored.len() as u32,
                stored_crc: crc32fast::hash(stored),
                ..*block
            };
            sequence += 1;
            let offset = out.len() as u64;
            out.extend_from_slice(&block.serialise(id));
            out.extend_from_slice(stored);
            offset
        };
        let in_clear = |kind, payload: &[u8]| BlockHeader {
            kind,
            codec: BlockCodec::None,
            flags: 0,
            sequence: 0,
            raw_length: payload.len() as u32,
            stored_length: 0,
            stored_crc: 0,
        };
        let mut records = Vec::new();
        for (block, stored) in &self.blocks {
            put(&mut out, block, stored);
            records.extend_from_slice(&[block.kind as u8, block.codec as u8]);
            records.extend_from_slice(&block.flags.to_le_bytes());
            put_varint(&mut records, u64::from(block.raw_length));
            put_varint(&mut records, stored.len() as u64);
            records.extend_from_slice(blake3::hash(stored).as_bytes());
        }
        let mut page = vec![1];
        for value in [self.blocks.len() as u64, 0, 0, header.len() as u64] {
            put_varint(&mut page, value);
        }
        page.extend_from_slice(&records);
        let of_blocks = Page {
            kind: 1,
            first: (0, 0),
            records: self.blocks.len() as u64,
            block: (in_clear(BlockKind::IndexPage, &page), page),
        };
        let mut pages = Vec::new();
        put_varint(&mut pages, self.pages.len() as u64 + 1);
        for page in std::iter::once(&of_blocks).chain(&self.pages) {
            let (block, stored) = &page.block;
            let offset = put(&mut out, block, stored);
            pages.push(page.kind);
            let length = stored.len() as u64;
            let (major, minor) = page.first;
            for value in [major, minor, page.records, 0, offset, length] {
                put_varint(&mut pages, value);
            }
            pages.extend_from_slice(blake3::hash(stored).as_bytes());
        }
        let mut totals = Vec::new();
        for total in self.totals {
            put_varint(&mut totals, total);
        }
        let mut root = Vec::new();
        put_fields(&mut root, &[(1 << 1 | 1, totals), (2 << 1 | 1, pages)]);
        if let Some(code) = self.code {
            put_fields(&mut root, &[(127 << 1 | 1, code)]);
        }
        let offset = put(&mut out, &in_clear(BlockKind::IndexRoot, &root), &root);

        let mut trailer = TRAILER_MAGIC.to_vec();
        trailer.extend_from_slice(&(header.len() as u32).to_le_bytes());
        trailer.extend_from_slice(&0u32.to_le_bytes());
        let file_length = (out.len() + TRAILER_LENGTH) as u64;
        for value in [offset, out.len() as u64 - offset, sequence, file_length] {
            trailer.extend_from_slice(&value.to_le_bytes());
        }
        trailer.extend_from_slice(&id.0);
        let context = "rdump archive root hash, format version 0";
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&header).update(&out[offset as usize..]);
        hasher.update(&trailer);
        trailer.extend_from_slice(hasher.finalize().as_bytes());
        trailer.extend_from_slice(&[0; 4]);
        trailer.extend_from_slice(&crc32fast::hash(&trailer).to_le_bytes());
        trailer.extend_from_slice(&TRAILER_END_MAGIC);
        out.extend_from_slice(&trailer);
        out
    }
}
