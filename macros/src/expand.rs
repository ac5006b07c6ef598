//! Expands `#[scenario]`: keeps the function unchanged, and adds the code, in its own scope, that registers it before
//! `main`.

use std::time::Duration;

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, ItemFn, Lit, LitStr, Meta, Result};

use crate::arguments::{Arguments, Start};
use crate::checkpoint;
use crate::places;
use crate::signature::{self, Parameter};
use crate::vlans::WithoutDhcp;

/// Expands the attribute; an error keeps the function, so that only the error is shown.
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let is_function = item.clone().into_iter().any(|token| token.to_string() == "fn");
            let why = match is_function {
                // The compiler shows what is wrong in it, if it is no function of a newer Rust.
                true => "`#[scenario]` can't read this function: correct its syntax",
                false => "`#[scenario]` needs a function: `async fn name(machine: Machine) -> Result`",
            };
            let error = syn::Error::new_spanned(&item, why).to_compile_error();
            return quote!(#error #item);
        }
    };
    match registration(arguments, &function) {
        Ok(registration) => {
            places::say(&mut function);
            let denied = denied();
            quote!(#denied #function #registration)
        }
        Err(error) => {
            let error = error.to_compile_error();
            quote!(#error #[allow(dead_code)] #function)
        }
    }
}

/// Returns the lints that make unused futures and results errors: a command that is not awaited never runs, and an
/// unused result hides a failure. An attribute on the function comes later and overrides them.
pub fn denied() -> TokenStream {
    quote!(#[deny(unused_must_use)])
}

fn registration(arguments: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    let parameters = signature::parameters(function)?;
    let names: Vec<Ident> = parameters.iter().map(|parameter| parameter.name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        let its = parameter_name(name);
        if names.iter().take(at).any(|other| parameter_name(other) == its) {
            let why = format!("two parameters have the name `{its}`: an underscore before it does not count");
            return Err(syn::Error::new(name.span(), why));
        }
    }
    let arguments = Arguments::parse(arguments, &names)?;
    let networks = parameters.iter().filter(|parameter| is_network(&parameter.kind));
    for Parameter { name: network, .. } in networks {
        let sources = arguments.sources.iter().chain(&arguments.nixpkgs).map(|(name, _)| name);
        let vlans = arguments.vlans.iter().flatten().map(|(name, _)| name);
        if let Some(name) = sources.chain(vlans).find(|name| *name == network) {
            let why = format!("`{name}` is the network of the machines, and is not built: remove this");
            return Err(syn::Error::new(name.span(), why));
        }
    }

    let name = &function.sig.ident;
    let text = name.to_string();
    let text = text.trim_start_matches("r#");
    let description = description(&function.attrs);
    let ignore = option(arguments.ignore.as_ref().map(|why| quote!(#why)));
    let timeout = option(arguments.timeout.map(time));
    let (boot, userspace) = (arguments.budget.boot.map(time), arguments.budget.userspace.map(time));
    let (boot, userspace) = (option(boot), option(userspace));
    let under_tcg = arguments.budget.under_tcg;
    let allow = &arguments.allow;
    let memory = option(arguments.memory.map(|size| quote!(#size)));
    let retries = option(arguments.retries.map(|count| quote!(#count)));
    let cores = option(arguments.cores.map(|count| quote!(#count)));
    let passphrase = option(arguments.passphrase.as_ref().map(|passphrase| quote!(#passphrase)));
    let from = moment(arguments.from.as_ref());
    let vlans = option(arguments.vlans.as_ref().map(|all| {
        let pairs = all.iter().map(|(machine, numbers)| {
            let machine = parameter_name(machine);
            quote!((#machine, &[#(#numbers),*]))
        });
        quote!(&[#(#pairs),*])
    }));
    let dhcp = match &arguments.without_dhcp {
        None => quote!(On),
        Some(WithoutDhcp::All) => quote!(Off),
        Some(WithoutDhcp::Some(numbers)) => quote!(OffOn(&[#(#numbers),*])),
    };
    let requests = parameters.iter().map(|parameter| request(parameter, &arguments));
    let given = parameters.iter().map(|Parameter { name, kind }| {
        let name = parameter_name(name);
        // At the type's place, so that the error for a wrong parameter type is shown there.
        quote_spanned!(kind.span()=> <#kind as ::nixvm_test::__private::Argument>::take(&mut given, #name)?)
    });
    let returned = signature::returned(function);
    let check = quote_spanned!(returned.span()=> ::nixvm_test::__private::is_a_return_type::<#returned>());
    // At the name's place, so that a failure is reported with the line of the scenario.
    let line = quote_spanned!(name.span()=> ::core::line!());
    let last_line = quote_spanned!(function.block.brace_token.span.close()=> ::core::line!());
    let cfg = function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));

    Ok(quote! {
        #(#cfg)*
        const _: () = {
            use ::nixvm_test::__private::{ByDebug as _, ByDisplay as _, ByNothing as _};

            const _: () = #check;

            fn body(mut given: ::nixvm_test::__private::Fixtures) -> ::nixvm_test::__private::Body {
                ::std::boxed::Box::pin(async move {
                    let returned = #name(#(#given),*).await;
                    (&&::nixvm_test::__private::Returned::new(returned)).outcome()
                })
            }

            static SCENARIO: ::nixvm_test::__private::Scenario = ::nixvm_test::__private::Scenario {
                function: #text,
                module: ::core::module_path!(),
                file: ::core::file!(),
                line: #line,
                last_line: #last_line,
                manifest_dir: ::core::env!("CARGO_MANIFEST_DIR"),
                description: #description,
                ignore: #ignore,
                timeout: #timeout,
                allow: &[#(#allow),*],
                budget: ::nixvm_test::__private::Budget { boot: #boot, userspace: #userspace, under_tcg: #under_tcg },
                from: #from,
                retries: #retries,
                memory: #memory,
                cores: #cores,
                passphrase: #passphrase,
                vlans: #vlans,
                dhcp: ::nixvm_test::__private::Dhcp::#dhcp,
                parameters: &[#(#requests),*],
                body,
            };

            ::nixvm_test::__private::ctor! {
                #[ctor(unsafe)]
                fn register() {
                    ::nixvm_test::__private::register(&SCENARIO);
                }
            }
        };
    })
}

fn time(limit: Duration) -> TokenStream {
    let millis = Literal::u64_suffixed(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    quote!(::core::time::Duration::from_millis(#millis))
}

/// Returns the scenario's request for one parameter.
fn request(parameter: &Parameter, arguments: &Arguments) -> TokenStream {
    let name = parameter_name(&parameter.name);
    let given = |all: &[(Ident, LitStr)]| {
        all.iter().find(|(name, _)| *name == parameter.name).map(|(_, text)| text.clone())
    };
    let source = given(&arguments.sources).or_else(|| arguments.configuration.clone());
    let source = option(source.map(|text| quote!(#text)));
    let nixpkgs = option(given(&arguments.nixpkgs).map(|text| quote!(#text)));
    let kind = &parameter.kind;
    let kind = quote_spanned!(kind.span()=> <#kind as ::nixvm_test::__private::Argument>::KIND);
    quote! {
        ::nixvm_test::__private::Parameter { name: #name, kind: #kind, source: #source, nixpkgs: #nixpkgs }
    }
}

/// Returns the moment at which machines begin.
pub fn moment(from: Option<&Start>) -> TokenStream {
    match from {
        None | Some(Start::Booted) => quote!(::nixvm_test::__private::Start::Booted),
        Some(Start::Cold) => quote!(::nixvm_test::__private::Start::Cold),
        Some(Start::LoggedIn(user, password)) => {
            quote!(::nixvm_test::__private::Start::LoggedIn { user: #user, password: #password })
        }
        Some(Start::Checkpoint(path)) => {
            let mut path = path.clone();
            if let Some(last) = path.segments.last_mut() {
                last.ident = checkpoint::hidden(&last.ident);
            }
            quote!(::nixvm_test::__private::Start::Checkpoint(&#path))
        }
    }
}

/// Whether a parameter's type is the network of the scenario, by its name.
fn is_network(kind: &syn::Type) -> bool {
    matches!(kind, syn::Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Network"))
}

/// Returns a parameter's name, without the underscore that marks an unused one.
pub fn parameter_name(parameter: &Ident) -> String {
    let name = parameter.to_string();
    let bare = name.trim_start_matches("r#").trim_start_matches('_');
    if bare.is_empty() { name } else { bare.to_owned() }
}

/// Returns the doc comment; its lines are unchanged except for the space after the slashes.
fn description(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<String> =
        lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n").trim().to_owned()
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}
