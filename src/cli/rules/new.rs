//! `rules new`: a first rule file for a mail, with the mail as its example. What is written passes
//! `rules test` as it is.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::diagnostic::{Diagnostic, Source};
use crate::event::Status;
use crate::mail::Message;
use crate::rules::{self, Judgement, Outcome, RuleSet, SourceTrace, Subject};

use super::draft::{Draft, block, quoted};
use crate::cli::site::{Exit, Site, tell_all};
use crate::cli::terminal::print;

/// What `rules new` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 rules new --from alert.eml -o /etc/smtp2signl4/rules/ours.toml
  smtp2signl4 rules new --from alert.eml --name Backup > ours.toml
  smtp2signl4 rules new --from problem.eml --closed-by recovery.eml -o ours.toml
  smtp2signl4 queue show 01JD3X9K7M2Q --content | smtp2signl4 rules new --from - > ours.toml

Go over what it writes: make general what changes from mail to mail, then run `rules test` on it.")]
pub(super) struct Arguments {
    /// The mail; - is standard input, and the mail is then written into the file
    #[arg(long, value_name = "MAIL")]
    from: PathBuf,
    /// The mail that says that it is over: without one nothing is drafted that closes
    #[arg(long, value_name = "MAIL")]
    closed_by: Option<PathBuf>,
    /// The name of the source [default: the sender]
    #[arg(long)]
    name: Option<String>,
    /// The file to write, which must not be there yet [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the file.
pub(super) fn new(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let told = |path: &Path, problem: &dyn std::fmt::Display| {
        eprintln!("smtp2signl4: {}: {problem}", path.display());
        Exit::Data
    };
    let mut mails = Vec::new();
    let mail = config.site().mail;
    for path in std::iter::once(&arguments.from).chain(&arguments.closed_by) {
        match read(path, arguments.output.as_deref()) {
            Ok((content, shown)) => mails.push((Message::parse_for(&content, &mail), shown)),
            Err(problem) => return told(path, &problem),
        }
    }
    let draft = match mails.as_slice() {
        [(problem, _), (recovery, _)] => Draft::of_pair(problem, recovery, arguments.name.as_deref()),
        [(message, _), ..] => Draft::of(message, arguments.name.as_deref()).ok_or(
            "the mail has no sender, no subject and no text: there is nothing to tell it by".to_owned(),
        ),
        [] => unreachable!("the first was just read"),
    };
    let draft = match draft {
        Ok(draft) => draft,
        Err(problem) => return told(&arguments.from, &problem),
    };
    let name = arguments.output.as_deref().unwrap_or(Path::new("(the new file)")).display().to_string();
    let (text, known) = match whole(&config, draft, &mails, &name) {
        Ok(whole) => whole,
        Err(Fault::Rules(problems)) => return tell_all(&problems),
        Err(Fault::Pair(problem)) => return told(&arguments.from, &problem),
    };
    if let Some(known) = known {
        eprintln!("smtp2signl4: {known}");
    }
    let Some(path) = &arguments.output else {
        print(&text);
        return Exit::Done;
    };
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            print(&format!("{0}: go over it, then run `smtp2signl4 rules test {0}`\n", path.display()));
            Exit::Done
        }
        Err(problem) if problem.kind() == std::io::ErrorKind::AlreadyExists => {
            eprintln!("smtp2signl4: {} is there already: name another file, or move it away", path.display());
            Exit::Data
        }
        Err(problem) => told(path, &problem),
    }
}

/// The content of the mail, and what stands for it in the file.
fn read(mail: &Path, output: Option<&Path>) -> Result<(Vec<u8>, String), String> {
    if mail == Path::new("-") {
        let mut content = Vec::new();
        std::io::stdin().lock().read_to_end(&mut content).map_err(|error| error.to_string())?;
        let text = String::from_utf8(content)
            .map_err(|_| "the mail is not in UTF-8: keep it in a file of its own and name that")?;
        let block = block(&text);
        return Ok((text.into_bytes(), block));
    }
    let content = std::fs::read(mail).map_err(|error| error.to_string())?;
    let mail = std::fs::canonicalize(mail).map_err(|error| error.to_string())?;
    let shown = match output {
        None => mail,
        Some(output) => {
            let folder = output.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            let folder = std::fs::canonicalize(folder)
                .map_err(|error| format!("the folder {} of the new file: {error}", folder.display()))?;
            relative(&mail, &folder)
        }
    };
    match shown.to_str() {
        Some(path) if !path.contains('\n') => Ok((content, quoted(path))),
        _ => Err("a rule file cannot name this path: rename the mail".to_owned()),
    }
}

/// The way from `folder` to `path`, both whole. A way through the root is written whole.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let common = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    if common <= 1 {
        return path.to_owned();
    }
    let up = folder.components().skip(common).map(|_| "..");
    up.map(Into::into)
        .chain(path.components().skip(common).map(|part| PathBuf::from(part.as_os_str())))
        .collect()
}

/// Why no file can be written.
enum Fault {
    /// The draft does not load.
    Rules(Vec<Diagnostic>),
    /// It does not do with the pair what it must.
    Pair(String),
}

