//! The console's tests, by what they are about.

mod line;
mod matching;
