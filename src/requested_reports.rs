//! Reports that are requested in addition to those in the record of a run: `--report
//! junit=FILE,html=FILE,jsonl=FILE,cast=DIR`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// A format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JUnit XML, which CI systems read.
    Junit,
    /// An HTML page.
    Html,
    /// The events, one a line.
    Jsonl,
    /// A folder with the consoles as asciicast v2.
    Cast,
}

impl Format {
    const ALL: [Self; 4] = [Self::Junit, Self::Html, Self::Jsonl, Self::Cast];

    fn name(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Html => "html",
            Self::Jsonl => "jsonl",
            Self::Cast => "cast",
        }
    }
}

/// The requested reports, each with its path.
///
/// ```
/// let reports: nixvm_test::internals::RequestedReports = "junit=/tmp/junit.xml,cast=/tmp/casts".parse()?;
/// assert_eq!(reports.to_string(), "junit=/tmp/junit.xml,cast=/tmp/casts");
/// assert!("pdf=/tmp/x".parse::<nixvm_test::internals::RequestedReports>().unwrap_err().to_string().contains("junit"));
/// # Ok::<(), nixvm_test::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedReports(Vec<(Format, PathBuf)>);

impl RequestedReports {
    /// Returns each format with its path.
    pub fn iter(&self) -> impl Iterator<Item = (Format, &Path)> {
        self.0.iter().map(|(format, path)| (*format, path.as_path()))
    }

    /// Makes relative paths absolute, starting at `folder`, so that they are valid in every working
    /// directory.
    #[must_use]
    pub fn below(&self, folder: &Path) -> Self {
        let absolute =
            |path: &PathBuf| std::path::absolute(folder.join(path)).unwrap_or_else(|_| path.clone());
        Self(self.0.iter().map(|(format, path)| (*format, absolute(path))).collect())
    }
}

impl FromStr for RequestedReports {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Usage`] for a text that is not `FORMAT=PATH`; the error names the formats.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut reports = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, path) = part.split_once('=').unwrap_or((part, ""));
            let format = Format::ALL.into_iter().find(|format| format.name() == name);
            let what = match (format, path) {
                (None, _) => format!("`{name}` is not a format of a report"),
                (Some(_), "") => format!("the report `{name}` needs a path: `{name}=PATH`"),
                (Some(format), path) => {
                    reports.push((format, PathBuf::from(path)));
                    continue;
                }
            };
            let names = Format::ALL.map(Format::name).join(", ");
            return Err(Error::new(ErrorKind::Usage, format!("{what}; formats are {names}"))
                .next_step("write them as `--report junit=FILE,html=FILE,jsonl=FILE,cast=DIR`"));
        }
        Ok(Self(reports))
    }
}

impl fmt::Display for RequestedReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (format, path)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}={}", format.name(), path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_format_is_an_error_that_names_the_known_ones() {
        let error = "junit=a.xml,pdf=b".parse::<RequestedReports>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(
            error.summary().contains("`pdf`") && error.summary().contains("junit, html, jsonl, cast"),
            "{error}"
        );
        assert!("html".parse::<RequestedReports>().unwrap_err().summary().contains("needs a path"));
        assert_eq!("".parse::<RequestedReports>().unwrap(), RequestedReports::default());
    }
}
