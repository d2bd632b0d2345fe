//! Any input at all.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_connection_string_is_understood_or_refused(text in ".{0,80}") {
        let _ = World::new().resolve(&text);
        let _ = World::new().resolve(&format!("postgresql://{text}"));
        let _ = World::new().resolve(&format!("host={text}"));
    }

    #[test]
    fn quoted_values_come_back(value in "[^\0]{1,40}") {
        let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
        let target = World::new().resolve(&format!("user='{quoted}'")).unwrap();
        prop_assert_eq!(&target.user, &value);
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let target = World::new().resolve(&format!("postgresql://{encoded}@/")).unwrap();
        prop_assert_eq!(&target.user, &value);
    }

    #[test]
    fn password_file_lines_match_what_was_escaped(
        host in "[a-z:\\\\*]{1,12}",
        password in "[ -~]{1,20}",
    ) {
        let escape = |text: &str| text.replace('\\', r"\\").replace(':', r"\:");
        let line = format!("{}:*:*:*:{}\n", escape(&host), escape(&password));
        let mut environment = World::new().environment();
        let mut made = Made::default();
        made.files.insert(
            PathBuf::from("/home/osuser/.pgpass"),
            File { contents: line.into_bytes(), is_regular: true, mode: 0o600 },
        );
        environment.files = Arc::new(made);
        let found = resolve(
            &ConnectionFlags { host: Some(host), ..flags("sales") },
            &environment,
        )
        .map(|target| super::password(&target))
        .unwrap();
        prop_assert_eq!(found, Some(password));
    }
}
