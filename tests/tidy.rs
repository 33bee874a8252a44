//! Facts about the source tree that no compiler checks: which crate may know which, how long a file may be, which
//! WGSL files are shipped, where `unsafe` stands, and whether the commands of the README name things that exist.
//!
//! Every check is a function from data to a list of violations, so that each one has a second test, which plants a
//! fault and expects to see it named. Every test of the real tree asserts how many things it has looked at.

use cotangent::Code;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which packages of the workspace each package may depend on. Development dependencies are exempt.
const DIRECTION: [(&str, &[&str]); 7] = [
    ("cotangent-tensor", &[]),
    ("cotangent-autograd", &["cotangent-tensor"]),
    ("cotangent-wgsl", &["cotangent-tensor", "cotangent-autograd"]),
    ("cotangent-shaders", &["cotangent-tensor"]),
    ("cotangent-device", &["cotangent-tensor", "cotangent-shaders"]),
    (
        "cotangent",
        &[
            "cotangent-tensor",
            "cotangent-autograd",
            "cotangent-wgsl",
            "cotangent-shaders",
            "cotangent-device",
        ],
    ),
    ("cotangent-cli", &["cotangent"]),
];

/// Outside crates that only one package may depend on; a name stands for its whole family (`wgpu`, `wgpu-types`).
const CONFINED: [(&str, &str); 4] = [
    ("wgpu", "cotangent-device"),
    ("gemm", "cotangent-device"),
    ("rayon", "cotangent-device"),
    ("naga", "cotangent-wgsl"),
];

/// The one file that may contain `unsafe`: the checked wrapper of `gemm`.
const UNSAFE_FILE: &str = "crates/device/src/raw.rs";

/// Lines; a file that reaches it usually holds two ideas. Aim at 600.
const MAX_LINES: usize = 700;

const CATALOGUE: &str = "shaders/src/catalogue.rs";
const WGSL_FOLDER: &str = "shaders/wgsl";

// --- Packages ---------------------------------------------------------------------------------------------------

#[test]
fn dependencies_point_one_way() {
    let packages = packages(&metadata());
    let (checked, violations) = check_packages(&packages);
    assert!(checked >= DIRECTION.len(), "only {checked} dependencies checked");
    assert_none(&violations);
}

#[test]
fn every_package_is_a_default_member() {
    let metadata = metadata();
    let ids = |key: &str| -> BTreeSet<String> {
        list(&metadata[key]).iter().map(|id| text(id).to_owned()).collect()
    };
    assert_eq!(ids("workspace_members").len(), DIRECTION.len(), "packages in the workspace");
    assert_eq!(
        ids("workspace_members"),
        ids("workspace_default_members"),
        "`cargo test` must test every package"
    );
}

#[test]
fn a_dependency_against_the_direction_is_named() {
    let dependency = |name: &str, development| Dependency { name: name.to_owned(), development };
    let mut packages = packages(&metadata());
    let tensor = packages.get_mut("cotangent-tensor").expect("a package of this name is in the workspace");
    tensor.dependencies.push(dependency("cotangent-autograd", false));
    tensor.dependencies.push(dependency("wgpu-types", false));
    tensor.dependencies.push(dependency("wgpu", true));
    tensor.build_script = true;
    let stranger = Package { dependencies: vec![], build_script: false };
    packages.insert("cotangent-stranger".to_owned(), stranger);
    let (_, violations) = check_packages(&packages);
    let expected = [
        "cotangent-stranger is not in the table of packages",
        "cotangent-tensor has a build script",
        "cotangent-tensor must not depend on cotangent-autograd",
        "cotangent-tensor must not depend on wgpu-types: only cotangent-device may",
    ];
    assert_eq!(violations, expected);
}

struct Package {
    dependencies: Vec<Dependency>,
    build_script: bool,
}

