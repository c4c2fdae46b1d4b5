//! Checks the format version of a file, such as `format = 1`. A file of another version is rejected.

use toml::Spanned;

use super::toml_reader::{TomlReader, TomlTable};
use crate::diagnostics::{Code, Diagnostic};

impl TomlReader {
    /// Returns whether the file has the line `key = newest`, for example `format = 1`. Adds a finding otherwise.
    pub(crate) fn format(&mut self, root: &TomlTable<'_, '_>, key: &str, newest: i64) -> bool {
        if !root.has(key) {
            let finding = Diagnostic::new(Code::MissingKey, format!("{} lacks `{key}`", root.what))
                .at(self.file, &(0..0), "it belongs at the top")
                .help(format!("write `{key} = {newest}` as the first line"));
            self.push(finding);
            return false;
        }
        let span = root.table.get(key).map_or(0..0, Spanned::span);
        match self.integer(root, key, i64::MIN..=i64::MAX) {
            Some(number) if number == newest => true,
            Some(number) => {
                let finding = Diagnostic::new(Code::UnsupportedFormat, format!("{key} {number} is not supported")).at(
                    self.file,
                    &span,
                    format!("this version reads {key} {newest}"),
                );
                let newer = "the file was written for a newer corrigenda";
                self.push(if number > newest { finding.help(newer) } else { finding });
                false
            }
            None => false,
        }
    }
}
