//! The command as a shell calls it.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub fn cotangent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cotangent")).args(arguments).output().unwrap()
}
pub fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(name).display().to_string()
}
/// Standard output of a successful call, as its one document.
pub fn document(arguments: &[&str]) -> Value {
    let output = cotangent(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
/// Standard error of a call that must fail, and print nothing else.
pub fn failure(arguments: &[&str]) -> String {
    let output = cotangent(arguments);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}
pub fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cotangent-cli-{}-{name}", std::process::id()))
}

/// A number of a document within a relative distance, which is case data.
pub fn near(value: &Value, expected: f64, relative: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() <= relative * expected.abs(), "{value} is not {expected}");
}

/// A file in the folder for temporary files, removed at the end.
pub struct Csv(pub PathBuf);

impl Csv {
    pub fn new(name: &str, text: &str) -> Csv {
        let path = temporary(name);
        std::fs::write(&path, text).unwrap();
        Csv(path)
    }
    pub fn fit(&self, family: &str, more: &[&str]) -> Output {
        let path = self.0.to_str().unwrap();
        let fixed = ["fit", "--family", family, "--data", path, "--target", "y", "--device", "cpu", "--json"];
        cotangent(&[&fixed, more].concat())
    }
    pub fn failure(&self, family: &str, more: &[&str]) -> String {
        let output = self.fit(family, more);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Csv {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
