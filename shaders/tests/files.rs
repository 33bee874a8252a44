//! Every `.wgsl` file is valid as it stands.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[test]
fn every_wgsl_file_is_valid_as_it_stands() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{}: {}", path.display(), e.emit_to_string(&text)));
        let capabilities = naga::valid::Capabilities::default();
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}: {}", path.display(), e.emit_to_string(&text)));
        checked += 1;
    }
    assert!(checked >= 4, "{checked} files checked");
}