struct Dependency {
    name: String,
    development: bool,
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn packages(metadata: &Value) -> BTreeMap<String, Package> {
    let package = |value: &Value| {
        let dependency = |value: &Value| Dependency {
            name: text(&value["name"]).to_owned(),
            development: value["kind"].as_str() == Some("dev"),
        };
        let is_script =
            |target: &Value| list(&target["kind"]).iter().any(|kind| text(kind) == "custom-build");
        let package = Package {
            dependencies: list(&value["dependencies"]).iter().map(dependency).collect(),
            build_script: list(&value["targets"]).iter().any(is_script),
        };
        (text(&value["name"]).to_owned(), package)
    };
    list(&metadata["packages"]).iter().map(package).collect()
}

/// The number of dependencies looked at, and the violations.
fn check_packages(packages: &BTreeMap<String, Package>) -> (usize, Vec<String>) {
    let direction = BTreeMap::from(DIRECTION);
    let mut checked = 0;
    let mut violations = Vec::new();
    for name in direction.keys().filter(|name| !packages.contains_key(**name)) {
        violations.push(format!("{name} is in the table of packages but not in the workspace"));
    }
    for (name, package) in packages {
        let Some(allowed) = direction.get(name.as_str()) else {
            violations.push(format!("{name} is not in the table of packages"));
            continue;
        };
        if package.build_script {
            violations.push(format!("{name} has a build script"));
        }
        for Dependency { name: other, development } in &package.dependencies {
            checked += 1;
            if *development {
                continue;
            }
            if packages.contains_key(other) && !allowed.contains(&other.as_str()) {
                violations.push(format!("{name} must not depend on {other}"));
            }
            let family = |family: &str| other == family || other.starts_with(&format!("{family}-"));
            for (_, owner) in CONFINED.iter().filter(|(member, owner)| family(member) && owner != name) {
                violations.push(format!("{name} must not depend on {other}: only {owner} may"));
            }
        }
    }
    (checked, violations)
}

// --- Files ------------------------------------------------------------------------------------------------------

#[test]
fn no_file_is_too_long() {
    let files = sources(&["rs", "wgsl"]);
    assert!(files.len() >= DIRECTION.len(), "only {} files checked", files.len());
    assert_none(&check_lengths(&files));
}

#[test]
fn a_file_that_is_too_long_is_named() {
    let files =
        [("a.rs".to_owned(), "\n".repeat(MAX_LINES)), ("b.wgsl".to_owned(), "\n".repeat(MAX_LINES + 1))];
    assert_eq!(check_lengths(&files), ["b.wgsl has 701 lines, at most 700 are allowed"]);
}

fn check_lengths(files: &[(String, String)]) -> Vec<String> {
    let lengths = files.iter().map(|(path, text)| (path, text.lines().count()));
    lengths
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path} has {lines} lines, at most {MAX_LINES} are allowed"))
        .collect()
}

#[test]
fn every_wgsl_file_is_in_the_catalogue_once() {
    let prefix = format!("{WGSL_FOLDER}/");
    let files: Vec<String> = sources(&["wgsl"])
        .into_iter()
        .filter_map(|(path, _)| path.strip_prefix(&prefix).map(str::to_owned))
        .collect();
    let catalogue = fs::read_to_string(root().join(CATALOGUE))
        .unwrap_or_else(|error| panic!("{CATALOGUE}: {error}, but {prefix} holds {}", files.join(", ")));
    assert!(!files.is_empty(), "{CATALOGUE} exists, but {prefix} holds no WGSL file");
    assert_none(&check_catalogue(&catalogue, &files));
}

