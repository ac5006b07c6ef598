//! Expands `#[checkpoint]`: keeps the function unchanged, and adds the item that scenarios refer to.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, FnArg, ItemFn, Result, Type};

use crate::arguments::Arguments;
use crate::expand::{denied, moment};

const EXPECTED: &str = "a checkpoint is `async fn name(machine: &mut Machine) -> Result`";

/// Expands the attribute; an error keeps the function, so that only the error is shown.
pub fn checkpoint(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let error = Error::new_spanned(&item, EXPECTED).to_compile_error();
            return quote!(#error #item);
        }
    };
    match named(arguments, &function) {
        Ok(named) => {
            let denied = denied();
            quote!(#denied #function #named)
        }
        Err(error) => {
            let error = error.to_compile_error();
            quote!(#error #[allow(dead_code)] #function)
        }
    }
}

/// Returns the item that `from = name` refers to.
pub fn hidden(name: &Ident) -> Ident {
    format_ident!("__nixvm_checkpoint_{}", name)
}

fn named(arguments: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    let one = signature.inputs.len() == 1;
    let by_reference = matches!(
        signature.inputs.first(),
        Some(FnArg::Typed(input)) if matches!(&*input.ty, Type::Reference(kind) if kind.mutability.is_some())
    );
    if signature.asyncness.is_none() || !signature.generics.params.is_empty() || !one || !by_reference {
        return Err(Error::new_spanned(signature, EXPECTED));
    }
    let arguments = Arguments::parse_checkpoint(arguments)?;
    let (name, visibility) = (&signature.ident, &function.vis);
    let (hidden, text) = (hidden(name), name.to_string());
    let text = text.trim_start_matches("r#");
    let from = moment(arguments.from.as_ref());
    let cfg = function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    Ok(quote! {
        #(#cfg)*
        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        #visibility static #hidden: ::nixvm_test::__private::Checkpoint = ::nixvm_test::__private::Checkpoint {
            function: #text,
            module: ::core::module_path!(),
            from: #from,
            step: |machine| ::std::boxed::Box::pin(#name(machine)),
        };
    })
}
