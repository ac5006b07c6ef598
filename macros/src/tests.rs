//! Rejects tests that are not scenarios in a scenario file: they would never run.

use proc_macro::{Span, TokenStream};

use crate::look::Look;
use crate::scenarios::no_tests;

/// Returns the error for the first such test in the compiled file, at its first scenario; else nothing.
pub fn beside() -> TokenStream {
    let span = Span::call_site();
    let error = span.local_file().and_then(|path| {
        let look = Look::at(&std::fs::read_to_string(&path).ok()?);
        // Reported once per file. In other files, rustc's harness may run them.
        let (line, test) =
            look.tests.first().filter(|_| look.main && look.scenarios.first() == Some(&span.line()))?;
        Some(syn::Error::new(span.into(), no_tests(&path.display().to_string(), *line, test)))
    });
    error.map_or_else(TokenStream::new, |error| error.to_compile_error().into())
}
