use age::secrecy::SecretBox;

use super::super::codec::BlockCodec;
use super::super::header::ArchiveId;
use super::*;

fn key(byte: u8) -> ArchiveKey {
    Arc::new(SecretBox::new(Box::new([byte; ARCHIVE_KEY_LENGTH])))
}

fn subkeys(id: u8, of: u8) -> Arc<Subkeys> {
    Arc::new(Subkeys::derive(ArchiveId([id; 16]), &key(of)).unwrap())
}

fn header(sequence: u64, plain: &[u8]) -> BlockHeader {
    BlockHeader {
        kind: BlockKind::Data,
        codec: BlockCodec::None,
        flags: BLOCK_FLAG_SEALED,
        sequence,
        raw_length: plain.len() as u32,
        stored_length: (plain.len() + TAG_LENGTH) as u32,
        stored_crc: 0,
    }
}

fn sealed(keys: &Arc<Subkeys>, sequence: u64) -> (BlockHeader, Vec<u8>) {
    let mut bytes = b"rows of a table".to_vec();
    let header = header(sequence, &bytes);
    BlockSealer::new(Arc::clone(keys))
        .seal(&header, &mut bytes)
        .unwrap();
    assert_eq!(bytes.len(), header.stored_length as usize);
    (header, bytes)
}

#[test]
fn what_was_sealed_opens_where_it_was_sealed() {
    let keys = subkeys(1, 1);
    let (header, mut bytes) = sealed(&keys, 7);
    keys.open_block(&header, &mut bytes).unwrap();
    assert_eq!(bytes, b"rows of a table");
}

/// Everything that the block header says, but for the checksum of what is stored.
#[test]
fn all_of_a_block_header_is_bound() {
    let keys = subkeys(1, 1);
    let (header, stored) = sealed(&keys, 7);
    type Change = fn(&mut BlockHeader);
    let changes: [Change; 6] = [
        |header| header.kind = BlockKind::Entries,
        |header| header.codec = BlockCodec::Zstd,
        |header| header.flags |= 1 << 8,
        |header| header.sequence = 8,
        |header| header.raw_length += 1,
        |header| header.stored_length += 1,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut changed = header;
        change(&mut changed);
        let mut bytes = stored.clone();
        assert!(
            keys.open_block(&changed, &mut bytes).is_err(),
            "change {number}"
        );
        assert!(bytes.is_empty(), "change {number}");
    }
}

/// Even with the same key, which no two archives have.
#[test]
fn archives_have_subkeys_of_their_own() {
    let (header, stored) = sealed(&subkeys(1, 1), 7);
    for other in [subkeys(2, 1), subkeys(1, 2)] {
        let mut bytes = stored.clone();
        assert!(other.open_block(&header, &mut bytes).is_err());
        assert!(bytes.is_empty());
    }
    // kinds that have a subkey of their own
    let page = BlockHeader {
        kind: BlockKind::IndexPage,
        ..header
    };
    let (mut one, mut two) = (b"the same bytes".to_vec(), b"the same bytes".to_vec());
    BlockSealer::new(subkeys(1, 1))
        .seal(&header, &mut one)
        .unwrap();
    BlockSealer::new(subkeys(1, 1))
        .seal(&page, &mut two)
        .unwrap();
    let stream = |bytes: &[u8]| bytes[..14].to_vec();
    assert_ne!(stream(&one), stream(&two));
}

#[test]
fn no_nonce_is_handed_out_twice() {
    let mut sealer = BlockSealer::new(subkeys(1, 1));
    let mut seal = |sequence| {
        let mut bytes = b"x".to_vec();
        sealer.seal(&header(sequence, b"x"), &mut bytes)
    };
    assert!(seal(0).is_ok());
    assert!(seal(5).is_ok());
    for again in [5, 0, 4] {
        assert!(seal(again).is_err(), "{again}");
    }
    assert!(seal(6).is_ok());
    // its successor could not be told from the first
    assert!(seal(u64::MAX).is_err());
}

