//! The shipped packs: each loads, and each of its examples comes out as it says.

use std::fs;
use std::path::Path;

use smtp2signl4::rules::{ExampleMail, RuleSet, Site, shipped};

fn rules() -> RuleSet {
    RuleSet::load(&shipped(), Site::default()).unwrap_or_else(|found| {
        panic!("{}", found.iter().map(|d| format!("{d}\n")).collect::<String>());
    })
}

#[test]
fn every_file_in_rules_is_shipped_in_lexical_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut files: Vec<String> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| format!("rules/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|path| path.ends_with(".toml"))
        .collect();
    files.sort();
    let shipped: Vec<String> = shipped().iter().map(|source| source.path.to_string()).collect();
    assert_eq!(shipped, files);
}

#[test]
fn every_shipped_example_comes_out_as_it_says() {
    let rules = rules();
    let mut failed = String::new();
    let mut seen = std::collections::HashSet::new();
    for example in rules.examples() {
        seen.insert(example.source().path.clone());
        let content = match example.mail() {
            ExampleMail::Inline(text) => text.clone().into_bytes(),
            ExampleMail::File(path) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules").join(path);
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            }
        };
        for wrong in rules.check_example(example, &content) {
            failed.push_str(&format!("{}\n{wrong}\n", example.name()));
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert_eq!(seen.len(), shipped().len(), "every pack has examples");
}
