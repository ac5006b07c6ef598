//! Parses the arguments of `#[scenario(…)]`.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Result, Token};

use crate::duration;
use crate::nearest::nearest;
use crate::vlans::{self, Vlans, WithoutDhcp};

/// Reserved argument names, which a parameter can't have.
pub const KEYWORDS: [&str; 13] = [
    "allow",
    "budget",
    "configuration",
    "cores",
    "dhcp",
    "from",
    "ignore",
    "memory",
    "nixpkgs",
    "passphrase",
    "retries",
    "timeout",
    "vlans",
];

/// The arguments, checked as far as possible without their function.
#[derive(Default)]
pub struct Arguments {
    /// `allow("segfault", "OOM kill")`: what a console may show without failing the scenario.
    pub allow: Vec<LitStr>,
    /// `budget(boot = "20s")`: how long the boot of its machines may take.
    pub budget: Budget,
    /// `from = booted`: where its machines begin.
    pub from: Option<Start>,
    /// `ignore` or `ignore = "why"`; the reason is empty for the first.
    pub ignore: Option<String>,
    /// `memory = "2G"`, in MiB.
    pub memory: Option<u64>,
    /// `cores = 2`.
    pub cores: Option<u64>,
    /// `passphrase = "open sesame"`.
    pub passphrase: Option<LitStr>,
    /// `retries = 2`.
    pub retries: Option<u32>,
    /// `timeout = "5m"`.
    pub timeout: Option<Duration>,
    /// `configuration = "path"`: for every parameter without its own.
    pub configuration: Option<LitStr>,
    /// `server = "server.nix"`: for the parameter with that name.
    pub sources: Vec<(Ident, LitStr)>,
    /// `nixpkgs(next = "channel:nixos-26.05")`: for the parameter with that name.
    pub nixpkgs: Vec<(Ident, LitStr)>,
    /// `dhcp = false` or `dhcp(2 = false)`: the VLANs without a DHCP server.
    pub without_dhcp: Option<WithoutDhcp>,
    /// `vlans(server = [1, 2])`: the VLANs of the machine with that name.
    pub vlans: Option<Vec<(Ident, Vec<u8>)>>,
}

/// How long parts of a boot may take.
#[derive(Default)]
pub struct Budget {
    /// From the start of the kernel until everything is up.
    pub boot: Option<Duration>,
    /// The part of it that systemd takes.
    pub userspace: Option<Duration>,
    /// Whether it applies to machines under TCG instead of KVM.
    pub under_tcg: bool,
}

impl Budget {
    fn parse(name: &Ident, pairs: Option<Vec<(Ident, LitStr)>>) -> Result<Self> {
        const EXPECTED: &str =
            "expected time limits of the boot: `budget(boot = \"20s\", userspace = \"12s\")`";
        const PARTS: [&str; 3] = ["boot", "userspace", "accelerator"];
        const ALL: &str =
            "a budget takes `boot = \"20s\"`, `userspace = \"12s\"` and `accelerator = \"tcg\"`";
        const ACCELERATORS: &str = "a budget is for one accelerator: \"kvm\" (the default) or \"tcg\"";
        let mut budget = Self::default();
        let mut accelerator = None;
        let pairs =
            pairs.filter(|pairs| !pairs.is_empty()).ok_or_else(|| Error::new(name.span(), EXPECTED))?;
        for (part, limit) in pairs {
            if !PARTS.iter().any(|known| part == known) {
                return Err(unknown(&part, &PARTS, &[], ALL));
            }
            if part == "accelerator" {
                budget.under_tcg = match limit.value().as_str() {
                    "kvm" => false,
                    "tcg" => true,
                    _ => return Err(Error::new(limit.span(), ACCELERATORS)),
                };
                if accelerator.replace(()).is_some() {
                    return Err(Error::new(part.span(), format!("`{part}` is given twice")));
                }
                continue;
            }
            let parsed = duration::parse(&limit.value()).map_err(|why| Error::new(limit.span(), why))?;
            let place = match part.to_string().as_str() {
                "boot" => &mut budget.boot,
                _ => &mut budget.userspace,
            };
            if place.replace(parsed).is_some() {
                return Err(Error::new(part.span(), format!("`{part}` is given twice")));
            }
        }
        if budget.boot.is_none() && budget.userspace.is_none() {
            return Err(Error::new(name.span(), EXPECTED));
        }
        Ok(budget)
    }
}

