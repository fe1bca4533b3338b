//! `submit`, and the program under the names `sendmail`, `mailq` and `newaliases`: the command line that
//! every program on a Unix machine speaks that wants to send a mail.
//!
//! cron, anacron, at, PHP and mail(1) call it each in its own way and do not try again: an option that means
//! nothing here is taken all the same, with its value, and an unknown one is noted and left out.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::mail::{Header, trace};
use crate::operator::CONTENT_LIMIT;

use super::site::{Exit, Site};
use super::{hand_in, queue};
use crate::config::Environment;

/// The names under which the program is sendmail, mailq or newaliases.
const SENDMAIL: &str = "sendmail";
const MAILQ: &str = "mailq";
const NEWALIASES: &str = "newaliases";

/// Options whose value stands in the same word or in the next: `-fops@example.org`, `-f ops@example.org`.
const WITH_VALUE: &str = "ABCDFLNORVXbfhopr";

/// Options whose value can only stand in the same word: `-q30m`, `-em`, `-d0.1`.
const WITH_VALUE_ATTACHED: &str = "deq";

/// Options without a value that mean nothing here: what they ask for is so anyway, or is none of a gateway's.
const IDLE: &str = "EGITUaceimnsx";

/// What a command line of sendmail(8) asks for.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    /// To take a mail.
    Take(Letter),
    /// To list the queue.
    List,
    /// Something that is done all the time, or that there is none of: what to say about it.
    Nothing(&'static str),
    /// Something that this program does not do under this name.
    Refused(String),
}

/// How a mail is to be taken.
#[derive(Debug, Default, PartialEq, Eq)]
struct Letter {
    /// The envelope sender, from `-f` or `-r`; an empty one is the null sender.
    from: Option<String>,
    /// The sender's full name, from `-F`: for a mail without From.
    name: Option<String>,
    /// Whether the recipients of To, Cc and Bcc count as well.
    read_recipients: bool,
    /// Whether to say what became of it.
    verbose: bool,
    /// The envelope recipients.
    recipients: Vec<String>,
    /// Unknown options.
    unknown: Vec<String>,
}

/// What `submit` is told, in the manner of sendmail(8).
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "smtp2signl4 submit [OPTIONS OF SENDMAIL] [RECIPIENT]...",
    after_help = "Options of sendmail:
  -f ADDRESS, -r ADDRESS  the envelope sender [default: the user who calls]
  -F NAME                 the sender's full name, for a mail without From
  -t                      take the recipients from To, Cc and Bcc as well; Bcc is taken out of the mail
  -v                      say what became of the mail, where the program is called sendmail
  -bm, -i, -oi, -oem, -odi, -B TYPE, -N DSN, -V ID, -O OPTION=VALUE and the like are taken and mean nothing here:
  a line with a single dot never ends the mail

Examples:
  smtp2signl4 submit soc@example.org < alert.eml
  smtp2signl4 submit -t < alert.eml               recipients from To, Cc and Bcc
  soc: \"|/usr/local/bin/smtp2signl4 submit -f ops@example.org soc\"          in /etc/aliases
  signl4 unix - n n - - pipe flags=R user=nobody argv=/usr/local/bin/smtp2signl4 submit -f ${sender} -- ${recipient}
  ln -s /usr/local/bin/smtp2signl4 /usr/sbin/sendmail                         for cron and all else on this machine"
)]
pub(super) struct Arguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// What sendmail takes
    #[arg(value_name = "RECIPIENT", hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Serves a call under another name than the program's own; nothing if it has that.
pub(super) fn under_another_name(mut line: impl Iterator<Item = OsString>) -> Option<Exit> {
    let program = PathBuf::from(line.next()?);
    let name = program.file_name()?.to_str()?;
    let call = match name {
        SENDMAIL => read(line),
        // Their own options are about a mail system's files: there is nothing in them that could be lost.
        MAILQ => (Call::List, None),
        NEWALIASES => (Call::Nothing(NO_ALIASES), None),
        _ => return None,
    };
    Some(serve(call, None, false))
}

/// Takes the mail on standard input.
pub(super) fn submit(site: &Site, arguments: Arguments) -> Exit {
    serve(read(arguments.rest.into_iter()), site.path.as_deref(), true)
}

const NO_ALIASES: &str =
    "there are no aliases to make anew: the recipients of each team are in the config of smtp2signl4";

