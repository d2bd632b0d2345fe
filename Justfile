# One word for each thing that a contributor does.

# List the words.
default:
    @just --list

# Does it compile?
check:
    cargo check --all-targets

# Everything, against real servers. `just test catalog` runs what has catalog in its name.
test *FILTER:
    cargo test {{ FILTER }}

# Formatting, clippy, and the rules for dependencies.
lint:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    cargo deny check licenses bans sources

# Compare with pg_dump and pg_restore.
bench:
    cargo bench

# The same tests at full length: thousands of damaged archives, hundreds of killed snapshots, hours. Then ten
# minutes of fuzzing.
soak *FILTER:
    RDUMP_SOAK=1 cargo test --release {{ FILTER }}
    fuzz/run 600

# The whole cycle on a disposable server.
demo:
    cargo run --release -- demo

# The documentation of the library.
doc:
    cargo doc --no-deps --document-private-items
