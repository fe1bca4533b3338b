//! `rules test`: every example of the rule files, judged as the service would, and a field by field account
//! of what comes out otherwise.
//!
//! Shipped examples are about the shipped rules alone, so that a site's colours, tables and overrides do
//! not fail them; their mails are in the source tree, and elsewhere they are skipped. The site's examples
//! are about all rules together.

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::gateway::load_unproven;
use crate::rules::{self, Deviation, Example, RuleSet};

use super::case::{Case, Verdict};
use super::junit;
use crate::cli::progress::Progress;
use crate::cli::site::{Exit, Site, tell_all};
use crate::cli::terminal::print;

/// What `rules test` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 rules test                          shipped rules, and those of [rules] paths
  smtp2signl4 rules test new-rules/               these in place of the site's
  smtp2signl4 rules test --junit report.xml       for a CI that reads JUnit

Exit codes: 0 all passed, 65 an example failed, 78 the rules do not load")]
pub(super) struct Arguments {
    /// Rule files or folders in place of the site's
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write a report in JUnit's XML as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// List every example
    #[arg(long, short)]
    verbose: bool,
}

/// Runs every example.
pub(super) fn test(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let paths = (!arguments.paths.is_empty()).then_some(arguments.paths.as_slice());
    let loaded = load_unproven(&config, paths).and_then(|all| {
        let shipped = if config.rules.shipped { rules::shipped() } else { Vec::new() };
        Ok((all, RuleSet::load(&shipped, rules::Site::default())?))
    });
    let (all, shipped) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return tell_all(&problems),
    };
    let cases = run(&all, &shipped);
    if let Some(path) = &arguments.junit
        && let Err(error) = junit::report(&cases)
            .map_err(std::io::Error::other)
            .and_then(|report| std::fs::write(path, report))
    {
        eprintln!("smtp2signl4: {}: {error}", path.display());
        return Exit::Unavailable;
    }
    let page = Page { colored: std::io::stdout().is_terminal(), verbose: arguments.verbose };
    print(&page.of(&cases));
    if cases.iter().any(Case::failed) { Exit::Data } else { Exit::Done }
}

fn run(all: &RuleSet, shipped: &RuleSet) -> Vec<Case> {
    let own = all.examples().filter(|example| !example.is_shipped());
    let examples: Vec<(&RuleSet, &Example)> = shipped
        .examples()
        .map(|example| (shipped, example))
        .chain(own.map(|example| (all, example)))
        .collect();
    let mut progress = Progress::new("examples", examples.len() as u64);
    let mut cases = Vec::with_capacity(examples.len());
    for (rules, example) in examples {
        progress.show(cases.len() as u64);
        cases.push(Case::run(rules, example));
    }
    cases
}

struct Page {
    colored: bool,
    verbose: bool,
}

impl Page {
    fn of(&self, cases: &[Case]) -> String {
        let mut text = String::new();
        for case in cases {
            match &case.verdict {
                Verdict::Failed(found) => {
                    text.push_str(&format!("{} {}\n", self.style("FAILED ", "31"), case.label()));
                    found.iter().for_each(|deviation| text.push_str(&self.deviation(deviation)));
                    text.push('\n');
                }
                Verdict::Unreadable(why) => {
                    text.push_str(&format!("{} {}\n", self.style("FAILED ", "31"), case.label()));
                    text.push_str(&format!("  the mail cannot be read: {why}\n"));
                    text.push_str("  the path is taken from the folder of the rule file\n\n");
                }
                Verdict::Passed if self.verbose => {
                    text.push_str(&format!("{} {}\n", self.style("passed ", "32"), case.label()));
                }
                Verdict::Skipped if self.verbose => {
                    text.push_str(&format!("{} {}\n", self.style("skipped", "33"), case.label()));
                }
                Verdict::Passed | Verdict::Skipped => {}
            }
        }
        let count = |holds: fn(&Case) -> bool| cases.iter().filter(|case| holds(case)).count();
        let passed = count(|case| matches!(case.verdict, Verdict::Passed));
        let skipped = count(|case| matches!(case.verdict, Verdict::Skipped));
        let own = count(|case| case.own);
        let own_passed = count(|case| case.own && matches!(case.verdict, Verdict::Passed));
        text.push_str(&match own {
            0 => "none is the site's: [rules] paths or the command line name its files\n".to_owned(),
            _ => format!("the site's: {own_passed} of {own} passed\n"),
        });
        text.push_str(&format!("{passed} passed, {} failed", count(Case::failed)));
        if skipped > 0 {
            text.push_str(&format!(", {skipped} skipped (shipped; their mails are in the source tree)"));
        }
        text.push('\n');
        text
    }

    /// The field, its place, and the two values one above the other.
    fn deviation(&self, deviation: &Deviation) -> String {
        let place = &deviation.diagnostic;
        let mut text = format!("  {}, line {}, column {}\n", deviation.field, place.line, place.column);
        text.push_str(&format!("    expected  {}\n", self.style(&shown(&deviation.expected), "32")));
        let found = deviation.found.as_deref().map_or_else(|| "not set".to_owned(), shown);
        text.push_str(&format!("    came out  {}\n", self.style(&found, "31")));
        if let Some(by) = &deviation.by {
            text.push_str(&format!("    set by    {}\n", shown(by)));
        }
        text
    }

    fn style(&self, text: &str, code: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Longest value shown, in characters.
const EXCERPT: usize = 1_000;

/// `text` with nothing in it that could steer a terminal; its lines stand below one another.
fn shown(text: &str) -> String {
    let lines: Vec<String> = crate::event::bounded(text, EXCERPT)
        .lines()
        .map(|line| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
        .collect();
    lines.join("\n              ")
}