/// Does what is asked for. `fallback`: the config file where the call names none; `tell`: whether success is
/// worth a line.
fn serve((call, config): (Call, Option<PathBuf>), fallback: Option<&Path>, tell: bool) -> Exit {
    let path = config.or_else(|| fallback.map(Path::to_owned));
    let site = Site { path, environment: Environment::of_process() };
    match call {
        Call::Take(letter) => take(&site, letter, tell),
        Call::List => queue::list_all(&site),
        Call::Nothing(said) => {
            eprintln!("{said}");
            Exit::Done
        }
        Call::Refused(problem) => {
            eprintln!("smtp2signl4: {problem}");
            Exit::Usage
        }
    }
}

/// Reads a command line of sendmail(8), without the name of the program: what it asks for, and the config file
/// that it names.
fn read(line: impl Iterator<Item = OsString>) -> (Call, Option<PathBuf>) {
    let mut config = None;
    let call = call(line, &mut config);
    (call, config)
}

fn call(line: impl Iterator<Item = OsString>, config: &mut Option<PathBuf>) -> Call {
    let mut words = line.map(|word| word.to_string_lossy().into_owned());
    let mut letter = Letter::default();
    let mut runs_queue = false;
    while let Some(word) = words.next() {
        if word == "--" {
            letter.recipients.extend(words);
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let mut value = || value.clone().or_else(|| words.next());
            match name {
                "config" => match value() {
                    Some(file) => *config = Some(file.into()),
                    None => return Call::Refused("--config needs a file".to_owned()),
                },
                "from" => letter.from = value(),
                "read-recipients" => letter.read_recipients = true,
                "ignore-dots" => {}
                // Only people write long options, and they read what becomes of it.
                _ => {
                    return Call::Refused(format!(
                        "there is no option --{name}; see smtp2signl4 submit --help"
                    ));
                }
            }
            continue;
        }
        let Some(options) = word.strip_prefix('-').filter(|options| !options.is_empty()) else {
            letter.recipients.push(word);
            continue;
        };
        for (at, option) in options.char_indices() {
            let attached = &options[at + option.len_utf8()..];
            if WITH_VALUE.contains(option) {
                let value =
                    if attached.is_empty() { words.next().unwrap_or_default() } else { attached.to_owned() };
                match option {
                    'f' | 'r' => letter.from = Some(value),
                    'F' => letter.name = Some(value),
                    'b' => {
                        if let Some(other) = mode(&value) {
                            return other;
                        }
                    }
                    // Exim's options of a mail that comes from elsewhere have their value in the next word.
                    'o' if value.starts_with('M') => {
                        words.next();
                    }
                    _ => {}
                }
                break;
            }
            if WITH_VALUE_ATTACHED.contains(option) {
                runs_queue |= option == 'q';
                break;
            }
            match option {
                't' => letter.read_recipients = true,
                'v' => letter.verbose = true,
                'I' => return Call::Nothing(NO_ALIASES),
                _ if IDLE.contains(option) => {}
                _ => letter.unknown.push(format!("-{option}")),
            }
        }
    }
    if runs_queue && letter.recipients.is_empty() && !letter.read_recipients {
        return Call::Nothing("the service delivers what waits by itself: smtp2signl4 queue list shows it");
    }
    Call::Take(letter)
}

/// What `-bX` asks for; nothing if it is to take a mail.
fn mode(mode: &str) -> Option<Call> {
    match mode {
        "m" => None,
        "p" => Some(Call::List),
        "i" => Some(Call::Nothing(NO_ALIASES)),
        "d" | "D" | "l" => Some(Call::Refused(format!(
            "-b{mode} would run a mail server: `smtp2signl4 run`, or systemctl start smtp2signl4, runs the gateway"
        ))),
        "s" => Some(Call::Refused(
            "-bs would speak SMTP on standard input: let the program connect to the gateway's listener, such as 127.0.0.1:25"
                .to_owned(),
        )),
        _ => Some(Call::Refused(format!("-b{mode} is nothing that a gateway does; -bm takes a mail"))),
    }
}

