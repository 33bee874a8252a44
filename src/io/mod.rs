//! Files: tables as CSV, named arrays as safetensors. Nothing that stands in a file is trusted.
//!
//! Every error about a file is `E_FILE` and names it. [`save_variables`] and [`load_variables`] keep a group of
//! variables of a device, by name; [`load_into`] compares names, shapes and element types with what a model
//! expects and lists *all* differences at once. Saving writes a temporary file beside the target, synchronizes
//! it and renames it, so that a reader never sees half a file.

mod header;
mod safetensors;
mod table;
mod variables;

pub use safetensors::{description, from_bytes, load, load_into, save, save_described, to_bytes};
pub use table::{Stray, Table};
pub use variables::{load_variables, save_variables};

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
    let failed = |cause: std::io::Error| error(path, format!("cannot be written: {cause}"));
    let (part, mut file) = new_part(path)?;
    let mut written = || -> std::io::Result<()> {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    written().map_err(|cause| {
        // Best effort: what failed may be the folder itself.
        let _ = fs::remove_file(&part);
        failed(cause)
    })
}

/// Whether [`write_atomically`] could write there: asked before hours of computing, not after. Leaves nothing behind.
///
/// Error: `E_FILE`.
pub fn check_writable(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    if path.is_dir() {
        return Err(error(path, "cannot be written: it is a folder"));
    }
    let (part, _) = new_part(path)?;
    fs::remove_file(&part).map_err(|cause| error(path, format!("cannot be written: {cause}")))
}

/// A new file beside another, under a name that nothing has.
fn new_part(path: &Path) -> Result<(PathBuf, fs::File), Error> {
    let name = path.file_name().ok_or_else(|| error(path, "is no file name"))?;
    let mut number = 0u32;
    loop {
        let mut name = name.to_os_string();
        name.push(format!(".{}.{number}.part", std::process::id()));
        let part = path.with_file_name(name);
        match fs::File::create_new(&part) {
            Ok(file) => return Ok((part, file)),
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(cause) => return Err(error(path, format!("cannot be written: {cause}"))),
        }
    }
}
