//! The `#[scenario]` attribute of nixvm-test. Use it through the `nixvm_test` crate, which
//! documents it: this crate holds only what has to be a procedural macro.

use proc_macro::TokenStream;

mod arguments;
mod duration;
mod expand;
mod signature;

/// Makes a test of an `async fn`: documented as `nixvm_test::scenario`.
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::scenario(arguments.into(), item.into()).into()
}
