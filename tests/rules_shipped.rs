//! The shipped packs: each loads, and each of its examples comes out as it says.

use std::fs;
use std::path::Path;

use smtp2signl4::diagnostic::Source;
use smtp2signl4::rules::{ExampleMail, RuleSet, Site, senders, shipped};

fn load(sources: &[Source]) -> RuleSet {
    RuleSet::load(sources, Site::default()).unwrap_or_else(|found| {
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
    let rules = load(&shipped());
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

/// `rules/SENDERS.md` as it must be.
fn senders_page() -> String {
    let mut page = "# What the shipped rules know

Each row is what a rule file says of itself in `[about]`; `BLESS=1 cargo test --test rules_shipped` writes this page anew. An update is
about an incident that is open: it pages when it is worse than before, or some time after the last page, and is counted otherwise.

"
    .to_owned();
    page.push_str(&senders(&shipped()));
    page
}

#[test]
fn the_table_of_senders_is_made_of_what_the_files_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/SENDERS.md");
    let page = senders_page();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), page, "BLESS=1 writes rules/SENDERS.md anew");
}

#[test]
fn what_a_file_says_of_opening_and_closing_its_examples_show() {
    for source in shipped() {
        let table: toml::Table = source.text.parse().unwrap();
        let about = table.get("about").unwrap_or_else(|| panic!("{} has no [about]", source.path));
        let examples = table["example"].as_array().unwrap();
        let expected = |key: &str, word: &str| {
            let holds = |expect: &toml::Value| match expect {
                toml::Value::Array(several) => {
                    several.iter().any(|e| e.get(key).and_then(|v| v.as_str()) == Some(word))
                }
                one => one.get(key).and_then(|v| v.as_str()) == Some(word),
            };
            examples.iter().any(|example| holds(&example["expect"]))
        };
        let says = |key: &str| about.get(key).and_then(|v| v.as_str());
        assert_eq!(says("closes").is_some(), expected("status", "resolved"), "{}: closes", source.path);
        let acknowledges = says("updates").is_some_and(|text| text.contains("acknowledges"));
        assert!(!acknowledges || expected("status", "acknowledged"), "{}: acknowledges", source.path);
        let nothing = says("opens").is_some_and(|text| text.starts_with("nothing"));
        assert!(nothing || expected("status", "new"), "{}: opens", source.path);
    }
}

/// The blocks of code in `rules/README.md`.
fn readme_blocks() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/README.md");
    let text = fs::read_to_string(path).expect("the page is there");
    text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or("").to_owned()).collect()
}

#[test]
fn what_the_page_shows_loads_and_its_example_passes() {
    let blocks = readme_blocks();
    assert_eq!(blocks.len(), 4);
    let mut sources = shipped();
    sources.push(Source::new("backup.toml", blocks[0].clone()));
    let head = "version = 1\n[source]\nname = \"Ours\"\n";
    sources.push(Source::new("lines.toml", format!("version = 1\n{}", blocks[1])));
    sources.push(Source::new("doors.toml", blocks[2].clone()));
    sources.push(Source::new("ours.toml", format!("{head}{}", blocks[3])));
    let rules = load(&sources);
    let own: Vec<_> = rules.examples().filter(|example| !example.is_shipped()).collect();
    assert_eq!(own.len(), 3);
    for example in own {
        let ExampleMail::Inline(mail) = example.mail() else { panic!("its mail is in the page") };
        let found = rules.check_example(example, mail.as_bytes());
        assert!(found.is_empty(), "{}", found[0]);
    }
}
