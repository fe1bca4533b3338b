//! `rules new`: a first rule file for a mail, with the mail as its example. What is written passes
//! `rules test` as it is.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::diagnostic::{Diagnostic, Source};
use crate::mail::Message;
use crate::rules::{self, Judgement, RuleSet, Subject};

use super::super::{Exit, Site, print, tell_all};
use super::draft::{Draft, block, quoted};

/// What `rules new` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 rules new --from alert.eml -o /etc/smtp2signl4/rules/ours.toml
  smtp2signl4 rules new --from alert.eml --name Backup > ours.toml
  smtp2signl4 queue show 01JD3X9K7M2Q --content | smtp2signl4 rules new --from - > ours.toml

Go over what it writes: make general what changes from mail to mail, then run `rules test` on it.")]
pub(super) struct Arguments {
    /// The mail; - is standard input, and the mail is then written into the file
    #[arg(long, value_name = "MAIL")]
    from: PathBuf,
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
    let (content, mail) = match read(&arguments.from, arguments.output.as_deref()) {
        Ok(read) => read,
        Err(problem) => return told(&arguments.from, &problem),
    };
    let message = Message::parse(&content);
    let Some(draft) = Draft::of(&message, arguments.name.as_deref()) else {
        let problem = "the mail has no sender, no subject and no text: there is nothing to tell it by";
        return told(&arguments.from, &problem);
    };
    let name = arguments.output.as_deref().unwrap_or(Path::new("(the new file)")).display().to_string();
    let text = match whole(&config, &draft, &message, &name, &mail) {
        Ok(text) => text,
        Err(problems) => return tell_all(&problems),
    };
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

/// The file with an example that expects what comes out.
fn whole(
    config: &Config,
    draft: &Draft,
    message: &Message,
    name: &str,
    mail: &str,
) -> Result<String, Vec<Diagnostic>> {
    let load = |text: &str| {
        let mut sources = if config.rules.shipped { rules::shipped() } else { Vec::new() };
        sources.push(Source::new(name, text));
        RuleSet::load(&sources, config.site())
    };
    let rules = load(&draft.text(&[], mail, "{}"))?;
    let example = rules.examples().find(|example| !example.is_shipped()).expect("it was written just now");
    let envelope = example.envelope(message);
    let judgement = rules.judge(&Subject { message, envelope: &envelope, team: &config.teams[0].name });
    let text = draft.text(&notes(&judgement, name), mail, &expected(&judgement));
    load(&text)?;
    Ok(text)
}

/// What whoever goes over the file should know.
fn notes(judgement: &Judgement, own: &str) -> Vec<String> {
    let sources = judgement.trace.pieces.iter().flat_map(|piece| &piece.sources);
    let mut others: Vec<&str> = sources
        .filter(|source| !source.rules.is_empty() && &*source.file != own)
        .map(|source| &*source.source)
        .collect();
    others.dedup();
    let mut notes = Vec::new();
    if !others.is_empty() {
        notes
            .push(format!("The shipped rules know this mail: {}. What is set here wins.", others.join(", ")));
    }
    if let Some(dropped) = &judgement.dropped {
        notes.push(format!(
            "It is dropped by \"{}\": to have it page, say `keep = true` below.",
            dropped.rule
        ));
    }
    notes
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
