//! The macros of nixvm-test: `#[scenario]`, `#[checkpoint]` and `scenarios!`. Use them through the `nixvm_test` crate, which
//! documents it: this crate holds only what has to be a procedural macro.

use proc_macro::TokenStream;

mod arguments;
mod checkpoint;
mod duration;
mod expand;
mod look;
mod places;
mod scenarios;
mod signature;
mod tests;
mod walk;

/// Makes a test of an `async fn`: documented as `nixvm_test::scenario`.
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let beside = tests::beside();
    [expand::scenario(arguments.into(), item.into()).into(), beside].into_iter().collect()
}

/// Makes a suite of a folder: documented as `nixvm_test::scenarios`.
#[proc_macro]
pub fn scenarios(input: TokenStream) -> TokenStream {
    scenarios::scenarios(input.into(), scenarios::file().as_deref()).into()
}

/// Makes a moment of an `async fn` at which scenarios can begin: documented as `nixvm_test::checkpoint`.
#[proc_macro_attribute]
pub fn checkpoint(arguments: TokenStream, item: TokenStream) -> TokenStream {
    checkpoint::checkpoint(arguments.into(), item.into()).into()
}
