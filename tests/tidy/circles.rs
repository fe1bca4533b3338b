//! Circles between the files of a room: files that import from each other, directly or by way of others.
//!
//! A path counts for the file that defines what it names: a re-export leads on to there, and is no import of its own.
//! Tests are left out. A method that is called is no path, so a type may have its methods in several files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// A module path below the crate; that of `src/a/mod.rs` and of `src/a.rs` is `a`.
type Module = Vec<String>;

/// A file, without comments, literals and tests.
struct File {
    /// Every path that it names, but for those that it re-exports.
    paths: Vec<Vec<String>>,
    /// What stands for a path in it.
    imports: BTreeMap<String, Vec<String>>,
}

/// Files of a room that all import each other.
pub struct Circle {
    pub room: String,
    /// Which imports which, in lines.
    pub imports: String,
}

/// The circles among `files` below `src`, by rooms.
pub fn circles(src: &Path, files: &[PathBuf]) -> Vec<Circle> {
    let files: BTreeMap<Module, File> = files
        .iter()
        .filter_map(|path| {
            let module = module_of(path.strip_prefix(src).unwrap());
            let text = fs::read_to_string(path).unwrap();
            (!module.is_empty() && !module.iter().any(|name| name == "tests")).then(|| (module, read(&text)))
        })
        .collect();
    let mut edges: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (module, file) in &files {
        let named =
            file.paths.iter().filter_map(|path| defined_in(&files, &absolute(&files, module, path)?, 0));
        edges.insert(module, named.filter(|other| *other != module && other[0] == module[0]).collect());
    }
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|module| (*module, reach(&edges, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached_here) in &reached {
        let circle: BTreeSet<&Module> =
            reached_here.iter().copied().filter(|other| reached[other].contains(module)).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    let told = |circle: BTreeSet<&Module>| {
        let imports = circle.iter().map(|module| {
            let into: Vec<String> =
                edges[module].intersection(&circle).map(|other| other.join("::")).collect();
            format!("    {} imports {}", module.join("::"), into.join(", "))
        });
        let imports = imports.collect::<Vec<_>>().join("\n");
        Circle { room: circle.first().expect("a circle has files")[0].clone(), imports }
    };
    circles.into_iter().map(told).collect()
}

fn module_of(path: &Path) -> Module {
    let mut module: Module = path
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_str().unwrap().to_owned())
        .collect();
    module.pop_if(|name| matches!(name.as_str(), "mod" | "lib" | "main"));
    module
}

fn reach<'f>(edges: &BTreeMap<&'f Module, BTreeSet<&'f Module>>, from: &Module) -> BTreeSet<&'f Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = edges[&from].iter().copied().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&edges[&module]);
        }
    }
    reached
}

/// `path` from the crate on; none if it does not lead to a module of the crate.
fn absolute(files: &BTreeMap<Module, File>, module: &Module, path: &[String]) -> Option<Vec<String>> {
    let mut base = module.clone();
    let child = || [module.as_slice(), &path[..1]].concat();
    let rest = match path[0].as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" => &path[1..],
        "super" => {
            let up = path.iter().take_while(|name| *name == "super").count();
            base.truncate(base.len().checked_sub(up)?);
            &path[up..]
        }
        _ if files.contains_key(&child()) => path,
        _ => return None,
    };
    base.extend_from_slice(rest);
    Some(base)
}

/// The module that defines what `path` names.
fn defined_in<'f>(files: &'f BTreeMap<Module, File>, path: &[String], depth: usize) -> Option<&'f Module> {
    let (module, file) = (1..=path.len()).rev().find_map(|end| files.get_key_value(&path[..end]))?;
    let item = path.get(module.len());
    let Some(through) = item.and_then(|item| file.imports.get(item)).filter(|_| depth < 8) else {
        return Some(module);
    };
    match absolute(files, module, through) {
        Some(mut through) => {
            through.extend_from_slice(&path[module.len() + 1..]);
            defined_in(files, &through, depth + 1)
        }
        None => Some(module),
    }
}

fn read(text: &str) -> File {
    static LITERALS: LazyLock<Regex> = LazyLock::new(|| {
        let strings = r##"\br#+"(?s:.*?)"#+|\br"[^"]*"|"(?s:\\.|[^"\\])*"|'(?:\\.[^']*|[^'\\])'"##;
        Regex::new(&format!(r"{strings}|//[^\n]*|(?s:/\*.*?\*/)|\(in [^)]*\)")).unwrap()
    });
    static USE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?<pub>pub(?:\(\w+\))?\s+)?\buse\s+(?<tree>[^;]+);").unwrap());
    static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:\w+::)+\w+").unwrap());
    let text = without_tests(&LITERALS.replace_all(text, " "));
    let mut file = File { paths: Vec::new(), imports: BTreeMap::new() };
    for found in USE.captures_iter(&text) {
        for (name, path) in leaves(&found["tree"], &[]) {
            if found.name("pub").is_none() {
                file.paths.push(path.clone());
            }
            file.imports.insert(name, path);
        }
    }
    let body = USE.replace_all(&text, " ");
    file.paths.extend(PATH.find_iter(&body).map(|path| parts(path.as_str())));
    file
}

/// `text` without the items that are only for tests.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, item)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let mut depth = 0;
        let end = item.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && matches!(c, '}' | ';')
        });
        rest = &item[end.map_or(item.len(), |end| end + 1)..];
    }
    kept + rest
}

fn parts(path: &str) -> Vec<String> {
    path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// What a `use` brings in: its name here, and its path.
fn leaves(tree: &str, before: &[String]) -> Vec<(String, Vec<String>)> {
    if let Some((prefix, inner)) = tree.trim().split_once('{') {
        let before = [before, &parts(prefix)].concat();
        let mut depth = 0;
        let inner = inner.strip_suffix('}').expect("braces end a use");
        let branches = inner.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && c == ','
        });
        return branches
            .filter(|branch| !branch.trim().is_empty())
            .flat_map(|b| leaves(b, &before))
            .collect();
    }
    let (path, name) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name.trim())));
    let mut path = [before, &parts(path)].concat();
    path.pop_if(|last| last == "self");
    let name = name.map_or_else(|| path.last().cloned().unwrap_or_default(), str::to_owned);
    vec![(name, path)]
}

#[test]
fn a_circle_is_found_by_what_files_name_and_not_by_what_they_hand_on() {
    let file = |name: &str, text: &str| (module_of(Path::new(name)), read(text));
    let files = BTreeMap::from([
        file("a/mod.rs", "mod b;\nmod c;\npub use b::{B, c::{self as d, D}};\n"),
        file(
            "a/b.rs",
            "use super::c;\nlet x = \"super::B\"; // super::B\n#[cfg(test)]\nmod t { use super::B; }",
        ),
        file("a/c.rs", "fn f() { super::B::new() }"),
    ]);
    let to = |from: &str, at: usize| {
        let from = parts(from);
        let path = absolute(&files, &from, &files[&from].paths[at])?;
        defined_in(&files, &path, 0).map(|module| module.join("::"))
    };
    assert!(files[&parts("a")].paths.is_empty(), "a re-export is no import");
    assert_eq!(files[&parts("a")].imports["d"], parts("b::c"));
    assert_eq!((to("a::b", 0).as_deref(), files[&parts("a::b")].paths.len()), (Some("a::c"), 1));
    assert_eq!(to("a::c", 0).as_deref(), Some("a::b"), "through the re-export");
}