#[test]
fn keys_of_archives_are_never_the_same() {
    let encryption = Encryption::new(vec![Identity::generate().to_public()], None).unwrap();
    let (one, _) = encryption.wrap_new_key().unwrap();
    let (two, _) = encryption.wrap_new_key().unwrap();
    assert_ne!(one.expose_secret(), two.expose_secret());
}

fn passphrase(text: &str) -> SecretString {
    SecretString::from(text)
}

#[test]
fn each_recipient_and_the_passphrase_open_it_and_nobody_else() {
    let (one, two) = (Identity::generate(), Identity::generate());
    let encryption = Encryption::new(
        vec![one.to_public(), two.to_public()],
        Some(passphrase("correct horse")),
    );
    let encryption = encryption.unwrap().with_work_factor(2);
    let (key, envelopes) = encryption.wrap_new_key().unwrap();
    let opens = |keys: &Keys| match keys.open(&envelopes) {
        Ok(found) => Ok(found.map(|found| found.expose_secret() == key.expose_secret())),
        Err(error) => Err(error.exit_code()),
    };
    for keys in [
        Keys::none().with_identity(one),
        Keys::none()
            .with_identity(Identity::generate())
            .with_identity(two),
        Keys::none().with_passphrase(passphrase("correct horse")),
        Keys::none()
            .with_identity(Identity::generate())
            .with_passphrase(passphrase("correct horse")),
    ] {
        assert_eq!(opens(&keys), Ok(Some(true)), "{keys:?}");
        // from memory
        assert_eq!(opens(&keys), Ok(Some(true)), "{keys:?}");
    }
    assert_eq!(opens(&Keys::none()), Ok(None));
    let wrong = Keys::none()
        .with_identity(Identity::generate())
        .with_passphrase(passphrase("correct horse "));
    assert_eq!(opens(&wrong), Err(12));
    let error = wrong.open(&envelopes).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "none of the 2 keys given opens the archive"
    );
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("--identity"))
    );
}

/// A header may ask for more work than anybody has.
#[test]
fn a_passphrase_is_not_tried_at_any_price() {
    let encryption = Encryption::new(vec![], Some(passphrase("correct horse"))).unwrap();
    let (_, envelopes) = encryption.with_work_factor(9).wrap_new_key().unwrap();
    let envelope = envelopes.passphrase.unwrap();
    let line_end = b" 9\n";
    let place = envelope
        .windows(line_end.len())
        .position(|window| window == line_end)
        .unwrap();
    for factor in ["20", "30", "63"] {
        let mut forged = envelope.clone();
        forged.splice(place + 1..place + 2, factor.bytes());
        let forged = Envelopes {
            recipients: None,
            passphrase: Some(forged),
        };
        let keys = Keys::none().with_passphrase(passphrase("correct horse"));
        let error = keys.open(&forged).map(drop).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "trying a passphrase on this archive would take work factor {factor}, and more than 19 is refused"
            )
        );
    }
}

#[test]
fn an_envelope_that_is_not_whole_is_damage() {
    let identity = Identity::generate();
    let encryption = Encryption::new(vec![identity.to_public()], None).unwrap();
    let (_, envelopes) = encryption.wrap_new_key().unwrap();
    let whole = envelopes.recipients.unwrap();
    let keys = Keys::none().with_identity(identity);
    for length in 0..whole.len() {
        let cut = Envelopes {
            recipients: Some(whole[..length].to_vec()),
            passphrase: None,
        };
        assert!(keys.open(&cut).is_err(), "{length} bytes");
    }
    let more = Envelopes {
        recipients: Some([&whole[..], b"x"].concat()),
        passphrase: None,
    };
    assert!(keys.open(&more).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let encryption = Encryption::new(vec![], Some(passphrase("correct horse"))).unwrap();
    let keys = Keys::none().with_passphrase(passphrase("correct horse"));
    let (key, _) = encryption
        .clone()
        .with_work_factor(1)
        .wrap_new_key()
        .unwrap();
    let subkeys = Subkeys::derive(ArchiveId([1; 16]), &key).unwrap();
    let shown = format!("{encryption:?} {keys:?} {key:?} {subkeys:?}");
    assert!(!shown.contains("horse"), "{shown}");
    let bytes = format!("{:?}", key.expose_secret());
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}