/// The moment at which machines begin.
pub enum Start {
    /// `cold`: booted for this scenario only.
    Cold,
    /// `booted`: at the login prompt.
    Booted,
    /// `logged_in("alice", "test")`.
    LoggedIn(LitStr, LitStr),
    /// The path of a function with `#[checkpoint]`.
    Checkpoint(syn::Path),
}

impl Start {
    fn parse(name: &Ident, value: Option<Expr>) -> Result<Self> {
        const EXPECTED: &str = "expected a moment: `from = booted`, `cold`, `logged_in(\"alice\", \"test\")` or a checkpoint's name";
        match value {
            Some(Expr::Path(moment)) if moment.path.is_ident("cold") => Ok(Self::Cold),
            Some(Expr::Path(moment)) if moment.path.is_ident("booted") => Ok(Self::Booted),
            Some(Expr::Path(moment)) => Ok(Self::Checkpoint(moment.path)),
            Some(Expr::Call(call)) if matches!(&*call.func, Expr::Path(function) if function.path.is_ident("logged_in")) =>
            {
                let mut words = call.args.iter().map(|argument| match argument {
                    Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
                    other => Err(Error::new_spanned(other, "expected a string")),
                });
                match (words.next(), words.next(), words.next()) {
                    (Some(user), Some(password), None) => Ok(Self::LoggedIn(user?, password?)),
                    _ => Err(Error::new_spanned(
                        &call,
                        "expected a name and a password: `logged_in(\"alice\", \"test\")`",
                    )),
                }
            }
            Some(other) => Err(Error::new_spanned(other, EXPECTED)),
            None => Err(Error::new(name.span(), EXPECTED)),
        }
    }
}

/// `name`, `name = value` or `name("text", …)`.
struct Argument {
    name: Ident,
    value: Option<Expr>,
    list: Option<Vec<LitStr>>,
    pairs: Option<Vec<(Ident, LitStr)>>,
    networks: Option<Networks>,
}

/// What the arguments about networks have in parentheses.
enum Networks {
    /// `vlans(server = [1, 2])`.
    Vlans(Vlans),
    /// `dhcp(2 = false)`.
    WithoutDhcp(WithoutDhcp),
}

impl Argument {
    /// Returns an argument without a value.
    fn named(name: Ident) -> Self {
        Self { name, value: None, list: None, pairs: None, networks: None }
    }
}

impl Parse for Argument {
    fn parse(input: ParseStream) -> Result<Self> {
        let name: Ident = input
            .parse()
            .map_err(|error| Error::new(error.span(), format!("expected an argument: {}", there_is(&[]))))?;
        if input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in input);
            let networks = match name.to_string().as_str() {
                "vlans" => Some(Networks::Vlans(vlans::parse(&content)?)),
                "dhcp" => Some(Networks::WithoutDhcp(vlans::without_dhcp(&content)?)),
                _ => None,
            };
            if networks.is_some() {
                return Ok(Self { networks, ..Self::named(name) });
            }
            if name == "budget" || name == "nixpkgs" {
                let pair = |input: ParseStream| {
                    let part = input.parse()?;
                    input.parse::<Token![=]>()?;
                    Ok((part, input.parse()?))
                };
                let pairs = content.parse_terminated(pair, Token![,])?;
                return Ok(Self { pairs: Some(pairs.into_iter().collect()), ..Self::named(name) });
            }
            let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)
                .map_err(|error| Error::new(error.span(), format!("expected strings: `{name}(\"…\")`")))?;
            return Ok(Self { list: Some(list.into_iter().collect()), ..Self::named(name) });
        }
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Some(input.parse()?)
        } else if input.is_empty() || input.peek(Token![,]) {
            None
        } else {
            return Err(input.error(format!("expected `{name} = \"…\"`")));
        };
        Ok(Self { value, ..Self::named(name) })
    }
}

