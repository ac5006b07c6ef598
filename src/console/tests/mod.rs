//! The console's tests, by what they are about.

#[cfg(feature = "expectrl")]
mod expectrl;
mod fatal;
mod guest;
mod line;
mod matching;
mod onlooker;
mod screen;
mod text;
