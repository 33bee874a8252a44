//! Files: tables as CSV, named arrays as safetensors. Nothing that stands in a file is trusted.
//!
//! Every error is `E_FILE` and names the file. [`load_into`] compares names, shapes and element types with what a model
//! expects and lists *all* differences at once. Saving writes a temporary file beside the target, synchronizes it and
//! renames it, so that a reader never sees half a file.

mod header;
mod safetensors;
mod table;

pub use safetensors::{from_bytes, load, load_into, save, to_bytes};
pub use table::{Stray, Table};

use cotangent_tensor::{Code, Detail, Error};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// An error about a file.
fn error(path: &Path, message: impl std::fmt::Display) -> Error {
    let path = path.display().to_string();
    Error::new(Code::File, path.clone(), message.to_string()).with("path", Detail::Text(path))
}

/// Writes a file as a whole or not at all: a temporary file in the same folder, synchronized, then renamed.
///
/// Error: `E_FILE`; the old file, if there is one, is then unchanged.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let path = path.as_ref();
    let mut name = path.file_name().ok_or_else(|| error(path, "is no file name"))?.to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part: PathBuf = path.with_file_name(name);
    let written = || -> std::io::Result<()> {
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    written().map_err(|cause| {
        // Best effort: the part may not exist.
        let _ = fs::remove_file(&part);
        error(path, format!("cannot be written: {cause}"))
    })
}
