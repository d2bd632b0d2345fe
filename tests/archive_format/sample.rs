//! A small archive for tests: every kind of contents, many small segments, a chunk in parts.

use rdump::Result;
use rdump::archive::*;

/// Which archive to write. Equal choices give equal bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub id: [u8; 16],
    pub codec: Codec,
    /// Tables besides the fixed entries.
    pub tables: u32,
    /// Rows of each table, and in each chunk.
    pub rows: u32,
    pub rows_per_chunk: u32,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            id: *b"rdump test archi",
            codec: Codec::Zstd { level: 1 },
            tables: 3,
            rows: 50,
            rows_per_chunk: 20,
        }
    }
}

impl Sample {
    pub fn header(&self) -> Header {
        Header {
            rdump_version: "0.1.0".to_owned(),
            codec: self.codec.to_string(),
            database: "shop".into(),
            server_version_num: 180_006,
            server_version: "18.6".to_owned(),
            encoding: "UTF8".to_owned(),
            snapshot_time: 1_760_000_000_000_000,
            settings: vec![("DateStyle".to_owned(), "ISO".to_owned())],
            ..Header::new(ArchiveId(self.id))
        }
    }

    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = vec![entry(1, "SCHEMA", "public", Contents::None)];
        for table in 0..self.tables {
            let id = table + 2;
            let name = format!("table_{table}");
            let contents = Contents::Rows {
                relation: format!("public.{name}").into(),
                columns: vec!["id".into(), "Na me".into()],
                filter: Default::default(),
            };
            entries.push(Entry {
                dependencies: vec![EntryId(1)],
                schema: Some("public".into()),
                owner: Some("alice".into()),
                ..entry(id, "TABLE DATA", &name, contents)
            });
        }
        let next = self.tables + 2;
        let sequence = Contents::SequenceValue {
            sequence: "public.ids".into(),
        };
        entries.push(entry(next, "SEQUENCE SET", "ids", sequence));
        entries.push(entry(next + 1, "BLOBS", "BLOBS", Contents::LargeObjects));
        entries
    }

    /// Entries share blocks in pairs; the last table's second chunk is cut into two parts.
    pub fn write(&self) -> Result<Vec<u8>> {
        self.write_for(None)
    }

    /// The same, for whom it says: those bytes are never equal.
    pub fn write_for(&self, encryption: Option<&Encryption>) -> Result<Vec<u8>> {
        let entries = self.entries();
        let header = self.header();
        let mut writer = ArchiveWriter::begin_with(Vec::new(), &header, self.codec, encryption)?;
        writer.write_entries(&entries)?;
        let mut builder = BlockBuilder::new();
        for entry in &entries {
            let mut end = EndRecord {
                entry: entry.id,
                rows: 0,
                fingerprint: 0,
                chunks: 0,
                raw_length: 0,
            };
            let rows = match &entry.contents {
                Contents::None => continue,
                Contents::Rows { .. } => self.rows,
                Contents::SequenceValue { .. } => 1,
                Contents::LargeObjects => 0,
            };
            let in_parts = entry.id.0 == self.tables + 1;
            let mut chunk_rows = 0;
            let mut cut = false;
            for row in 1..=rows {
                let start = builder.buffer().len();
                let text = format!(
                    "{row}\tentry {} of archive {:02x}\n",
                    entry.id.0, self.id[15]
                );
                builder.buffer().extend_from_slice(text.as_bytes());
                let hash = xxhash_rust::xxh3::xxh3_128(&builder.buffer()[start..]);
                end.fingerprint = end.fingerprint.wrapping_add(hash);
                end.raw_length += text.len() as u64;
                end.rows += 1;
                chunk_rows += 1;
                let last = chunk_rows == self.rows_per_chunk || row == rows;
                if last {
                    let (first, rows) = (!cut, u64::from(chunk_rows - u32::from(cut) * 5));
                    builder.end_part(entry.id, end.chunks, rows, first, true)?;
                    end.chunks += 1;
                    (chunk_rows, cut) = (0, false);
                } else if in_parts && end.chunks == 1 && chunk_rows == 5 {
                    builder.end_part(entry.id, end.chunks, 5, true, false)?;
                    cut = true;
                    builder = self.append(&mut writer, builder)?;
                }
            }
            builder.end_entry(end)?;
            if entry.id.0 % 2 == 1 {
                builder = self.append(&mut writer, builder)?;
            }
        }
        if !builder.is_empty() {
            self.append(&mut writer, builder)?;
        }
        Ok(writer.finish()?.0)
    }

    fn append(
        &self,
        writer: &mut ArchiveWriter<Vec<u8>>,
        builder: BlockBuilder,
    ) -> Result<BlockBuilder> {
        let (block, spare) = builder.seal(self.codec)?;
        writer.append(block)?;
        Ok(spare)
    }
}

pub fn entry(id: u32, kind: &str, name: &str, contents: Contents) -> Entry {
    let section = match contents {
        Contents::None => Section::PreData,
        _ => Section::Data,
    };
    Entry {
        name: name.into(),
        create: format!("CREATE {kind} {name};\n").into(),
        contents,
        ..Entry::new(EntryId(id), kind, section)
    }
}
