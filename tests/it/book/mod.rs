//! The book (`docs/`): its reference says what the code says, its links lead somewhere, and its examples are run.
//!
//! The pages of the reference that are made from the code are written by `./just book-write`.

mod blocks;
mod copies;
mod events;
mod links;
mod pages;
mod public;
mod reference;
mod shell;
mod source;