/// Takes the mail on standard input.
fn take(site: &Site, letter: Letter, tell: bool) -> Exit {
    for option in &letter.unknown {
        eprintln!("smtp2signl4: the option {option} is not known and was left out");
    }
    let mut content = Vec::new();
    let limit = CONTENT_LIMIT as u64 + 1;
    if let Err(error) = std::io::stdin().lock().take(limit).read_to_end(&mut content) {
        eprintln!("smtp2signl4: the mail cannot be read: {error}");
        return Exit::Temporary;
    }
    if content.len() > CONTENT_LIMIT {
        eprintln!("smtp2signl4: the mail is larger than {} MiB", CONTENT_LIMIT >> 20);
        return Exit::Data;
    }
    if content.is_empty() {
        eprintln!("smtp2signl4: there is no mail on standard input");
        return Exit::Data;
    }
    if trace::is_notice(trace::header(&content)) {
        eprintln!("smtp2signl4: this is a notice of the gateway's own that came back");
        return Exit::Data;
    }
    let mut recipients = letter.recipients;
    if letter.read_recipients {
        recipients.extend(Header::read(&content).recipients().into_iter().map(|mailbox| mailbox.address));
    }
    let caller = caller();
    let (postmark, content) = postmark(&content);
    let sender = letter.from.or(postmark).unwrap_or_else(|| caller.clone());
    let sender = sender.trim_start_matches('<').trim_end_matches('>');
    let content = as_sent(content, letter.read_recipients, letter.name.as_deref(), &caller);
    hand_in::mail(site, sender, recipients, content, tell || letter.verbose)
}

/// The address of the user who calls.
fn caller() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    // Where users come from a directory, the environment says the name; it is of use to people alone.
    let user = user.or_else(|| std::env::var("LOGNAME").ok()).unwrap_or(uid);
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

/// The sender in the line `From ADDRESS DATE` that a local delivery puts in front, and the mail without it.
fn postmark(content: &[u8]) -> (Option<String>, &[u8]) {
    let line = content.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    match line.strip_prefix(b"From ") {
        Some(rest) if !rest.trim_ascii_start().starts_with(b":") => {
            let sender = rest.split(|&byte| byte == b' ').next().map(String::from_utf8_lossy);
            // A bounce has no sender.
            let sender = sender.map(|name| if name == "MAILER-DAEMON" { String::new() } else { name.into() });
            (sender, &content[line.len()..])
        }
        _ => (None, content),
    }
}

/// The mail as sendmail(8) would send it: with a header, a From in it, and without Bcc if that was read.
fn as_sent(content: &[u8], without_blind: bool, name: Option<&str>, caller: &str) -> Vec<u8> {
    let mut sent = Vec::with_capacity(content.len() + 100);
    let mut rest = content;
    let mut has_from = false;
    let mut blind = false;
    while let Some(line) = rest.split_inclusive(|&byte| byte == b'\n').next() {
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        match field_name(line) {
            _ if folded && rest.len() < content.len() => {}
            Some(field) => {
                has_from |= field.eq_ignore_ascii_case(b"from");
                blind = without_blind
                    && [&b"bcc"[..], b"resent-bcc"].iter().any(|f| field.eq_ignore_ascii_case(f));
            }
            None => break,
        }
        if !blind {
            sent.extend_from_slice(line);
        }
        rest = &rest[line.len()..];
    }
    if !has_from {
        let name: String = name.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        let name = name.trim().replace('\\', "\\\\").replace('"', "\\\"");
        let from = if name.is_empty() { caller.to_owned() } else { format!("\"{name}\" <{caller}>") };
        sent.splice(0..0, format!("From: {from}\n").into_bytes());
    }
    // A mail that begins with its text has no header to end.
    if rest.len() == content.len() {
        sent.push(b'\n');
    }
    sent.extend_from_slice(rest);
    sent
}