#[test]
fn a_wgsl_file_missing_from_the_catalogue_is_named() {
    let catalogue = r#"
        // include_str!("../wgsl/commented.wgsl")
        const A: &str = include_str!("../wgsl/a.wgsl");
        const B: [&str; 2] = [include_str!("../wgsl/b.wgsl"), include_str!( "../wgsl/b.wgsl" )];
        const C: &str = include_str!("../wgsl/c.wgsl");
    "#;
    let files = ["a.wgsl", "b.wgsl", "commented.wgsl"].map(str::to_owned);
    let expected = [
        "shaders/wgsl/b.wgsl stands 2 times in shaders/src/catalogue.rs, not once",
        "shaders/wgsl/commented.wgsl stands 0 times in shaders/src/catalogue.rs, not once",
        "shaders/src/catalogue.rs includes ../wgsl/c.wgsl, which does not exist",
    ];
    assert_eq!(check_catalogue(catalogue, &files), expected);
}

fn check_catalogue(catalogue: &str, files: &[String]) -> Vec<String> {
    let without_comments: String =
        lex(catalogue).into_iter().filter(|(part, _)| *part != Part::Comment).map(|(_, text)| text).collect();
    let included: Vec<&str> = without_comments
        .split("include_str!(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    let mut violations = Vec::new();
    for file in files {
        let count = included.iter().filter(|path| **path == format!("../wgsl/{file}")).count();
        if count != 1 {
            violations.push(format!("{WGSL_FOLDER}/{file} stands {count} times in {CATALOGUE}, not once"));
        }
    }
    for path in included {
        if !files.iter().any(|file| path == format!("../wgsl/{file}")) {
            violations.push(format!("{CATALOGUE} includes {path}, which does not exist"));
        }
    }
    violations
}

// --- Words ------------------------------------------------------------------------------------------------------

#[test]
fn no_unsafe_and_nothing_unfinished() {
    let files = sources(&["rs"]);
    assert!(files.len() >= DIRECTION.len(), "only {} files checked", files.len());
    assert_none(&check_words(&files));
}

#[test]
fn unsafe_and_unfinished_code_are_named() {
    let faulty = r##"
        // unsafe todo!() in a comment, /* as */ here
        /* and /* unsafe */ todo!() */
        const TEXT: &str = "unsafe \" todo!()";
        const RAW: &str = r#"unsafe " todo!()"#;
        const BYTES: &[u8] = br"unsafe todo!()\";
        fn quote<'a>(c: &'a char) -> bool { *c == '"' || *c == '\'' }
        #![forbid(unsafe_code)]
        fn f() { unsafe { g() } }
        fn g() { todo!("later") }
        fn h() { unimplemented! () }
        #[ignore = "slow"]
    "##;
    let files = [("a.rs".to_owned(), faulty.to_owned()), (UNSAFE_FILE.to_owned(), "unsafe {}".to_owned())];
    let expected = [
        "a.rs:9: unsafe is allowed only in crates/device/src/raw.rs",
        "a.rs:10: todo!( is unfinished",
        "a.rs:11: unimplemented!( is unfinished",
        "a.rs:12: #[ignore hides a test",
    ];
    assert_eq!(check_words(&files), expected);
}

