//! What share of the last day's mail came from strangers, from which domains, and which line of the config changes that:
//! for sites whose own mail comes through a cloud.

use jiff::{SignedDuration, Timestamp};

use crate::mail::{MailId, Trust, visible};
use crate::spool::{Reader, Vouched};

use super::terminal::excerpt;

/// How far back is counted.
const SPAN: SignedDuration = SignedDuration::from_hours(24);

/// Domains that are listed.
const LISTED: usize = 5;

/// The lines for an operator; none if no stranger wrote.
///
/// # Errors
/// The spool cannot be read.
pub(super) async fn lines(spool: &Reader, now: Timestamp) -> Result<Vec<String>, String> {
    let from = MailId::new(now.saturating_sub(SPAN).unwrap_or(now), 0);
    let counted = spool.vouched(from).await.map_err(|error| error.to_string())?;
    Ok(told(&counted))
}

fn told(counted: &[Vouched]) -> Vec<String> {
    let all: u64 = counted.iter().map(|vouched| vouched.mails).sum();
    let mut strangers: Vec<&Vouched> =
        counted.iter().filter(|vouched| vouched.class == Trust::Stranger.word()).collect();
    let mails: u64 = strangers.iter().map(|vouched| vouched.mails).sum();
    if mails == 0 {
        return Vec::new();
    }
    let share = (mails * 100 + all / 2) / all;
    let mut lines = vec![format!(
        "{mails} of {all} mails of the last day ({share} %) came from strangers, who close nothing:"
    )];
    strangers.sort_by_key(|vouched| std::cmp::Reverse(vouched.mails));
    for vouched in strangers.iter().take(LISTED) {
        let domain = vouched.domain.as_deref().map_or_else(|| "no one domain".to_owned(), shown);
        let line = match &vouched.line {
            Some(line) => format!("if it is yours: {}", shown(line)),
            None => "nothing proves it; if it is yours, let DKIM pass for it and name it in [rules] closing-domains, \
                     or name its network in [rules] trusted"
                .to_owned(),
        };
        lines.push(format!("  {} from {domain}: {line}", vouched.mails));
    }
    if strangers.len() > LISTED {
        let rest: u64 = strangers.iter().skip(LISTED).map(|vouched| vouched.mails).sum();
        lines.push(format!("  {rest} from others"));
    }
    lines
}

/// A text of a mail in one line, with nothing in it that hides or steers a terminal.
fn shown(text: &str) -> String {
    visible(&excerpt(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vouched(class: &str, domain: Option<&str>, line: Option<&str>, mails: u64) -> Vouched {
        let owned = |text: &str| text.to_owned();
        Vouched { class: owned(class), domain: domain.map(owned), line: line.map(owned), mails }
    }

    #[test]
    fn the_share_of_strangers_is_told_by_domain_with_the_line_that_changes_it() {
        let line = "[rules] closing-domains = [\"saas.example\"]";
        let lines = told(&[
            vouched("trusted", None, None, 50),
            vouched("proven", None, None, 10),
            vouched("stranger", Some("evil.example"), None, 10),
            vouched("stranger", Some("saas.example"), Some(line), 30),
        ]);
        assert_eq!(
            lines[0],
            "40 of 100 mails of the last day (40 %) came from strangers, who close nothing:"
        );
        assert_eq!(lines[1], format!("  30 from saas.example: if it is yours: {line}"));
        assert!(lines[2].starts_with("  10 from evil.example: nothing proves it"), "{}", lines[2]);
        assert_eq!(lines.len(), 3);
        assert!(told(&[vouched("trusted", None, None, 50)]).is_empty() && told(&[]).is_empty());
    }
}
