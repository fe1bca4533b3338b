//! Each `tests/rules/*.toml` is refused, with exactly the errors beside it.
//! `BLESS=1 cargo test --test rules_refused` writes the errors anew; read them before they are kept.

use std::fs;
use std::path::Path;

use smtp2signl4::diagnostic::{Diagnostic, Source};
use smtp2signl4::rules::{Config, ExampleMail, RuleSet};

/// What is wrong with the rule file: as it loads, or else with its examples.
fn errors(source: Source) -> Vec<Diagnostic> {
    let site =
        Config::default().site(vec![("red".into(), "Critical".into())], vec!["soc".into(), "net".into()]);
    let rules = match RuleSet::load(&[source], site) {
        Err(found) => return found,
        Ok(rules) => rules,
    };
    let check = |example| match rules.check_example(example, content(example.mail())) {
        found if found.is_empty() => Vec::new(),
        found => found,
    };
    rules.examples().flat_map(check).collect()
}

fn content(mail: &ExampleMail) -> &[u8] {
    match mail {
        ExampleMail::Inline(text) => text.as_bytes(),
        ExampleMail::File(path) => panic!("{path} is not read here"),
    }
}

#[test]
fn every_refused_file_says_what_is_wrong_and_where() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no rule files in {}", folder.display());
    let bless = std::env::var_os("BLESS").is_some();
    let mut failed = Vec::new();
    for path in paths {
        let name = path.file_name().expect("it was listed").to_str().unwrap().to_owned();
        let found = errors(Source::new(name.as_str(), fs::read_to_string(&path).unwrap()));
        assert!(!found.is_empty(), "{name} is taken");
        let text: String = found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
        let golden = path.with_extension("stderr");
        if bless {
            fs::write(&golden, &text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            failed.push(format!("{name}:\n{text}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