fn check_words(files: &[(String, String)]) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in files {
        for (index, line) in code_only(text).lines().enumerate() {
            let number = index + 1;
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| word == "unsafe") && path != UNSAFE_FILE {
                violations.push(format!("{path}:{number}: unsafe is allowed only in {UNSAFE_FILE}"));
            }
            let dense: String = line.split_whitespace().collect();
            for call in ["todo!(", "unimplemented!("] {
                if dense.contains(call) {
                    violations.push(format!("{path}:{number}: {call} is unfinished"));
                }
            }
            if dense.contains("#[ignore") {
                violations.push(format!("{path}:{number}: #[ignore hides a test"));
            }
        }
    }
    violations
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// Rust source cut into code, comments, and string or character literals; the pieces joined give the source.
fn lex(source: &str) -> Vec<(Part, &str)> {
    let mut pieces = Vec::new();
    let mut code_start = 0;
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        // `r` or `b` at the end of a name does not start a literal.
        let in_word = source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let found = comment_length(rest)
            .map(|length| (Part::Comment, length))
            .or_else(|| literal_length(rest, in_word).map(|length| (Part::Literal, length)));
        if let Some((part, length)) = found {
            pieces.push((Part::Code, &source[code_start..at]));
            pieces.push((part, &rest[..length]));
            at += length;
            code_start = at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    pieces.push((Part::Code, &source[code_start..]));
    pieces
}

fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    rest.strip_prefix("/*")?;
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let step = if rest[at..].starts_with("/*") {
            depth += 1;
            2
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

fn literal_length(rest: &str, in_word: bool) -> Option<usize> {
    let unprefixed = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    if let Some(raw) = unprefixed.strip_prefix('r').filter(|_| !in_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - raw.len() + hashes + 1;
            return Some(rest[start..].find(&end).map_or(rest.len(), |found| start + found + end.len()));
        }
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut characters = rest.char_indices().skip(1);
    if quote == '\'' {
        // A character literal closes after one character or an escape; anything else is a lifetime.
        let (_, first) = characters.next()?;
        if first != '\\' {
            return characters.next().filter(|(_, c)| *c == '\'').map(|(index, _)| index + 1);
        }
        characters.next();
    }
    while let Some((index, c)) = characters.next() {
        if c == quote {
            return Some(index + 1);
        }
        if c == '\\' {
            characters.next();
        }
    }
    Some(rest.len())
}

/// The source without comments and literals, on the same lines.
fn code_only(source: &str) -> String {
    let keep = |(part, text): (Part, &str)| match part {
        Part::Code => text.to_owned(),
        Part::Comment | Part::Literal => format!(" {}", text.matches('\n').collect::<String>()),
    };
    lex(source).into_iter().map(keep).collect()
}

// --- Error codes ------------------------------------------------------------------------------------------------

#[test]
fn every_error_code_has_one_section_in_the_documentation() {
    let page = fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md is readable");
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert!(codes.len() > 40, "only {} codes", codes.len());
    assert_none(&check_codes(&page, &codes));
}

#[test]
fn a_code_without_a_section_and_a_section_without_a_code_are_named() {
    let page =
        "# Error codes\n## E_A\nWhat.\n**What to do:** this\n## E_B\nWhat.\n## E_D\n**What to do:** x\n";
    let expected = [
        "docs/errors.md: 0 sections for E_C",
        "docs/errors.md: E_B does not say what to do",
        "docs/errors.md: E_D is no code",
    ];
    assert_eq!(check_codes(page, &["E_A", "E_B", "E_C"]), expected);
}

fn check_codes(page: &str, codes: &[&str]) -> Vec<String> {
    let sections: Vec<(&str, &str)> = page
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .collect();
    let mut violations = Vec::new();
    for code in codes {
        let count = sections.iter().filter(|(name, _)| name.trim() == *code).count();
        if count != 1 {
            violations.push(format!("docs/errors.md: {count} sections for {code}"));
        }
    }
    for (name, text) in sections {
        if !codes.contains(&name.trim()) {
            violations.push(format!("docs/errors.md: {name} is no code"));
        } else if !text.contains("**What to do:**") {
            violations.push(format!("docs/errors.md: {name} does not say what to do"));
        }
    }
    violations
}

// --- README -----------------------------------------------------------------------------------------------------

#[test]
fn commands_of_the_readme_name_things_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md is readable");
    let packages = packages(&metadata());
    let (checked, violations) = check_readme(&readme, &|name| exists(&packages, name));
    assert!(checked > 0, "README.md names no file, package or example in a shell command");
    assert_none(&violations);
}

#[test]
fn a_readme_command_that_names_nothing_is_named() {
    let readme = "\
Text with `cargo run -p absent`.
```rust
let not_a_command = \"absent.csv\";
```
```sh
$ cargo run -p cotangent-cli -- fit --data examples/data/longley.csv \\
    --target TOTEMP --plot out/fit.svg   # absent.csv
cargo run -p absent-package --example absent_example
./tools/absent && cat examples/data/absent.csv > out/copy.csv
git clone https://github.com/cotangent-rs/cotangent.git
```
";
    let packages = packages(&metadata());
    let (checked, violations) = check_readme(readme, &|name| exists(&packages, name));
    let expected = [
        "README.md: package `absent-package` does not exist",
        "README.md: example `absent_example` does not exist",
        "README.md: file `./tools/absent` does not exist",
        "README.md: file `examples/data/absent.csv` does not exist",
    ];
    assert_eq!(violations, expected);
    assert_eq!(checked, 6, "packages, examples and files looked at");
}

enum Named<'a> {
    Package(&'a str),
    Example(&'a str),
    File(&'a str),
}

fn exists(packages: &BTreeMap<String, Package>, name: &Named<'_>) -> bool {
    match name {
        Named::Package(name) => packages.contains_key(*name),
        Named::Example(name) => {
            let examples = root().join("examples");
            examples.join(format!("{name}.rs")).exists() || examples.join(name).join("main.rs").exists()
        }
        Named::File(path) => root().join(path).exists(),
    }
}

/// The number of packages, examples and files that shell commands name, and the violations.
fn check_readme(readme: &str, exists: &dyn Fn(&Named<'_>) -> bool) -> (usize, Vec<String>) {
    let mut checked = 0;
    let mut violations = Vec::new();
    for command in shell_commands(readme) {
        let mut previous = "";
        for word in command.split_whitespace().take_while(|word| !word.starts_with('#')) {
            let looks_like_a_path =
                word.contains('/') || [".csv", ".wgsl", ".rs"].iter().any(|end| word.ends_with(end));
            let is_output =
                matches!(previous, "--plot" | "--save" | "-o" | ">" | ">>") || word.starts_with("target/");
            let named = match previous {
                "-p" | "--package" => Some((Named::Package(word), "package")),
                "--example" => Some((Named::Example(word), "example")),
                _ if is_output || !looks_like_a_path || word.contains("://") => None,
                _ => Some((Named::File(word), "file")),
            };
            if let Some((named, kind)) = named {
                checked += 1;
                if !exists(&named) {
                    violations.push(format!("README.md: {kind} `{word}` does not exist"));
                }
            }
            previous = word;
        }
    }
    (checked, violations)
}

/// The lines of fenced blocks marked as shell, continued lines joined, prompts removed.
fn shell_commands(markdown: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut block: Option<&str> = None;
    let mut command = String::new();
    for line in markdown.lines() {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language) };
            continue;
        }
        if !matches!(block, Some("sh" | "bash" | "shell" | "console")) {
            continue;
        }
        // In a console block only lines with a prompt are commands; the others show what is printed.
        if block == Some("console") && command.is_empty() && !line.starts_with("$ ") {
            continue;
        }
        let line = line.trim_start_matches("$ ");
        let continued = line.strip_suffix('\\');
        command.push_str(continued.unwrap_or(line));
        command.push(' ');
        if continued.is_none() {
            commands.push(std::mem::take(&mut command));
        }
    }
    commands
}

// --- Help -------------------------------------------------------------------------------------------------------

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Path (from the root, with `/`) and text of every file with one of these extensions, sorted by path. Build
/// directories and hidden folders stay out.
fn sources(extensions: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source tree is readable") {
            let path = entry.expect("an entry of the source tree is readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
            if path.is_dir() {
                if !name.starts_with('.') && !is_build_directory(&path) {
                    folders.push(path);
                }
            } else if extensions.contains(&path.extension().and_then(|end| end.to_str()).unwrap_or("")) {
                let text = fs::read_to_string(&path).expect("a source file is readable UTF-8");
                let relative = path.strip_prefix(root()).expect("the walk starts at the root");
                files.push((relative.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    files.sort();
    files
}

/// Cargo marks its build directories.
fn is_build_directory(path: &Path) -> bool {
    path.join("CACHEDIR.TAG").exists() || path.ends_with("target")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo metadata documents a list here")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata documents a string here")
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
