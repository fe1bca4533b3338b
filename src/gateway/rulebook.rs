//! The rulebook of a site: its rule files and the shipped ones, read, loaded and held to their examples.
//! Left out: what a rule file means, which is the rules' own.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::config::Config;
use crate::diagnostic::{Diagnostic, Source};
use crate::rules::{self, Example, ExampleMail, RuleSet};

/// How long a starting service goes through examples. Thousands take a second; a service must start all
/// the same when a disk is slow, and `check` has no such bound.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest mail of an example in bytes: what the listener takes at most by default, and more.
const EXAMPLE_LIMIT: u64 = 64 << 20;

/// Loads the shipped rules and the site's own, and runs the examples of the site's, for a bounded time.
///
/// # Errors
/// Everything that is wrong with them, each with its place; examples that fail if nothing else is wrong.
pub fn load_rules(config: &Config) -> Result<RuleSet, Vec<Diagnostic>> {
    load_within(config, PATIENCE).map(|(rules, _)| rules)
}

/// The same with the site's own rule files.
pub(super) fn load_rules_and_sources(config: &Config) -> Result<(RuleSet, Vec<Source>), Vec<Diagnostic>> {
    load_within(config, PATIENCE)
}

/// The same for somebody who can wait until all examples were run.
///
/// # Errors
/// As those of [`load_rules`].
pub fn check_rules(config: &Config) -> Result<RuleSet, Vec<Diagnostic>> {
    load_within(config, Duration::MAX).map(|(rules, _)| rules)
}

fn load_within(config: &Config, patience: Duration) -> Result<(RuleSet, Vec<Source>), Vec<Diagnostic>> {
    let (rules, own) = load_paths(config, &config.rules.paths, false)?;
    let start = Instant::now();
    let mut problems = Vec::new();
    for example in rules.examples().filter(|example| !example.is_shipped()) {
        if start.elapsed() > patience {
            warn!("the examples of the rules take long; those that are left were not run");
            break;
        }
        match example_mail(example) {
            Ok(mail) => problems.extend(rules.check_example(example, &mail)),
            // The service may not see what an operator sees, and must page all the same.
            Err(error) if patience < Duration::MAX => {
                warn!(%error, source = example.source().path.as_ref(), "the mail of an example cannot be read; it was not run");
            }
            Err(error) => problems.push(example.unreadable(&error.to_string())),
        }
    }
    if problems.is_empty() { Ok((rules, own)) } else { Err(problems) }
}

/// Loads the shipped rules and these of the site, without running any example. Those that `may_replace` stand in the place
/// of the shipped ones with their paths.
///
/// # Errors
/// Everything that is wrong with them, each with its place.
pub(super) fn load_sources(
    config: &Config,
    own: &[Source],
    may_replace: bool,
) -> Result<RuleSet, Vec<Diagnostic>> {
    let mut sources = if config.rules.shipped { rules::shipped() } else { Vec::new() };
    for source in own {
        match sources.iter_mut().find(|other| may_replace && other.path == source.path) {
            Some(other) => *other = source.clone(),
            None => sources.push(source.clone()),
        }
    }
    RuleSet::load(&sources, config.site())
}

/// The same of the rule files at `paths`, with what stands in them.
fn load_paths(
    config: &Config,
    paths: &[PathBuf],
    may_replace: bool,
) -> Result<(RuleSet, Vec<Source>), Vec<Diagnostic>> {
    let (mut own, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match read_sources(path) {
            Ok(found) => own.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    match load_sources(config, &own, may_replace) {
        Ok(rules) if problems.is_empty() => return Ok((rules, own)),
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    Err(problems)
}

/// Loads the rules without running their examples: the shipped ones, and those at `paths` or, where none
/// are given, the site's own. It is for those who want to see what rules do, right or wrong.
///
/// In the source tree, a file of `rules/` among `paths` stands in the place of the one that is compiled in.
///
/// # Errors
/// Everything that is wrong with them, each with its place.
pub fn load_unproven(config: &Config, paths: Option<&[PathBuf]>) -> Result<RuleSet, Vec<Diagnostic>> {
    let loaded = load_paths(config, paths.unwrap_or(&config.rules.paths), paths.is_some());
    loaded.map(|(rules, _)| rules)
}

/// The rule file at `path`, or all `*.toml` in it in lexical order if it is a folder.
///
/// # Errors
/// It cannot be read.
pub fn read_sources(path: &Path) -> Result<Vec<Source>, Diagnostic> {
    let unreadable = |path: &Path, error: io::Error| {
        Diagnostic::about_file(path.display().to_string(), format!("cannot be read: {error}"))
            .help("name a rule file or a folder of them in [rules] paths")
    };
    let mut files: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, error))?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .collect()
    } else {
        vec![path.to_path_buf()]
    };
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
            Ok(Source::new(file.display().to_string(), text))
        })
        .collect()
}

/// The mail of `example`. A path is taken from the folder of the rule file; that of a shipped one is
/// there in the source tree only.
///
/// # Errors
/// It cannot be read, is no file, as a pipe that would never end, or is larger than any mail.
pub fn example_mail(example: &Example) -> io::Result<Cow<'_, [u8]>> {
    let path = match example.mail() {
        ExampleMail::Inline(text) => return Ok(Cow::Borrowed(text.as_bytes())),
        ExampleMail::File(path) => {
            Path::new(&*example.source().path).parent().unwrap_or(Path::new("")).join(path)
        }
    };
    let of = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let about = std::fs::metadata(&path).map_err(of)?;
    if !about.is_file() {
        return Err(of(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    if about.len() > EXAMPLE_LIMIT {
        return Err(of(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any mail")));
    }
    std::fs::read(&path).map(Cow::Owned).map_err(of)
}
