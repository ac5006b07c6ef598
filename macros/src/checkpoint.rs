//! Expands `#[checkpoint]`: keeps the function unchanged, and adds the item that scenarios refer to.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, FnArg, ItemFn, Pat, Result, Type};

use crate::arguments::Arguments;
use crate::expand::{denied, moment, parameter_name};

const EXPECTED: &str = "a checkpoint is `async fn name(machine: &mut Machine) -> Result`";
const OF_MACHINES: &str =
    "a checkpoint of several machines is `async fn name(one: &mut Machine, two: &mut Machine) -> Result`";

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
    if signature.asyncness.is_none() || !signature.generics.params.is_empty() || signature.inputs.is_empty() {
        return Err(Error::new_spanned(signature, EXPECTED));
    }
    let name = &signature.ident;
    let steps = match signature.inputs.len() {
        1 if signature.inputs.iter().all(|input| referred(input).is_some()) => quote! {
            ::nixvm_test::__private::Steps::One(|machine| ::std::boxed::Box::pin(#name(machine)))
        },
        1 => return Err(Error::new_spanned(signature, EXPECTED)),
        _ => together(function)?,
    };
    let arguments = Arguments::parse_checkpoint(arguments)?;
    let visibility = &function.vis;
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
            step: #steps,
        };
    })
}

/// Returns the type behind a parameter's `&mut`.
fn referred(input: &FnArg) -> Option<&Type> {
    let FnArg::Typed(input) = input else { return None };
    let Type::Reference(reference) = &*input.ty else { return None };
    reference.mutability.map(|_| &*reference.elem)
}

/// Returns the steps of a checkpoint of several machines, which are known by the names of its parameters.
fn together(function: &ItemFn) -> Result<TokenStream> {
    let (mut idents, mut names) = (Vec::new(), Vec::<String>::new());
    for input in &function.sig.inputs {
        let kind = referred(input).ok_or_else(|| Error::new_spanned(input, OF_MACHINES))?;
        if matches!(kind, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Session"))
        {
            let why = "a checkpoint of several machines takes machines: `login` and `session` of a machine give its sessions";
            return Err(Error::new_spanned(input, why));
        }
        let ident = match input {
            FnArg::Typed(input) => match &*input.pat {
                Pat::Ident(name) => &name.ident,
                _ => return Err(Error::new_spanned(input, OF_MACHINES)),
            },
            FnArg::Receiver(_) => return Err(Error::new_spanned(input, OF_MACHINES)),
        };
        let name = parameter_name(ident);
        if names.contains(&name) {
            let why =
                format!("two parameters have the name `{name}`: an underscore before it does not count");
            return Err(Error::new(ident.span(), why));
        }
        names.push(name);
        idents.push(format_ident!("machine{}", idents.len()));
    }
    let name = &function.sig.ident;
    Ok(quote! {
        ::nixvm_test::__private::Steps::Together {
            machines: &[#(#names),*],
            step: |machines| ::std::boxed::Box::pin(async move {
                let [#(#idents),*] = machines else { return ::nixvm_test::__private::other_machines() };
                #name(#(#idents),*).await
            }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the attribute makes of a function, as one text.
    fn made(function: TokenStream) -> String {
        checkpoint(TokenStream::new(), function).to_string()
    }

    #[test]
    fn one_machine_has_any_name_and_several_are_known_by_their_names() {
        let one = made(quote!(
            async fn seeded(machine: &mut Machine) -> Result {
                Ok(())
            }
        ));
        assert!(one.contains("Steps :: One") && !one.contains("compile_error"), "{one}");
        let several = made(quote!(
            async fn cluster(_one: &mut Machine, r#two: &mut Machine) -> Result {
                Ok(())
            }
        ));
        assert!(several.contains(r#"machines : & ["one" , "two"]"#), "{several}");
        assert!(!several.contains("compile_error"), "{several}");
    }

    #[test]
    fn what_is_no_checkpoint_says_how_one_is_written() {
        for (function, expected) in [
            (
                quote!(
                    async fn a() -> Result {
                        Ok(())
                    }
                ),
                EXPECTED,
            ),
            (
                quote!(
                    fn a(machine: &mut Machine) -> Result {
                        Ok(())
                    }
                ),
                EXPECTED,
            ),
            (
                quote!(
                    async fn a(machine: Machine) -> Result {
                        Ok(())
                    }
                ),
                EXPECTED,
            ),
            (
                quote!(
                    async fn a(one: &mut Machine, two: &Machine) -> Result {
                        Ok(())
                    }
                ),
                OF_MACHINES,
            ),
            (
                quote!(
                    async fn a(one: &mut Machine, (two, three): &mut Two) -> Result {
                        Ok(())
                    }
                ),
                OF_MACHINES,
            ),
            (
                quote!(
                    async fn a(one: &mut Machine, alice: &mut Session) -> Result {
                        Ok(())
                    }
                ),
                "takes machines",
            ),
            (
                quote!(
                    async fn a(one: &mut Machine, _one: &mut Machine) -> Result {
                        Ok(())
                    }
                ),
                "have the name `one`",
            ),
        ] {
            let made = made(function.clone());
            assert!(made.contains("compile_error") && made.contains(expected), "{function}: {made}");
        }
    }
}
