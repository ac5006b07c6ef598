//! The attributes of nixvm-test, `#[scenario]` and `#[checkpoint]`. Use them through the `nixvm_test` crate, which
//! documents it: this crate holds only what has to be a procedural macro.

use proc_macro::TokenStream;

mod arguments;
mod checkpoint;
mod duration;
mod expand;
mod places;
mod signature;

/// Makes a test of an `async fn`: documented as `nixvm_test::scenario`.
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::scenario(arguments.into(), item.into()).into()
}

/// Makes a moment of an `async fn` at which scenarios can begin: documented as `nixvm_test::checkpoint`.
#[proc_macro_attribute]
pub fn checkpoint(arguments: TokenStream, item: TokenStream) -> TokenStream {
    checkpoint::checkpoint(arguments.into(), item.into()).into()
}
