//! README.md and the pages of the book with examples in Rust. `cargo test --doc` compiles them, and runs those
//! that need no machine. `tests/it/book` checks that no page is missing.

macro_rules! pages {
    ($($name:ident $path:literal)*) => {
        $(
            #[doc = include_str!($path)]
            mod $name {}
        )*
    };
}

pages! {
    attributes "../docs/src/reference/attributes.md"
    cargo "../docs/src/how-to/cargo.md"
    commands "../docs/src/how-to/commands.md"
    debugging "../docs/src/how-to/debugging.md"
    existing "../docs/src/how-to/existing.md"
    files "../docs/src/how-to/files.md"
    log_in "../docs/src/how-to/log-in.md"
    readme "../README.md"
    rehearse "../docs/src/how-to/rehearse.md"
    services "../docs/src/how-to/services.md"
    several_machines "../docs/src/how-to/several-machines.md"
    time "../docs/src/how-to/time.md"
}
