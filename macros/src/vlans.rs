//! Parses the arguments of `#[scenario(…)]` about networks: `vlans(server = [1, 2])`, `dhcp = false`.

use proc_macro2::Ident;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Lit, LitBool, LitInt, Result, Token, bracketed};

/// The expected form of the VLANs, for error texts.
pub const EXPECTED: &str =
    "expected the VLANs of machines: `vlans(server = [1, 2], client = [2])`, numbers from 1 to 255";
const DHCP: &str = "expected `dhcp = false`, or for one VLAN `dhcp(2 = false)`";

/// The VLANs of each named machine.
pub type Vlans = Vec<(Ident, Vec<u8>)>;

/// The VLANs without a DHCP server.
pub enum WithoutDhcp {
    /// All of them.
    All,
    /// Those with these numbers.
    Some(Vec<u8>),
}

/// Parses what stands in the parentheses of `vlans(…)`.
pub fn parse(input: ParseStream) -> Result<Vlans> {
    let mut all = Vlans::new();
    if input.is_empty() {
        return Err(input.error(EXPECTED));
    }
    while !input.is_empty() {
        let machine: Ident = input.parse().map_err(|error| Error::new(error.span(), EXPECTED))?;
        input.parse::<Token![=]>().map_err(|error| Error::new(error.span(), EXPECTED))?;
        if !input.peek(syn::token::Bracket) {
            return Err(input.error(EXPECTED));
        }
        let content;
        bracketed!(content in input);
        let mut numbers = Vec::new();
        for number in Punctuated::<LitInt, Token![,]>::parse_terminated(&content)? {
            let vlan = parse_number(&number)?;
            if numbers.contains(&vlan) {
                return Err(Error::new(number.span(), format!("VLAN {vlan} is given twice")));
            }
            numbers.push(vlan);
        }
        if all.iter().any(|(other, _)| *other == machine) {
            return Err(Error::new(machine.span(), format!("`{machine}` is given twice")));
        }
        all.push((machine, numbers));
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(all)
}

/// Parses what stands in the parentheses of `dhcp(…)`.
pub fn without_dhcp(input: ParseStream) -> Result<WithoutDhcp> {
    let pair = |input: ParseStream| {
        let number: LitInt = input.parse().map_err(|error| Error::new(error.span(), DHCP))?;
        input.parse::<Token![=]>().map_err(|error| Error::new(error.span(), DHCP))?;
        let on: LitBool = input.parse().map_err(|error| Error::new(error.span(), DHCP))?;
        Ok((parse_number(&number)?, on.value()))
    };
    let pairs = input.parse_terminated(pair, Token![,])?;
    if pairs.is_empty() {
        return Err(input.error(DHCP));
    }
    Ok(WithoutDhcp::Some(pairs.into_iter().filter(|(_, on)| !on).map(|(number, _)| number).collect()))
}

/// Parses the value of `dhcp = …`.
pub fn off(name: &Ident, value: Option<&Expr>) -> Result<Option<WithoutDhcp>> {
    match value {
        Some(Expr::Lit(ExprLit { lit: Lit::Bool(on), .. })) => {
            Ok(if on.value() { None } else { Some(WithoutDhcp::All) })
        }
        Some(other) => Err(Error::new_spanned(other, DHCP)),
        None => Err(Error::new(name.span(), DHCP)),
    }
}

/// Parses a VLAN's number.
fn parse_number(number: &LitInt) -> Result<u8> {
    match number.base10_parse::<u8>() {
        Ok(vlan) if vlan > 0 => Ok(vlan),
        _ => Err(Error::new(number.span(), "expected the number of a VLAN, from 1 to 255")),
    }
}