impl Arguments {
    /// Parses `tokens`; `parameters` are the names of the function's parameters.
    pub fn parse(tokens: TokenStream, parameters: &[Ident]) -> Result<Self> {
        let list = syn::parse::Parser::parse2(Punctuated::<Argument, Token![,]>::parse_terminated, tokens)?;
        let mut arguments = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        for Argument { name, value, list, pairs, networks } in list {
            let is_known = KEYWORDS.iter().any(|known| name == known) || parameters.contains(&name);
            if !is_known {
                return Err(unknown(&name, &KEYWORDS, parameters, &there_is(parameters)));
            }
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            match name.to_string().as_str() {
                "allow" => {
                    let why = "expected the name of a check: `allow(\"segfault\")`";
                    let some = list.filter(|list| !list.is_empty());
                    arguments.allow = some.ok_or_else(|| Error::new(name.span(), why))?;
                }
                "budget" => arguments.budget = Budget::parse(&name, pairs)?,
                "nixpkgs" => arguments.nixpkgs = nixpkgs(&name, pairs, parameters)?,
                "vlans" => {
                    let given = match networks {
                        Some(Networks::Vlans(given)) => given,
                        _ => return Err(Error::new(name.span(), vlans::EXPECTED)),
                    };
                    for (machine, _) in &given {
                        if !parameters.contains(machine) {
                            return Err(no_parameter(machine, parameters));
                        }
                    }
                    arguments.vlans = Some(given);
                }
                "dhcp" => {
                    arguments.without_dhcp = match networks {
                        Some(Networks::WithoutDhcp(given)) => Some(given),
                        _ => vlans::off(&name, value.as_ref())?,
                    };
                }
                other if list.is_some() => {
                    return Err(Error::new(name.span(), format!("expected `{other} = \"…\"`")));
                }
                "from" => arguments.from = Some(Start::parse(&name, value)?),
                "ignore" => {
                    arguments.ignore = Some(value.map_or(Ok(String::new()), |why| {
                        text(&name, Some(why), "ignore = \"needs a network\"").map(|why| why.value())
                    })?)
                }
                "memory" => {
                    let size = text(&name, value, "memory = \"2G\"")?;
                    arguments.memory = Some(mebibytes(&size.value()).ok_or_else(|| {
                        Error::new(size.span(), "expected MiB or GiB: `memory = \"512M\"`, `\"2G\"`")
                    })?);
                }
                "passphrase" => {
                    let given = text(&name, value, "passphrase = \"…\"")?;
                    if given.value().is_empty() || given.value().chars().any(char::is_control) {
                        let why = "expected one line of text that is not empty";
                        return Err(Error::new(given.span(), why));
                    }
                    arguments.passphrase = Some(given);
                }
                "retries" => arguments.retries = Some(retries(&name, value)?),
                "cores" => arguments.cores = Some(cores(&name, value)?),
                "timeout" => {
                    let limit = text(&name, value, "timeout = \"5m\"")?;
                    let parsed = duration::parse(&limit.value());
                    arguments.timeout = Some(parsed.map_err(|why| Error::new(limit.span(), why))?);
                }
                "configuration" => {
                    arguments.configuration = Some(path(&name, value, "configuration = \"web.nix\"")?);
                }
                parameter => {
                    let source = path(&name, value, &format!("{parameter} = \"{parameter}.nix\""))?;
                    arguments.sources.push((name.clone(), source));
                }
            }
            seen.push(name);
        }
        Ok(arguments)
    }
}

impl Arguments {
    /// Parses those of `#[checkpoint(…)]`: only `from`.
    pub fn parse_checkpoint(tokens: TokenStream) -> Result<Self> {
        let list = syn::parse::Parser::parse2(Punctuated::<Argument, Token![,]>::parse_terminated, tokens)?;
        let mut arguments = Self::default();
        for Argument { name, value, .. } in list {
            if name != "from" {
                let all = "a checkpoint has `from = booted`, the moment before it, and no other argument";
                return Err(unknown(&name, &["from"], &[], all));
            }
            if arguments.from.is_some() {
                return Err(Error::new(name.span(), "`from` is given twice"));
            }
            arguments.from = Some(Start::parse(&name, value)?);
        }
        Ok(arguments)
    }
}

/// Returns the error for an unknown argument: the most similar one, and `all` existing ones.
fn unknown(name: &Ident, known: &[&str], parameters: &[Ident], all: &str) -> Error {
    let (word, parameters) = (name.to_string(), parameters.iter().map(Ident::to_string).collect::<Vec<_>>());
    let known = known.iter().copied().chain(parameters.iter().map(String::as_str));
    let meant = nearest(&word, known).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    Error::new(name.span(), format!("unknown argument `{word}`: {meant}{all}"))
}

