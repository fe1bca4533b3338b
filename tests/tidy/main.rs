//! Laws of the repository that the compiler cannot state.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Each module imports only from modules to its left.
const ORDER: &[&str] = &[
    "words",
    "time",
    "clock",
    "supervisor",
    "unix",
    "secret",
    "network",
    "address",
    "diagnostic",
    "document",
    "mail",
    "authenticity",
    "event",
    "incident",
    "smtp",
    "rules",
    "spool",
    "delivery",
    "standin",
    "config",
    "context",
    "watch",
    "intake",
    "operator",
    "gateway",
    "cli",
];

/// Stages know the nouns and not each other.
const APART: &[(&str, &[&str])] = &[
    ("smtp", &["rules", "spool", "delivery"]),
    ("rules", &["smtp", "spool", "delivery"]),
    ("spool", &["smtp", "rules"]),
    ("delivery", &["smtp", "rules"]),
    ("standin", &["smtp", "rules", "spool", "delivery"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends in `.extension`, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), extension, &mut found);
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn modules_import_only_leftwards() {
    let mut broken = Vec::new();
    let all = files("src", "rs");
    assert!(all.len() > 20, "the sources were not found");
    for path in all {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let module =
            relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let text = fs::read_to_string(&path).unwrap();
        let Some(rank) = ORDER.iter().position(|m| *m == module) else {
            assert!(matches!(module, "lib" | "main"), "{module} has no place in the order");
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let other: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let place = format!("{}:{}", shown(&path), number + 1);
                if rest.starts_with('{') {
                    broken.push(format!("{place}: one `use crate::…` for each module"));
                    continue;
                }
                let apart = APART.iter().any(|(m, no)| *m == module && no.contains(&other.as_str()));
                let left = ORDER.iter().position(|m| *m == other).is_some_and(|o| o < rank);
                if other != module && (apart || !left) {
                    broken.push(format!("{place}: `{module}` must not import `{other}`"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn no_room_has_a_circle() {
    let found = circles::circles(&root().join("src"), &files("src", "rs"));
    let broken: Vec<_> = found.iter().map(|circle| format!("{}:\n{}", circle.room, circle.imports)).collect();
    assert!(broken.is_empty(), "move what both need into a file of its own\n{}\n", broken.join("\n"));
}

#[test]
fn no_path_goes_up_two_modules() {
    let mut broken = Vec::new();
    for path in files("src", "rs") {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.contains("super::super") {
                broken.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "name the path from `crate` on: {broken:?}");
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<_> = files("src", "rs")
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//! "))
        .map(|path| shown(&path))
        .collect();
    assert!(silent.is_empty(), "no module doc: {silent:?}");
}

/// What stands between backticks in `page`.
fn quoted(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn what_the_maps_name_is_there() {
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let tops = ["src/", "tests/", "rules/", "systemd/"];
        // A word in capitals stands for a name that the reader chooses.
        let is_path = |name: &String| tops.iter().any(|top| name.starts_with(top)) && !name.contains("NAME");
        let named: Vec<String> = quoted(page).into_iter().filter(is_path).collect();
        assert!(named.len() > 5, "{page} names nothing");
        for path in named {
            assert!(root().join(&path).exists(), "{page} names {path}, which is not there");
        }
    }
}

#[test]
fn every_test_has_its_line_in_the_index() {
    let named = quoted("tests/README.md");
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let entry = entry.unwrap();
        let mut name = entry.file_name().to_str().unwrap().to_owned();
        if entry.path().is_dir() {
            name.push('/');
        }
        // `rules_*.rs` stands for all of them, and `smtp/*.txt` for its folder.
        let fits = |pattern: &String| match pattern.split_once('*') {
            Some((start, end)) => name.starts_with(start) && name.ends_with(end) || name == start,
            None => *pattern == name,
        };
        assert!(name == "README.md" || named.iter().any(fits), "tests/README.md does not name {name}");
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let all = ["src", "tests", "benches"].into_iter().flat_map(|folder| files(folder, "rs"));
    let long: Vec<_> = all.filter(|path| lines(path) > 500).map(|path| shown(&path)).collect();
    assert!(long.is_empty(), "split by subject: {long:?}");
}

#[test]
fn an_ignored_test_says_what_it_needs() {
    let mut broken = Vec::new();
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let line = line.trim();
            if line.starts_with("#[ignore") && !line.starts_with("#[ignore = \"needs ") {
                broken.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "ignored without `needs ...`: {broken:?}");
}

#[test]
fn every_dependency_has_its_sentence() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut last = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") {
            assert!(last.starts_with("# "), "no sentence above `{line}`");
        }
        last = line;
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let head = changelog.lines().find(|line| line.starts_with("## [")).expect("no version in CHANGELOG.md");
    let version = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(head.starts_with(&version) || head.starts_with("## [Unreleased]"), "{head}");
}

#[test]
fn the_shipped_config_loads_and_shows_the_defaults() {
    use smtp2signl4::config::parse;
    use smtp2signl4::diagnostic::Source;

    let path = root().join("systemd/smtp2signl4.toml");
    let text = fs::read_to_string(&path).unwrap();
    let load = |text: &str| {
        let source = Source::new("systemd/smtp2signl4.toml", text);
        parse(None, &source).unwrap_or_else(|problems| {
            let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", told.join("\n"))
        })
    };
    load(&text);
    // Every line that is commented out is a setting, and what it shows is the default or an example that loads.
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(text, uncommented, "no setting is shown");
    let all = load(&uncommented);
    let defaults = load("");
    assert_eq!(format!("{:?}", all.smtp), format!("{:?}", defaults.smtp));
    assert_eq!(format!("{:?}", all.spool), format!("{:?}", defaults.spool));
    assert_eq!(format!("{:?}", all.delivery), format!("{:?}", defaults.delivery));
}
