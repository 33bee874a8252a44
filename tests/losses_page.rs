//! The page of losses is what the example `losses_page` writes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../examples/losses_page.rs"]
#[allow(dead_code, reason = "only the program writes files")]
mod losses_page;

use std::collections::BTreeSet;
use std::path::Path;

use cotangent::losses::ALL;

#[test]
fn the_page_and_its_pictures_are_up_to_date() {
    let files = losses_page::files().unwrap();
    for (path, expected) in &files {
        let found =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
        assert!(found == *expected, "{path} differs: run `cargo run --example losses_page`");
    }
    assert!(files.len() > 5);
}

#[test]
fn every_loss_has_a_section_with_its_derivative_and_a_picture() {
    let files = losses_page::files().unwrap();
    let (page, pictures): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| path.ends_with(".md"));
    let page = &page[0].1;
    for loss in ALL {
        let section =
            page.split("\n### ").find_map(|section| section.strip_prefix(&format!("{}\n", loss.name)));
        let section = section.unwrap_or_else(|| panic!("no section for {}", loss.name));
        let items: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        assert!(items.iter().any(|item| item.starts_with("Derivative")), "{}: {section}", loss.name);
        assert!(items.iter().any(|item| item.starts_with("Error:")), "{}: {section}", loss.name);
        let panel = format!("class=\"name\">{}</text>", loss.name);
        assert_eq!(pictures.iter().filter(|(_, svg)| svg.contains(&panel)).count(), 1, "{}", loss.name);
    }
    // Curves are drawn: two in each panel, of many points.
    let curves: usize = pictures
        .iter()
        .map(|(_, svg)| svg.lines().filter(|line| line.matches('L').count() > 50).count())
        .sum();
    assert_eq!(curves, 2 * ALL.len());
    // What looks like a link is one.
    for link in page.split("[`").skip(1) {
        assert!(link.split_once("`]").is_some_and(|(_, rest)| rest.starts_with("(#")), "{link}");
    }
}

#[test]
fn every_public_loss_is_in_the_table_and_on_the_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/losses");
    let names: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| !["mod", "table", "tests", "masks"].contains(&name.as_str()))
        .collect();
    assert_eq!(names, losses_page::SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect());
    let public = losses_page::SOURCES
        .iter()
        .flat_map(|(_, source)| source.lines())
        .filter_map(|line| line.strip_prefix("pub fn ").and_then(|rest| rest.split('(').next()));
    let public: BTreeSet<&str> = public.collect();
    let table: BTreeSet<&str> =
        ALL.iter().map(|loss| loss.name).filter(|name| *name != "CrossEntropy").collect();
    assert_eq!(public, table);
}