/// Lists the existing arguments for error texts: every one of [`KEYWORDS`].
fn there_is(parameters: &[Ident]) -> String {
    let mut text = "there are `allow(\"segfault\")`, `budget(boot = \"20s\")`, `configuration = \"FILE.nix\"`, \
                    `cores = 2`, `dhcp = false`, `from = logged_in(\"alice\", \"test\")`, `ignore = \"why\"`, `memory = \"2G\"`, \
                    `nixpkgs(PARAMETER = \"channel:nixos-26.05\")`, `passphrase = \"open sesame\"`, `retries = 2`, `timeout = \"5m\"`, \
                    `vlans(PARAMETER = [1, 2])`"
        .to_owned();
    match parameters {
        [] => text.push_str(" and, for each machine or system, `PARAMETER = \"FILE.nix\"`"),
        names => {
            for name in names {
                text.push_str(&format!(", `{name} = \"FILE.nix\"`"));
            }
        }
    }
    text
}

/// Parses which parameter is built with which nixpkgs.
fn nixpkgs(
    name: &Ident,
    pairs: Option<Vec<(Ident, LitStr)>>,
    parameters: &[Ident],
) -> Result<Vec<(Ident, LitStr)>> {
    const EXPECTED: &str = "expected which parameter is built with which nixpkgs: \
                            `nixpkgs(next = \"channel:nixos-26.05\")`";
    let pairs = pairs.filter(|pairs| !pairs.is_empty()).ok_or_else(|| Error::new(name.span(), EXPECTED))?;
    for (at, (parameter, value)) in pairs.iter().enumerate() {
        if !parameters.contains(parameter) {
            return Err(no_parameter(parameter, parameters));
        }
        if pairs.iter().take(at).any(|(other, _)| other == parameter) {
            return Err(Error::new(parameter.span(), format!("`{parameter}` is given twice")));
        }
        if value.value().trim().is_empty() {
            let why = format!("expected a nixpkgs: `nixpkgs({parameter} = \"channel:nixos-26.05\")`");
            return Err(Error::new(value.span(), why));
        }
    }
    Ok(pairs)
}

/// Returns the error for a name that no parameter has.
fn no_parameter(name: &Ident, parameters: &[Ident]) -> Error {
    let names: Vec<String> = parameters.iter().map(|name| format!("`{name}`")).collect();
    let all = match names.as_slice() {
        [] => "the scenario has no parameter".to_owned(),
        names => format!("the scenario has {}", names.join(", ")),
    };
    let meant = parameters.iter().map(Ident::to_string).collect::<Vec<_>>();
    let meant = nearest(&name.to_string(), meant.iter().map(String::as_str));
    let meant = meant.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    Error::new(name.span(), format!("no parameter `{name}`: {meant}{all}"))
}

/// Parses sizes in QEMU's form: `512M`, `2G`.
fn mebibytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix(['M', 'm']) {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix(['G', 'g'])?, 1024),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|size| (1..=1 << 24).contains(size))
}

/// Parses the number of retries.
fn retries(name: &Ident, value: Option<Expr>) -> Result<u32> {
    match &value {
        Some(Expr::Lit(ExprLit { lit: Lit::Int(count), .. })) => count.base10_parse(),
        _ => Err(Error::new(name.span(), "expected a number: `retries = 2`")),
    }
}

/// Parses a number of processors.
fn cores(name: &Ident, value: Option<Expr>) -> Result<u64> {
    let Some(Expr::Lit(ExprLit { lit: Lit::Int(count), .. })) = &value else {
        return Err(Error::new(name.span(), "expected a number: `cores = 2`"));
    };
    let parsed = count.base10_parse::<u64>()?;
    if (1..=255).contains(&parsed) {
        Ok(parsed)
    } else {
        Err(Error::new(count.span(), "expected 1 to 255 processors"))
    }
}

/// Returns the value as a string literal.
fn text(name: &Ident, value: Option<Expr>, example: &str) -> Result<LitStr> {
    match value {
        Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => Ok(text),
        Some(other) => Err(Error::new_spanned(other, format!("expected a string: `{example}`"))),
        None => Err(Error::new(name.span(), format!("`{name}` needs a value: `{example}`"))),
    }
}

/// Returns the value as the text of a source that is not empty.
fn path(name: &Ident, value: Option<Expr>, example: &str) -> Result<LitStr> {
    let path = text(name, value, example)?;
    if path.value().is_empty() {
        return Err(Error::new(path.span(), format!("expected a file: `{example}`")));
    }
    Ok(path)
}
