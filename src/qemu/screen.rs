//! Writes the machine's screen to a file.

use std::path::Path;

use serde_json::json;

use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

/// The format of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// PNG, for people.
    Png,
    /// Portable pixmap, for programs that examine pixels.
    Ppm,
}

impl Qemu {
    /// Writes the content of the first screen to `path`, which has to be absolute.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when the machine has no screen, or `path` can't be written.
    pub(crate) async fn screendump(&self, path: &Path, format: Format) -> Result {
        let Some(file) = path.to_str() else {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{} is not UTF-8: QEMU accepts no such path", path.display()),
            ));
        };
        let arguments = match format {
            Format::Png => json!({ "filename": file, "format": "png" }),
            // QEMU before 7.1 has no `format`.
            Format::Ppm => json!({ "filename": file }),
        };
        let answer = self.qmp().execute("screendump", Some(arguments), QMP_LIMIT).await;
        answer.map(|_| ()).map_err(|error| {
            if error.summary().contains("no console to take a screendump from") {
                Error::new(ErrorKind::Qmp, "the machine has no screen")
                    .likely_cause("its QEMU options remove the graphics card (-vga none)")
            } else if error.summary().contains("Parameter 'format'") {
                error.likely_cause("this QEMU was built without PNG, or is older than 7.1")
            } else {
                error
            }
        })
    }
}
