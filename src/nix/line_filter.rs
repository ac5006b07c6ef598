//! Decides which lines of a build are shown while it runs.
//!
//! Nix ends with an error text of some hundred lines. The report of the failed build shows the useful part, and the log
//! has all of it. Shown as it arrives, it would scroll both out of sight.

/// Holds lines that may be Nix's error text until that is clear.
#[derive(Debug, Default)]
pub(super) struct LineFilter {
    held: Vec<String>,
}

impl LineFilter {
    /// Takes the next line; `show` gets the lines that can be shown now.
    pub(super) fn line(&mut self, line: &str, mut show: impl FnMut(&str)) {
        if line.starts_with("error:") {
            self.held.push(line.to_owned());
            return;
        }
        // All lines of the error text below the first are indented. Other output of a build is not.
        if !self.held.is_empty() && (line.is_empty() || line.starts_with("  ")) {
            self.held.push(line.to_owned());
            return;
        }
        self.go_on(&mut show);
        show(line);
    }

    /// Shows the held lines, since the build continued after them.
    pub(super) fn go_on(&mut self, mut show: impl FnMut(&str)) {
        for line in self.held.drain(..) {
            show(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, succeeded: bool) -> Vec<String> {
        let (mut lines, mut filter) = (Vec::new(), LineFilter::default());
        for line in text.lines() {
            filter.line(line, |line| lines.push(line.to_owned()));
        }
        if succeeded {
            filter.go_on(|line| lines.push(line.to_owned()));
        }
        lines
    }

    #[test]
    fn the_error_text_of_nix_is_left_to_the_report() {
        let text = "building 'a'\nerror: undefined variable 'x'\n\n       at /c.nix:1:1:\n            1| x\nerror: 1 dependency failed";
        assert_eq!(shown(text, false), ["building 'a'"]);
    }

    #[test]
    fn what_looks_like_it_in_the_middle_of_a_build_is_shown() {
        let text = "error: warning of a compiler\n  --> src/a.c\nmore\nerror: last";
        assert_eq!(shown(text, false), ["error: warning of a compiler", "  --> src/a.c", "more"]);
        assert_eq!(shown(text, true).len(), 4);
    }
}
