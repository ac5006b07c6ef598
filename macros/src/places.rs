//! Makes a scenario record its current line: an error from a helper function doesn't know which line of the scenario
//! called that function.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Block, Expr, ExprConst, ExprRepeat, GenericArgument, Item, ItemFn, Stmt, Type, parse_quote_spanned,
};

/// Records the line before each statement. `X.await` becomes `match X { it => from_line(…, async move { it.await
/// }).await }`: a match, since the borrows of `X` must live until it completes; an async block, so that the compiler's
/// message for an `X` that can't be awaited stays the same. Awaits inside macros can't be seen: the line of their
/// statement applies.
pub fn say(function: &mut ItemFn) {
    Lines.visit_block_mut(&mut function.block);
}

struct Lines;

impl VisitMut for Lines {
    fn visit_block_mut(&mut self, block: &mut Block) {
        visit_mut::visit_block_mut(self, block);
        let mut statements = Vec::with_capacity(2 * block.stmts.len());
        for statement in block.stmts.drain(..) {
            if !matches!(statement, Stmt::Item(_)) {
                let (span, here) = (statement.span(), here(statement.span()));
                statements.push(parse_quote_spanned!(span=> ::nixvm_test::__private::at(#here);));
            }
            statements.push(statement);
        }
        block.stmts = statements;
    }

    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        visit_mut::visit_expr_mut(self, expression);
        let Expr::Await(awaited) = &*expression else { return };
        if !awaited.attrs.is_empty() {
            return;
        }
        let (base, here) = (&awaited.base, here(awaited.base.span()));
        let it = Ident::new("awaited", Span::mixed_site().located_at(awaited.await_token.span()));
        *expression = parse_quote_spanned! {awaited.await_token.span()=>
            match #base { #it => ::nixvm_test::__private::from_line(#here, async move { #it.await }).await }
        };
    }

    // Lines of a function or macro inside the function do not count.
    fn visit_item_mut(&mut self, _: &mut Item) {}

    // A constant can't call the recording function.
    fn visit_type_mut(&mut self, _: &mut Type) {}
    fn visit_generic_argument_mut(&mut self, _: &mut GenericArgument) {}
    fn visit_expr_const_mut(&mut self, _: &mut ExprConst) {}
    fn visit_expr_repeat_mut(&mut self, repeat: &mut ExprRepeat) {
        self.visit_expr_mut(&mut repeat.expr);
    }
}

/// Returns the file and line of a span, as the compiler names them.
fn here(span: Span) -> TokenStream {
    quote_spanned!(span=> ::core::file!(), ::core::line!())
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn said(function: TokenStream) -> String {
        let mut function: ItemFn = syn::parse2(function).unwrap();
        say(&mut function);
        quote!(#function).to_string()
    }

    #[test]
    fn every_statement_and_every_await_says_its_line() {
        let text = said(quote!(
            async fn f() -> Result {
                a.login("x").await?.run(b.await).await?;
                async fn inner() {
                    c.await
                }
                if d {
                    assert!(e.await);
                }
                1 + 1
            }
        ));
        assert_eq!(text.matches("__private :: from_line").count(), 3, "{text}");
        assert_eq!(text.matches("__private :: at").count(), 4, "{text}");
        assert!(text.contains("async fn inner () { c . await }"), "{text}");
        assert!(text.contains("assert ! (e . await)"), "{text}");
        assert!(text.contains("1 + 1"), "{text}");
    }

    #[test]
    fn a_constant_stays_as_it_is() {
        let text = said(quote!(
            async fn f() {
                let a: [u8; {
                    g();
                    1
                }] = [0; {
                    g();
                    1
                }];
                h::<
                    {
                        g();
                        1
                    },
                >(
                    const {
                        g();
                        1
                    },
                );
                const B: u8 = {
                    g();
                    1
                };
            }
        ));
        assert_eq!(text.matches("__private :: at").count(), 2, "{text}");
    }
}
