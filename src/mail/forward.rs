//! The mail that another quotes because it was forwarded inside of its text: the forms of Outlook, Gmail, Apple Mail and
//! Thunderbird, in the languages of Western Europe. One pass over the lines.

use super::mailbox::Address;

/// Most lines of the head of a mail that was forwarded.
const HEAD_LIMIT: usize = 20;

/// A mail inside of the text of another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forward<'t> {
    /// What the forwarder wrote above it.
    pub(super) cover: &'t str,
    /// Whether a line says that it was forwarded, which none says of what is quoted in a reply.
    pub(super) marked: bool,
    /// Its author.
    pub(super) from: Address,
    pub(super) subject: String,
    /// Its text.
    pub(super) text: String,
}

/// What a line of a head is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    From,
    Subject,
    Other,
}

/// The first mail that is forwarded inside of `text`, which is tidy.
pub(super) fn inline(text: &str) -> Option<Forward<'_>> {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut at = 0;
    for (number, line) in lines.iter().enumerate() {
        let mark = mark(line);
        // Outlook writes the head without a mark, below a ruler at most.
        if mark.is_some() || name(line).is_some_and(|(name, _)| name == Name::From) {
            let head = if mark.is_some() { number + 1 } else { number };
            if let Some(mut forward) = head_of(&lines[head..]) {
                let above = text[..at].trim_end();
                let last = above.rfind('\n').map_or(0, |end| end + 1);
                let ruled = above[last..].len() >= 5 && above[last..].chars().all(|c| matches!(c, '_' | '-'));
                forward.cover = if ruled { above[..last].trim_end() } else { above };
                forward.marked = mark == Some(true);
                return Some(forward);
            }
        }
        at += line.len() + 1;
    }
    None
}

/// Whether a line says that a mail follows, and if so whether as one that was forwarded.
fn mark(line: &str) -> Option<bool> {
    const FORWARDED: [&str; 12] = [
        "forwarded message",
        "begin forwarded message",
        "weitergeleitete nachricht",
        "anfang der weitergeleiteten nachricht",
        "message transféré",
        "début du message transféré",
        "mensaje reenviado",
        "messaggio inoltrato",
        "doorgestuurd bericht",
        "forwarded by",
        "videresendt meddelelse",
        "vidarebefordrat meddelande",
    ];
    const ORIGINAL: [&str; 6] = [
        "original message",
        "ursprüngliche nachricht",
        "message d'origine",
        "mensaje original",
        "messaggio originale",
        "oorspronkelijk bericht",
    ];
    let line = line.trim_start_matches(['>', ' ']);
    if line.len() > 100 {
        return None;
    }
    let inner = line.trim_matches(['-', ' ', ':', '_', '=', '*']).to_lowercase();
    let dashed = line.starts_with("--") || line.trim_end().ends_with(':');
    let by = inner.starts_with("forwarded by ") || inner.starts_with("forwarded message from ");
    if FORWARDED.contains(&inner.as_str()) && dashed || by && line.starts_with("---") {
        Some(true)
    } else {
        (ORIGINAL.contains(&inner.as_str()) && dashed).then_some(false)
    }
}

/// Whether a line says that a mail that was forwarded ends, as helpdesks write it.
fn is_end(line: &str) -> bool {
    const ENDS: [&str; 3] =
        ["end forwarded message", "end of forwarded message", "ende der weitergeleiteten nachricht"];
    line.starts_with("--") && line.len() <= 100 && {
        let inner = line.trim_matches(['-', ' ']).to_lowercase();
        ENDS.contains(&inner.as_str())
    }
}

