//! `rules`: what those who write rules need: their tests, and a first file for a mail.

mod case;
mod draft;
mod junit;
mod new;
mod pair;
mod patterns;
mod test;

use crate::cli::site::{Exit, Site};

/// What `rules` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 rules test                                 all examples, shipped and the site's
  smtp2signl4 rules new --from alert.eml -o ours.toml    a first rule file for a mail
  smtp2signl4 rules new --from problem.eml --closed-by recovery.eml -o ours.toml
  smtp2signl4 rules test ours.toml                       and its test")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Run the examples of the rules, and show what comes out otherwise
    Test(test::Arguments),
    /// Write a first rule file, with an example, for a mail
    New(new::Arguments),
}

/// Does what the arguments say.
pub(super) fn rules(site: &Site, arguments: &Arguments) -> Exit {
    match &arguments.action {
        Action::Test(arguments) => test::test(site, arguments),
        Action::New(arguments) => new::new(site, arguments),
    }
}