/// The name of the field that this line begins; nothing if it begins none.
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(line: &str) -> Letter {
        match read(line.split(' ').map(OsString::from)).0 {
            Call::Take(letter) => letter,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn to(recipients: &[&str]) -> Letter {
        Letter { recipients: recipients.iter().map(ToString::to_string).collect(), ..Letter::default() }
    }

    #[test]
    fn every_way_in_which_programs_call_sendmail_is_understood() {
        let name = |name: &str| Some(name.to_owned());
        let from = |from: &str| Some(from.to_owned());
        // Debian's cron, cronie, anacron, busybox, at, PHP, mail(1), git, mutt, Perl's Mail::Sendmail, Exim's and
        // Postfix's own ways.
        for (line, expected) in [
            ("-FCronDaemon -i -B8BITMIME -oem root", Letter { name: name("CronDaemon"), ..to(&["root"]) }),
            (
                "-FCronDaemon -i -odi -oem -oi -t -f root",
                Letter { name: name("CronDaemon"), read_recipients: true, from: from("root"), ..to(&[]) },
            ),
            ("-FAnacron -odi root", Letter { name: name("Anacron"), ..to(&["root"]) }),
            ("-ti", Letter { read_recipients: true, ..to(&[]) }),
            ("-i soc", to(&["soc"])),
            (
                "-t -i -f app@example.org",
                Letter { read_recipients: true, from: from("app@example.org"), ..to(&[]) },
            ),
            ("-t -bm -N never -v", Letter { read_recipients: true, verbose: true, ..to(&[]) }),
            ("-N failure,delay -R hdrs -V 17 soc ops", to(&["soc", "ops"])),
            (
                "-oi -oem -odb -oMr local -f a@b -- -odd@example.org",
                Letter { from: from("a@b"), ..to(&["-odd@example.org"]) },
            ),
            (
                "-r ops@example.org -O DeliveryMode=b -G soc",
                Letter { from: from("ops@example.org"), ..to(&["soc"]) },
            ),
            (
                "-tfops@example.org -F Ops",
                Letter { read_recipients: true, from: from("ops@example.org"), name: name("Ops"), ..to(&[]) },
            ),
            ("-o i -Am -em -d0.1 -L tag soc", to(&["soc"])),
            ("-f <> -- soc", Letter { from: from("<>"), ..to(&["soc"]) }),
            ("-t -Z soc", Letter { read_recipients: true, unknown: vec!["-Z".to_owned()], ..to(&["soc"]) }),
            ("--config c.toml --from a@b soc", Letter { from: from("a@b"), ..to(&["soc"]) }),
        ] {
            assert_eq!(letter(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_mail_is_answered_and_takes_none() {
        for line in ["-bi", "-q", "-q30m", "-I"] {
            assert!(matches!(read(line.split(' ').map(OsString::from)).0, Call::Nothing(_)), "{line}");
        }
        assert_eq!(
            read(["--config=c", "-bp"].map(OsString::from).into_iter()),
            (Call::List, Some("c".into()))
        );
        for line in ["-bd", "-bs", "-bt", "-bv soc", "--form a@b"] {
            assert!(matches!(read(line.split(' ').map(OsString::from)).0, Call::Refused(_)), "{line}");
        }
    }

    #[test]
    fn the_mail_gets_what_sendmail_adds_and_loses_what_it_hides() {
        let sent = |mail: &str, without: bool, name: Option<&str>| {
            String::from_utf8(as_sent(mail.as_bytes(), without, name, "root@web01")).unwrap()
        };
        assert_eq!(sent("From: a@b\nSubject: s\n\nt\n", true, Some("x")), "From: a@b\nSubject: s\n\nt\n");
        assert_eq!(
            sent("Subject: s\nBcc: a@b,\n c@d\nTo: e@f\n\nBcc: text\n", true, None),
            "From: root@web01\nSubject: s\nTo: e@f\n\nBcc: text\n"
        );
        assert_eq!(sent("From: a@b\nBcc: c@d\n\nt", false, None), "From: a@b\nBcc: c@d\n\nt");
        // A name cannot bring a line of its own.
        assert_eq!(
            sent("Subject: s\r\n\r\nt", true, Some("Cron \"D\"\nX: y")),
            "From: \"Cron \\\"D\\\"X: y\" <root@web01>\nSubject: s\r\n\r\nt"
        );
        assert_eq!(sent("disk full on /var\n", false, None), "From: root@web01\n\ndisk full on /var\n");
        assert_eq!(sent("\ndisk: full\n", false, None), "From: root@web01\n\n\ndisk: full\n");
    }

    #[test]
    fn the_line_of_a_local_delivery_names_the_sender() {
        let mail = b"From ops@example.org  Mon Nov 30 10:00:00 2026\nSubject: s\n\nt";
        assert_eq!(postmark(mail), (Some("ops@example.org".to_owned()), &b"Subject: s\n\nt"[..]));
        assert_eq!(postmark(b"From MAILER-DAEMON Mon\nA: b\n").0.as_deref(), Some(""));
        for mail in [&b"From: a@b\n\n"[..], b"From : a@b\n\n", b"Subject: From x\n\n"] {
            assert_eq!(postmark(mail), (None, mail));
        }
    }
}