/// What a line of a head is about, and its value.
fn name(line: &str) -> Option<(Name, &str)> {
    let line = line.trim_start_matches(' ');
    // `*From:* x` is how a text shows what was bold.
    let bold = &line[..line.len() - line.trim_start_matches('*').len()];
    let (name, value) = line[bold.len()..].split_once(':')?;
    let value = value.strip_prefix(bold).unwrap_or(value);
    if name.len() > 20 {
        return None;
    }
    let name = name.trim_matches(['*', ' ']).to_lowercase();
    let name = match name.as_str() {
        "from" | "von" | "de" | "da" | "van" | "fra" | "från" | "expéditeur" => Name::From,
        "subject" | "betreff" | "objet" | "asunto" | "oggetto" | "onderwerp" | "emne" | "ämne"
        | "assunto" => Name::Subject,
        "date" | "sent" | "datum" | "gesendet" | "envoyé" | "fecha" | "enviado" | "enviado el" | "data"
        | "inviato" | "verzonden" | "sendt" | "skickat" | "to" | "an" | "à" | "a" | "para" | "aan"
        | "til" | "till" | "cc" | "kopie" | "bcc" | "reply-to" | "antwort an" | "importance" | "priority"
        | "wichtigkeit" | "priorität" | "attachments" | "anlagen" | "sender" | "message-id"
        | "organization" | "resent-from" | "created" | "erstellt" | "received" | "empfangen" => Name::Other,
        _ => return None,
    };
    Some((name, value.trim()))
}

/// The mail whose head begins with these lines.
fn head_of<'t>(lines: &[&'t str]) -> Option<Forward<'t>> {
    let blank = lines.iter().take(2).take_while(|line| line.trim_matches(['>', ' ']).is_empty()).count();
    let quoted = lines.get(blank)?.starts_with('>');
    let bare = |line: &'t str| {
        if quoted { line.strip_prefix("> ").or(line.strip_prefix('>')).unwrap_or(line) } else { line }
    };
    let (mut from, mut subject) = (None, None);
    let mut fields = 0;
    let mut at = blank;
    let mut goes_on = false;
    for line in lines.iter().skip(blank).take(HEAD_LIMIT) {
        let line = bare(line);
        match name(line) {
            Some((name, value)) => {
                fields += 1;
                match name {
                    Name::From => from = from.or(Some(value)),
                    Name::Subject => subject = subject.or(Some(value.to_owned())),
                    Name::Other => {}
                }
                goes_on = value.ends_with([',', ';']) || value.is_empty();
            }
            None if goes_on && !line.trim().is_empty() => goes_on = line.trim_end().ends_with([',', ';']),
            None => break,
        }
        at += 1;
    }
    if fields < 3 {
        return None;
    }
    let from = mailbox(from?);
    let subject = subject?;
    let text = lines[at..].iter().map(|line| bare(line)).take_while(|line| !is_end(line));
    let text = text.collect::<Vec<_>>().join("\n");
    Some(Forward { from, subject, text: text.trim_matches('\n').to_owned(), ..Forward::default() })
}

