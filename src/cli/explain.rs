//! `explain`: what would become of a mail, and why, without sending anything. The same parser and the same
//! rules as the service, with the whole trace.

mod json;
mod known;

use std::io::{IsTerminal, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::authenticity::{Checker, Resolver, told};
use crate::clock::{Clock, System};
use crate::config::{Config, Routes};
use crate::event::shown_size;
use crate::gateway::load_unproven;
use crate::intake::for_each_team;
use crate::mail::{self, Address, Authenticity, Client, Message, Origin};
use crate::rules::{Judgement, Outcome, Piece, RuleSet, RuleTrace, Subject, Tested};
use crate::spool::{self, KnownIncident, Reader};
use crate::time::{duration_text, local};
use crate::watch::mute::Mutes;

use super::difference::Difference;
use super::site::{Exit, Site, runtime, tell_all};
use super::terminal::{excerpt, print};

/// What `explain` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 explain alert.eml
  smtp2signl4 explain --to soc@example.org --client 192.0.2.7 alert.eml
  smtp2signl4 explain --client 192.0.2.7 --authenticated resolved.eml
  smtp2signl4 queue show 01JD3X9K7M2Q --content | smtp2signl4 explain -
  smtp2signl4 explain --json *.eml | jq '.events[].payload'
  smtp2signl4 explain --diff new-rules/ alert.eml     what these would change, in the place of the site's")]
pub(super) struct Arguments {
    /// Mails; - is standard input
    #[arg(required = true, value_name = "MAIL")]
    mails: Vec<PathBuf>,
    #[command(flatten)]
    envelope: Envelope,
    /// One JSON object a mail: message, trace and events
    #[arg(long)]
    json: bool,
    /// Show rules that did not hold as well
    #[arg(long, short)]
    verbose: bool,
    /// Show what other rules would change: a file or folder in the place of the site's rules
    #[arg(long, value_name = "RULES")]
    diff: Option<PathBuf>,
}

/// The envelope that the mail comes in.
#[derive(clap::Args, Default)]
pub(super) struct Envelope {
    /// The envelope sender [default: the address in From]
    #[arg(short = 'f', long, value_name = "ADDRESS")]
    from: Option<String>,
    /// An envelope recipient, as often as needed [default: the addresses in To]
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// The client's address [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The name in the client's EHLO
    #[arg(long, default_value = "", hide_default_value = true)]
    helo: String,
    /// The user that the client has authenticated itself as
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// As if DMARC had passed for the domain in From, and `closing-domains` named it. Nothing is looked up in the DNS
    #[arg(long)]
    authenticated: bool,
    /// When it came, such as 2026-11-20T18:04:05+01:00 [default: now]
    #[arg(long, value_name = "TIME")]
    received: Option<Timestamp>,
}

impl Envelope {
    /// The envelope for `message`.
    pub(super) fn of(&self, message: &Message, clock: impl Clock) -> mail::Envelope {
        let first = |mailboxes: &[Address]| mailboxes.first().map(|mailbox| mailbox.address.clone());
        let all = |mailboxes: &[Address]| mailboxes.iter().map(|mailbox| mailbox.address.clone()).collect();
        let local = IpAddr::from([127, 0, 0, 1]);
        mail::Envelope {
            received_at: self.received.unwrap_or_else(|| clock.now()),
            origin: Origin::Smtp,
            client: Client {
                address: Some(self.client.unwrap_or(local)),
                helo: self.helo.clone(),
                user: self.user.clone(),
                ..Client::default()
            },
            reverse_path: self.from.clone().or_else(|| first(&message.from)).unwrap_or_default(),
            recipients: if self.to.is_empty() { all(&message.to) } else { self.to.clone() },
            authenticity: self.authenticated.then(|| Authenticity::assumed(message.sent_by()).into()),
            ..mail::Envelope::default()
        }
    }
}

/// Explains every mail.
pub(super) fn explain(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let load = |path: Option<&PathBuf>| load_unproven(&config, path.map(std::slice::from_ref));
    let rules = load(None).and_then(|rules| {
        let others = arguments.diff.as_ref().map(|path| load(Some(path))).transpose()?;
        let (mutes, open) = remembered(&config);
        Ok(Rules { rules, others, mutes, open })
    });
    let rules = match rules {
        Ok(rules) => rules,
        Err(problems) => return tell_all(&problems),
    };
    let mut exit = Exit::Done;
    for path in &arguments.mails {
        match read(path) {
            Ok(content) => print(&one(&config, &rules, arguments, path, &content)),
            Err(error) => {
                eprintln!("smtp2signl4: {}: {error}", path.display());
                exit = Exit::Data;
            }
        }
    }
    exit
}

/// The rules in force, those to compare them with, and what is muted.
struct Rules {
    rules: RuleSet,
    others: Option<RuleSet>,
    mutes: Mutes,
    /// The incidents that are open; none where no spool can be read.
    open: Option<Vec<KnownIncident>>,
}

/// What is muted and which incidents are open, as the spool remembers it. Without a spool only the config's windows mute.
fn remembered(config: &Config) -> (Mutes, Option<Vec<KnownIncident>>) {
    let read = async |spool: Reader| -> Result<_, spool::Error> {
        Ok((Mutes::load(config, &spool).await?, Some(known::open(&spool).await?)))
    };
    let known = Reader::open(&config.spool.path)
        .map_err(|error| error.to_string())
        .and_then(|spool| runtime().block_on(read(spool)).map_err(|error| error.to_string()));
    known.unwrap_or_else(|problem| {
        if config.spool.path.exists() {
            eprintln!("smtp2signl4: mutes and open incidents are not looked at: {problem}");
        }
        (Mutes::of_config(config), None)
    })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut content = Vec::new();
        std::io::stdin().lock().read_to_end(&mut content)?;
        return Ok(content);
    }
    std::fs::read(path)
}

