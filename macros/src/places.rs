//! Has a scenario say which of its lines it is at, wherever it awaits something: an error that comes back from
//! there doesn't know who called.

use proc_macro2::{Ident, Span};
use quote::quote_spanned;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Expr, Item, ItemFn, parse_quote_spanned};

/// `X.await` becomes `match X { it => { at(line of X); it.await } }`: a match, since what `X` borrows has to live
/// as long as it is awaited.
pub fn say(function: &mut ItemFn) {
    Awaits.visit_block_mut(&mut function.block);
}

struct Awaits;

impl VisitMut for Awaits {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        visit_mut::visit_expr_mut(self, expression);
        let Expr::Await(awaited) = &*expression else { return };
        if !awaited.attrs.is_empty() {
            return;
        }
        let base = &awaited.base;
        let line = quote_spanned!(base.span()=> ::core::line!());
        let it = Ident::new("awaited", Span::mixed_site());
        *expression = parse_quote_spanned! {awaited.await_token.span()=>
            match #base { #it => { ::nixvm_test::__private::at(#line); #it.await } }
        };
    }

    // A function or macro within the function is none of its lines.
    fn visit_item_mut(&mut self, _: &mut Item) {}
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn said(function: proc_macro2::TokenStream) -> String {
        let mut function: ItemFn = syn::parse2(function).unwrap();
        say(&mut function);
        quote!(#function).to_string()
    }

    #[test]
    fn every_await_says_its_line_and_nothing_else_is_changed() {
        let text = said(quote!(
            async fn f() -> Result {
                a.login("x").await?.run(b.await).await?;
                async fn inner() {
                    c.await
                }
                1 + 1
            }
        ));
        assert_eq!(text.matches("__private :: at").count(), 3, "{text}");
        assert!(text.contains("async fn inner () { c . await }"), "{text}");
        assert!(text.contains("1 + 1"), "{text}");
    }
}