/// The mailbox that a mail program shows as `Name <address>`, `Name [mailto:address]`, or only its name.
fn mailbox(value: &str) -> Address {
    let is_part = |c: char| !c.is_whitespace() && !"<>[]()\",;:".contains(c);
    let Some(at) = value.char_indices().map(|(at, _)| at).find(|&at| {
        value[at..].starts_with('@')
            && value[..at].ends_with(is_part)
            && value[at + 1..].starts_with(|c: char| c.is_alphanumeric())
    }) else {
        // `root <root>` and `root` are of the machine itself; a name with a blank in it is no address.
        let inside = value.strip_suffix('>').and_then(|rest| rest.rsplit_once('<'));
        let (name, address) = inside.unwrap_or(("", value));
        if address.is_empty() || !address.chars().all(is_part) {
            return Address { name: value.to_owned(), address: String::new() };
        }
        return Address { name: name.trim_matches([' ', '"']).to_owned(), address: address.to_owned() };
    };
    let from = value[..at]
        .rfind(|c| !is_part(c))
        .map_or(0, |before| before + value[before..].chars().next().map_or(1, char::len_utf8));
    let to = value[at..].find(|c| !is_part(c)).map_or(value.len(), |length| at + length);
    let name = value[..from].trim_end_matches("mailto:").trim_matches([' ', '<', '[', '(', '"']);
    Address { name: name.to_owned(), address: value[from..to].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERT: &str = "Problem name: Disk\nHost: fs07";

    fn check(text: &str, cover: &str, marked: bool) {
        let found = inline(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((found.cover, found.marked), (cover, marked), "{text}");
        assert_eq!(
            (found.from.address.as_str(), found.subject.as_str()),
            ("zabbix@mon.ops.example", "Problem: Disk"),
            "{text}"
        );
        assert_eq!(found.text, ALERT);
    }

    #[test]
    fn a_forward_of_each_mail_program_is_found() {
        check(
            &format!(
                "FYI\n\n---------- Forwarded message ---------\nFrom: Zabbix <zabbix@mon.ops.example>\nDate: Mon, 30 Nov 2026 at 10:00\nSubject: Problem: Disk\nTo: <kim@ops.example>\n\n{ALERT}"
            ),
            "FYI",
            true,
        );
        check(
            &format!(
                "-------- Weitergeleitete Nachricht --------\nBetreff: Problem: Disk\nDatum: x\nVon: zabbix@mon.ops.example\nAn: kim@ops.example\n\n{ALERT}"
            ),
            "",
            true,
        );
        check(
            &format!(
                "Kim\n\n________________________________\nFrom: Zabbix [mailto:zabbix@mon.ops.example]\nSent: Monday\nTo: a@x.example;\nb@x.example\nSubject: Problem: Disk\n\n{ALERT}"
            ),
            "Kim",
            false,
        );
        check(
            &format!(
                "-----Ursprüngliche Nachricht-----\nVon: zabbix@mon.ops.example <zabbix@mon.ops.example>\nGesendet: Montag\nAn: Kim\nBetreff: Problem: Disk\n\n{ALERT}"
            ),
            "",
            false,
        );
        check(
            &format!(
                "*From:* Zabbix <zabbix@mon.ops.example>\n*Sent:* Monday\n*Subject:* Problem: Disk\n\n{ALERT}"
            ),
            "",
            false,
        );
        check(
            "Begin forwarded message:\n\n> From: Zabbix <zabbix@mon.ops.example>\n> Subject: Problem: Disk\n> Date: x\n>\n> Problem name: Disk\n> Host: fs07",
            "",
            true,
        );
        check(
            &format!(
                "Hello\n\n---- Forwarded message from Zabbix <zabbix@mon.ops.example> ---\n\nFrom: Zabbix <zabbix@mon.ops.example>\nTo: kim\nSubject: Problem: Disk\nCreated: today\n\n{ALERT}\n---- End forwarded message ---\n\nYour helpdesk"
            ),
            "Hello",
            true,
        );
        check(
            &format!(
                "De : Zabbix <zabbix@mon.ops.example>\nEnvoyé : lundi\nÀ : Kim\nObjet : Problem: Disk\n\n{ALERT}"
            ),
            "",
            false,
        );
    }

    #[test]
    fn the_sender_may_be_one_of_the_machine() {
        for (value, name, address) in [
            ("root <root>", "root", "root"),
            ("Cron Daemon <root>", "Cron Daemon", "root"),
            ("root", "", "root"),
            ("Kim Meyer", "Kim Meyer", ""),
        ] {
            assert_eq!(mailbox(value), Address { name: name.into(), address: address.into() }, "{value}");
        }
    }

    #[test]
    fn the_stars_of_a_subject_stay() {
        let found = inline(
            "-------- Forwarded Message --------\nSubject: ** PROBLEM x **\nDate: y\nFrom: a@x.example\n\nz",
        );
        assert_eq!(found.unwrap().subject, "** PROBLEM x **");
    }

    #[test]
    fn fields_of_an_alert_are_no_forwarded_mail() {
        for text in [
            "Alert\n\nFrom: 192.0.2.1\nTo: 192.0.2.2\nPort: 22",
            "From: x\nSubject: y",
            "Forwarded message\nFrom: a@x.example\nDate: x\nSubject: y",
            "",
        ] {
            let found = inline(text).filter(|found| found.marked);
            assert_eq!(found, None, "{text}");
        }
    }
}