fn one(config: &Config, rules: &Rules, arguments: &Arguments, path: &Path, content: &[u8]) -> String {
    let message = rules.rules.read(content);
    let mut envelope = arguments.envelope.of(&message, System);
    if envelope.authenticity.is_none() {
        // What a relay found stands in the mail; what we would find cannot be known from a file.
        let site =
            Checker::new(config.authenticity.clone(), config.rules.trusted.clone(), Resolver::system());
        envelope.authenticity = site.told(&envelope, content).map(Box::new);
    }
    let teams = Routes::new(&config.teams).reached(&envelope.recipients);
    let judge = |rules: &RuleSet| {
        for_each_team(&teams, |team| {
            let subject = Subject { message: &message, envelope: &envelope, team };
            let mut judgement = rules.judge_traced(&subject);
            rules.clean_files(&mut judgement.events, content);
            judgement
        })
    };
    let mut judgements = judge(&rules.rules);
    // Before it is looked at what is muted now, which is no matter of the rules.
    let differences: Vec<Difference> = rules.others.as_ref().map_or_else(Vec::new, |others| {
        let pairs = judgements.iter().zip(judge(others));
        teams.iter().zip(pairs).map(|(team, (before, after))| Difference::of(team, before, &after)).collect()
    });
    for event in judgements.iter_mut().flat_map(|judgement| &mut judgement.events) {
        let subject = Subject { message: &message, envelope: &envelope, team: &event.team };
        event.muted = rules.mutes.muting(&subject, event).map(|muting| match muting.until {
            Some(until) => format!("{}, until {}", muting.reason, local(until)),
            None => muting.reason,
        });
    }
    let judgements: Vec<(String, Judgement)> = teams.into_iter().zip(judgements).collect();
    let trust = told::of(&rules.rules.standing(&message, &envelope), &message, &envelope);
    if arguments.json {
        let mut json = json::of(path, &message, &envelope, &judgements, rules.open.as_deref());
        json["trust"] = json!(trust);
        if rules.others.is_some() {
            json["diff"] = json!(differences);
        }
        return format!("{json}\n");
    }
    let page = Page {
        colored: std::io::stdout().is_terminal(),
        verbose: arguments.verbose,
        trust: trust.words(),
        open: rules.open.as_deref(),
        text: String::new(),
    };
    match rules.others {
        None => page.of(path, &message, &envelope, &judgements),
        Some(_) => page.of_differences(path, &message, &envelope, &differences),
    }
}

/// Lines of the text that are shown.
const LINES: usize = 12;

/// An explanation for people.
struct Page<'a> {
    colored: bool,
    verbose: bool,
    /// Who vouches for the mail, and why.
    trust: String,
    /// The incidents that are open, where that is known.
    open: Option<&'a [KnownIncident]>,
    text: String,
}

