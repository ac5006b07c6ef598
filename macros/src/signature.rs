//! Checks that a function's signature is a scenario's.

use proc_macro2::{Ident, Span, TokenStream};
use quote::ToTokens;
use syn::{Error, FnArg, ItemFn, Pat, Result, ReturnType, Type};

use crate::arguments::KEYWORDS;

/// The expected form, for error texts.
const EXPECTED: &str = "a scenario is `async fn name(machine: Machine) -> Result`";

/// A parameter of the function: a machine that is booted for it, or a system that is built.
pub struct Parameter {
    /// Its name, which is the machine's or the system's.
    pub name: Ident,
    /// Its type as written.
    pub kind: Type,
}

/// Checks the signature and returns its parameters.
pub fn parameters(function: &ItemFn) -> Result<Vec<Parameter>> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let why = format!("{EXPECTED}: write `async fn {}`", signature.ident);
        return Err(Error::new(signature.fn_token.span, why));
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return Err(refuse(&signature.generics, "without generics"));
    }
    if let Some(abi) = &signature.abi {
        return Err(refuse(abi, "without `extern`"));
    }
    if !signature.safety.to_token_stream().is_empty() {
        return Err(refuse(&signature.safety, "and safe"));
    }
    let mut parameters: Vec<Parameter> = Vec::new();
    for input in &signature.inputs {
        let FnArg::Typed(input) = input else {
            return Err(refuse(input, "outside any `impl`: no `self`"));
        };
        let Pat::Ident(name) = &*input.pat else {
            return Err(refuse(
                &input.pat,
                "whose parameters are plain names, because they name the machines and systems",
            ));
        };
        let name = name.ident.clone();
        if KEYWORDS.contains(&name.to_string().as_str()) {
            let why = format!("a parameter can't be named `{name}`: that is an argument of `#[scenario]`");
            return Err(Error::new(name.span(), why));
        }
        parameters.push(Parameter { name, kind: (*input.ty).clone() });
    }
    Ok(parameters)
}

/// Returns the return type, `()` if none is written.
pub fn returned(function: &ItemFn) -> TokenStream {
    match &function.sig.output {
        ReturnType::Default => quote::quote_spanned!(Span::call_site()=> ()),
        ReturnType::Type(_, kind) => kind.to_token_stream(),
    }
}

fn refuse(at: &impl ToTokens, how: &str) -> Error {
    Error::new_spanned(at, format!("{EXPECTED}, {how}"))
}
