//! Expands `#[tracked]`: makes a method of the library record its caller.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::{Error, ItemFn, ReturnType, parse_quote_spanned};

/// Turns `async fn f(…) -> R {…}` into `#[track_caller] fn f(…) -> impl Future<Output = R>`, since an `async fn` can't
/// have `#[track_caller]`. rustdoc still shows the `async fn`, which is easier to read.
pub fn tracked(item: TokenStream) -> TokenStream {
    method(item).unwrap_or_else(Error::into_compile_error)
}

fn method(item: TokenStream) -> syn::Result<TokenStream> {
    let function: ItemFn = syn::parse2(item)?;
    let ItemFn { attrs, vis, sig, block, .. } = &function;
    let (Some(_), ReturnType::Type(_, returned)) = (sig.asyncness, &sig.output) else {
        return Err(Error::new_spanned(sig, "`#[tracked]` needs an `async fn` that returns a `Result`"));
    };
    // At the place of the method, so that compiler messages refer to the method and not to this macro.
    let span = sig.fn_token.span;
    let mut plain = sig.clone();
    plain.asyncness = None;
    plain.output = parse_quote_spanned!(span=> -> impl ::core::future::Future<Output = #returned>);
    Ok(quote_spanned! {span=>
        #[cfg(doc)]
        #function

        #[cfg(not(doc))]
        #(#attrs)*
        #[track_caller]
        #vis #plain {
            crate::call::Call::new(::core::panic::Location::caller(), async move {
                // Tells the compiler the type of each `?` and `Ok` in the body.
                if let ::core::option::Option::Some(returned) = ::core::option::Option::None::<#returned> {
                    return returned;
                }
                #block
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn the_compiler_sees_a_function_that_knows_its_caller_and_rustdoc_sees_the_async_fn() {
        let item = quote!(
            /// Waits.
            pub async fn wait<T>(&self, mut part: impl FnMut() -> T) -> Result<T>
            where
                T: Send,
            {
                Ok(part())
            }
        );
        let file: syn::File = syn::parse2(tracked(item.clone())).unwrap();
        let [documented, syn::Item::Fn(compiled)] = &file.items[..] else { panic!("two functions") };
        let (item, documented): (ItemFn, _) = (syn::parse2(item).unwrap(), quote!(#documented).to_string());
        assert_eq!(documented, quote!(#[cfg(doc)] #item).to_string());
        let expected: syn::Signature = syn::parse_quote!(
            fn wait<T>(&self, mut part: impl FnMut() -> T) -> impl ::core::future::Future<Output = Result<T>>
            where
                T: Send,
        );
        let signature = &compiled.sig;
        assert_eq!(quote!(#signature).to_string(), quote!(#expected).to_string());
        let attributes = compiled.attrs.iter().map(|attribute| quote!(#attribute).to_string());
        let attributes: Vec<String> = attributes.collect();
        assert_eq!(attributes.len(), 3, "{attributes:?}");
        assert!(attributes.contains(&quote!(#[track_caller]).to_string()), "{attributes:?}");
    }

    #[test]
    fn a_function_that_is_not_async_or_returns_nothing_is_refused_at_its_place() {
        for item in [
            quote!(
                fn f() -> Result {}
            ),
            quote!(
                async fn f() {}
            ),
            quote!(
                struct F;
            ),
        ] {
            let text = tracked(item).to_string();
            assert!(text.contains("compile_error !"), "{text}");
        }
    }
}