impl Page<'_> {
    fn of(
        mut self,
        path: &Path,
        message: &Message,
        envelope: &mail::Envelope,
        judgements: &[(String, Judgement)],
    ) -> String {
        self.line(0, &self.bold(&path.display().to_string()));
        self.message(message, envelope);
        for (team, judgement) in judgements {
            self.line(0, "");
            self.line(0, &self.bold(&format!("Rules, for team {team}")));
            for piece in &judgement.trace.pieces {
                self.piece(piece);
            }
            if let Some(dropped) = &judgement.dropped {
                self.line(1, &format!("dropped by {}: {}", dropped.rule, dropped.reason));
            }
            for event in &judgement.events {
                let payload: Value = serde_json::from_str(&event.payload()).expect("a payload is JSON");
                let payload = serde_json::to_string_pretty(&payload).expect("JSON can be written");
                self.line(0, "");
                self.line(0, &self.bold(&format!("Event for team {}", event.team)));
                payload.lines().for_each(|line| self.line(1, line));
                self.line(1, &excerpt(&event.identity.words()));
                if let Some(open) = self.open {
                    self.line(1, &known::line(event, open));
                }
                for file in &event.attachments {
                    let redacted: usize = file.redactions.iter().flatten().map(Vec::len).sum();
                    let redacted = match redacted {
                        0 => String::new(),
                        1 => ", 1 place redacted".to_owned(),
                        _ => format!(", {redacted} places redacted"),
                    };
                    let (name, size) = (excerpt(&file.name), shown_size(file.size));
                    self.line(1, &format!("with the file {name} ({}, {size}{redacted})", file.media_type));
                }
                if let Some(repeat) = event.repeat {
                    self.line(1, &format!("repeat = \"{repeat}\""));
                }
                if let Some(quiet) = event.quiet {
                    self.line(1, &format!("quiet = \"{}\"", duration_text(quiet)));
                }
                if let Some(muted) = &event.muted {
                    self.line(
                        1,
                        &self.yellow(&format!("! muted now, kept and not sent: {}", excerpt(muted))),
                    );
                }
            }
        }
        self.line(0, "");
        self.text
    }

    /// What other rules would change: `-` is what is in force, `+` what would be.
    fn of_differences(
        mut self,
        path: &Path,
        message: &Message,
        envelope: &mail::Envelope,
        differences: &[Difference],
    ) -> String {
        self.line(0, &self.bold(&path.display().to_string()));
        self.message(message, envelope);
        for difference in differences {
            self.line(0, "");
            self.line(0, &self.bold(&format!("Difference, for team {}", difference.team)));
            for rule in &difference.rules_before {
                self.line(1, &self.style(&format!("- held: {}", excerpt(rule)), "31"));
            }
            for rule in &difference.rules_after {
                self.line(1, &self.style(&format!("+ held: {}", excerpt(rule)), "32"));
            }
            if difference.dropped_before != difference.dropped_after {
                for (mark, dropped, code) in
                    [("-", &difference.dropped_before, "31"), ("+", &difference.dropped_after, "32")]
                {
                    if let Some(dropped) = dropped {
                        self.line(1, &self.style(&format!("{mark} dropped by {}", excerpt(dropped)), code));
                    }
                }
            }
            for event in &difference.events {
                let title = excerpt(&event.title);
                self.line(1, &self.bold(&format!("event {title:?}: {}", event.kind.words())));
                for change in &event.fields {
                    self.line(2, &change.line());
                    let by = |by: &Option<String>| by.clone().unwrap_or_else(|| "no rule".to_owned());
                    if change.before_by.is_some() || change.after_by.is_some() {
                        self.line(
                            3,
                            &format!(
                                "set by {} → {}",
                                excerpt(&by(&change.before_by)),
                                excerpt(&by(&change.after_by))
                            ),
                        );
                    }
                }
            }
            if difference.is_empty() {
                self.line(1, "none");
            }
        }
        self.line(0, "");
        self.text
    }

    fn message(&mut self, message: &Message, envelope: &mail::Envelope) {
        let addresses = |mailboxes: &[Address]| {
            mailboxes.iter().map(|mailbox| mailbox.address.as_str()).collect::<Vec<_>>().join(", ")
        };
        for (name, value) in [
            ("subject", message.subject.clone()),
            ("from", addresses(&message.from)),
            ("to", addresses(&message.to)),
            ("envelope", format!("<{}> to <{}>", envelope.reverse_path, envelope.recipients.join(">, <"))),
        ] {
            self.line(1, &format!("{name:<9}{}", excerpt(&value)));
        }
        if let Some(found) = &envelope.authenticity {
            self.line(1, &format!("proof    {}", excerpt(&found.to_string())));
        }
        self.line(1, &format!("trust    {}", excerpt(&self.trust)));
        for undone in &message.undone {
            self.line(1, &format!("undone   {}", excerpt(undone)));
        }
        if let Some(wrapper) = &message.wrapper {
            let from = addresses(&wrapper.from);
            let closes = if wrapper.named { "named as a forwarder" } else { "closes nothing" };
            self.line(
                1,
                &format!("passed on by {} ({closes}): {}", excerpt(&from), excerpt(&wrapper.subject)),
            );
        }
        for attachment in &message.attachments {
            let mail::Attachment { name, content_type, size, .. } = attachment;
            self.line(1, &format!("attached {} {content_type}, {size} bytes", excerpt(name)));
        }
        for defect in &message.defects {
            self.line(1, &self.yellow(&format!("defect   {}", excerpt(defect))));
        }
        let lines: Vec<&str> = message.text.lines().collect();
        for (at, line) in lines.iter().take(LINES).enumerate() {
            self.line(1, &format!("{:<9}{}", if at == 0 { "text" } else { "" }, excerpt(line)));
        }
        if lines.len() > LINES {
            self.line(1, &format!("         … and {} lines more", lines.len() - LINES));
        }
    }

    fn piece(&mut self, piece: &Piece) {
        for source in &piece.sources {
            if !source.held && !self.verbose {
                continue;
            }
            let mark = self.mark(source.held);
            self.line(1, &format!("{mark} {} ({})", source.source, source.file));
            self.tests(2, &source.conditions);
            for rule in &source.rules {
                self.rule(rule);
            }
        }
        for note in &piece.notes {
            self.line(1, &self.yellow(&format!("! {note}")));
        }
        for origin in &piece.origins {
            self.line(1, &format!("{:<12} set by {}", origin.field, origin.by));
        }
    }

    fn rule(&mut self, rule: &RuleTrace) {
        let held = rule.outcome == Outcome::Held;
        if !held && !self.verbose {
            return;
        }
        let mark = self.mark(held);
        let after = match rule.outcome {
            Outcome::NotReached => " (a rule above stopped)",
            _ if rule.stopped => " (stops)",
            _ => "",
        };
        self.line(2, &format!("{mark} {}{after}", rule.rule));
        self.tests(3, &rule.conditions);
        for change in &rule.changes {
            let from = change
                .from
                .as_deref()
                .map_or_else(|| "nothing".to_owned(), |from| format!("{:?}", excerpt(from)));
            self.line(3, &format!("{}: {from} → {:?}", change.field, excerpt(&change.to)));
        }
        for note in &rule.notes {
            self.line(3, &self.yellow(&format!("! {note}")));
        }
    }

    fn tests(&mut self, depth: usize, tests: &[Tested]) {
        for test in tests {
            let mark = self.mark(test.held);
            let within: String = test.within.iter().map(|word| format!("{word} › ")).collect();
            let matched = test.matched.as_ref().map_or_else(String::new, |matched| {
                format!("  {:?} at {}..{}", excerpt(&matched.text), matched.start, matched.end)
            });
            self.line(depth, &format!("{mark} {within}{}{matched}", excerpt(&test.test)));
            for (name, value) in &test.captures {
                self.line(depth + 1, &format!("{name} = {:?}", excerpt(value)));
            }
        }
    }

    fn line(&mut self, depth: usize, text: &str) {
        let line = format!("{}{text}", "  ".repeat(depth));
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn mark(&self, held: bool) -> String {
        if held { self.style("✓", "32") } else { self.style("✗", "31") }
    }

    fn bold(&self, text: &str) -> String {
        self.style(text, "1")
    }

    fn yellow(&self, text: &str) -> String {
        self.style(text, "33")
    }

    fn style(&self, text: &str, code: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