impl From<Vec<Diagnostic>> for Fault {
    fn from(problems: Vec<Diagnostic>) -> Self {
        Self::Rules(problems)
    }
}

/// The file with examples that expect what comes out, and what to say if other rules know the mail.
fn whole(
    config: &Config,
    mut draft: Draft,
    mails: &[(Message, String)],
    name: &str,
) -> Result<(String, Option<String>), Fault> {
    let load = |text: &str| {
        let mut sources = if config.rules.shipped { rules::shipped() } else { Vec::new() };
        sources.push(Source::new(name, text));
        RuleSet::load(&sources, config.site())
    };
    let blank: Vec<_> = mails.iter().map(|(_, mail)| (mail.clone(), "{}".to_owned())).collect();
    let judge = |draft: &Draft| -> Result<Vec<Judgement>, Vec<Diagnostic>> {
        let rules = load(&draft.text(&[], &blank))?;
        let example =
            rules.examples().find(|example| !example.is_shipped()).expect("it was written just now");
        let team = &config.teams[0].name;
        let judged = mails.iter().map(|(message, _)| {
            let envelope = example.envelope(message);
            rules.judge_traced(&Subject { message, envelope: &envelope, team })
        });
        Ok(judged.collect())
    };
    let mut judged = judge(&draft)?;
    let known = known(&judged[0], name);
    draft.known = known.is_some();
    if draft.known {
        judged = judge(&draft)?;
    }
    if let [problem, recovery] = judged.as_slice()
        && !closes(problem, recovery)
    {
        let why = match &known {
            Some(known) => format!("{known} It does not make a pair of these two mails: a file that closes must be written by hand"),
            None => "a file drafted from these two mails would not close what it opens: write it by hand, as the recipe in rules/README.md does".to_owned(),
        };
        return Err(Fault::Pair(why));
    }
    let examples: Vec<_> =
        mails.iter().zip(&judged).map(|((_, mail), judged)| (mail.clone(), expected(judged))).collect();
    let mut notes: Vec<String> = known.iter().cloned().collect();
    notes.extend(dropped(&judged[0]));
    let text = draft.text(&notes, &examples);
    load(&text)?;
    Ok((text, known))
}

/// Whether the second closes what the first opens.
fn closes(problem: &Judgement, recovery: &Judgement) -> bool {
    match (problem.events.as_slice(), recovery.events.as_slice()) {
        ([open], [close]) => {
            open.status == Status::New
                && close.status == Status::Resolved
                && open.external_id.is_some()
                && open.external_id == close.external_id
        }
        _ => false,
    }
}

/// What to say if other rules know the mail. Rules that read a mark, such as `RESOLVED:`, do not know it: they read the
/// mark of any mail that has no key, and say nothing beside a key.
fn known(judgement: &Judgement, own: &str) -> Option<String> {
    let sources = judgement.trace.pieces.iter().flat_map(|piece| &piece.sources);
    let speaks = |source: &SourceTrace| source.rules.iter().any(|rule| rule.outcome == Outcome::Held);
    let reads_mark = |source: &SourceTrace| {
        source.rules.iter().flat_map(|rule| &rule.changes).any(|change| change.field == "mark")
    };
    let mut others: Vec<&str> = sources
        .filter(|source| speaks(source) && &*source.file != own && !reads_mark(source))
        .map(|source| &*source.source)
        .collect();
    others.dedup();
    (!others.is_empty()).then(|| {
        format!(
            "The shipped rules know this mail: {}. Key, severity and status are theirs.",
            others.join(", ")
        )
    })
}

/// What to say if a rule drops the mail.
fn dropped(judgement: &Judgement) -> Option<String> {
    let dropped = judgement.dropped.as_ref()?;
    Some(format!("It is dropped by \"{}\": to have it page, say `keep = true` below.", dropped.rule))
}

/// The `expect` that the judgement fulfils.
fn expected(judgement: &Judgement) -> String {
    if judgement.events.is_empty() {
        return "{ drop = true }".to_owned();
    }
    let events: Vec<String> = judgement
        .events
        .iter()
        .map(|event| {
            let severity = event.severity.map(|severity| severity.to_string());
            let fields = [
                ("title", Some(event.title.as_str())),
                ("status", Some(&*event.status.to_string())),
                ("external-id", event.external_id.as_deref()),
                ("severity", severity.as_deref()),
            ]
            .into_iter()
            .filter_map(|(field, value)| Some(format!("{field} = {}", quoted(value?))))
            .collect::<Vec<_>>();
            format!("{{ {} }}", fields.join(", "))
        })
        .collect();
    match events.as_slice() {
        [one] => one.clone(),
        several => format!("[\n  {},\n]", several.join(",\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_mail_starts_in_the_folder_of_the_rule_file() {
        let way = |path: &str, folder: &str| relative(Path::new(path), Path::new(folder));
        assert_eq!(way("/etc/s4/mail/a.eml", "/etc/s4/rules"), Path::new("../mail/a.eml"));
        assert_eq!(way("/etc/s4/rules/a.eml", "/etc/s4/rules"), Path::new("a.eml"));
        assert_eq!(way("/home/x/a.eml", "/etc/s4/rules"), Path::new("/home/x/a.eml"));
    }
}
