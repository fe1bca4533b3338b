//! What the gateway of a history is told: its config, its rules, and the mails in their words.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::history::{Account, Site};
use super::time::VirtualClock;
use crate::letter::{self, Letter, TEAMS};
use crate::record::Millis;
use smtp2signl4::clock::Clock;
use smtp2signl4::config::Config;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::mail::{Client, Envelope, Mail};
use smtp2signl4::rules::RuleSet;

/// The account of each team's secrets.
pub(super) const ACCOUNTS: [[usize; 2]; 3] = [[0, 0], [0, 1], [1, 0]];

/// The config of `site`, whose accounts are so.
pub(super) fn config(site: &Site, account: Account) -> String {
    let plan = match account {
        Account { told: false, .. } => "auto",
        Account { commercial: false, .. } => "free",
        Account { commercial: true, .. } => "commercial",
    };
    let storm = site.storm.map_or("false".to_owned(), |(interval, calm)| {
        format!("{{ interval = '{}s', calm = '{}s' }}", interval / 1_000, calm / 1_000)
    });
    let mut text = format!(
        "[signl4]\nurl = 'http://signl4.example/webhook/'\nplan = '{plan}'\nprobe = {}\n\
         [spool]\npath = 'spool'\nsync = 'off'\nmin-free = 0\n\
         [incidents]\nquiet = '{}s'\nacknowledged-quiet = '{}s'\nhold = '{}s'\nstorm = {storm}\n\
         [delivery]\nconcurrency = {}\ntimeout = '{}s'\nfallback-after = '{}s'\n[rules]\nshipped = false\n",
        site.probe,
        site.quiet / 1_000,
        site.acknowledged_quiet / 1_000,
        site.hold / 1_000,
        site.concurrency,
        site.timeout / 1_000,
        site.fallback_after / 1_000,
    );
    for (team, name) in TEAMS.iter().enumerate() {
        let account = ACCOUNTS[team][site.aims.0[team].unwrap_or(0)];
        let fallback = if team > 0 { format!("fallback = '{}'\n", TEAMS[team - 1]) } else { String::new() };
        write!(
            text,
            "[[team]]\nname = '{name}'\nrecipients = ['{name}@*']\naccount = 'a{account}'\n{fallback}"
        )
        .expect("a string takes all that is written");
    }
    text
}

/// What each account lets go.
pub(super) fn windows(account: Account) -> Vec<(usize, Millis)> {
    let limits = if account.commercial { [150, 600, 36_000, 864_000] } else { [10, 240, 1_200, 4_800] };
    limits.into_iter().zip([15_000, 60_000, 3_600_000, 86_400_000]).collect()
}

/// A team's first secret, or its second.
pub(super) fn secret_of(team: usize, which: usize) -> String {
    format!("{}-{which}", TEAMS[team])
}

/// The rules of the model, with such a quiet time.
pub(super) fn rules(config: &Config, generation: u32, quiet: Millis) -> Arc<RuleSet> {
    let source = Source::new("rules.toml", letter::rules(generation, quiet));
    let rules = RuleSet::load(&[source], config.site());
    Arc::new(rules.unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }))
}

/// The mail of `letter` as the listener would hand it over.
pub(super) fn mail(letter: &Letter, serial: u32, clock: &VirtualClock) -> Mail {
    let client = Client { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Client::default() };
    let reverse_path = "tool@site.example".to_owned();
    let (received_at, recipients) = (clock.now(), letter.recipients());
    let envelope = Envelope { received_at, client, reverse_path, recipients, ..Envelope::default() };
    Mail { envelope, content: letter.content(serial).into() }
}
