//! The `[mail]` section of the config: what the site's own mail system does to a mail on its way.

use super::banners::Banners;
use super::mailbox::Address;
use super::mark::Mark;
use crate::document::Table;

/// The `[mail]` section. By default it is empty: what is known everywhere is undone without it.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The site's own tags in front of subjects.
    pub(super) subject_tags: Vec<Mark>,
    /// The site's own banners and footers.
    pub(super) banners: Banners,
    /// The forwarders of mails that may close and acknowledge as if they had not been forwarded.
    forwarders: Vec<String>,
}

impl Config {
    /// Reads `[mail]`. The caller finishes the table.
    pub fn read(table: &mut Table<'_>) -> Self {
        let subject_tags = marks(table, "subject-tags");
        let site = marks(table, "banners");
        let mut forwarders = Vec::new();
        for mut forwarder in table.tables("forwarder") {
            let from = forwarder.string("from");
            let unwrap = forwarder.boolean("unwrap");
            let span = forwarder.span();
            match from {
                None => forwarder.error(span, "this forwarder has no address", "add `from = \"helpdesk@example.org\"`"),
                Some(from) if !is_address(&from.value) => forwarder.error(
                    from.span,
                    format!("`{}` is not an address", from.value.escape_debug()),
                    "write \"helpdesk@example.org\"",
                ),
                Some(from) if unwrap == Some(true) => forwarders.push(from.value.to_lowercase()),
                Some(_) if unwrap.is_none() => forwarder.error(
                    span,
                    "this forwarder says nothing of what may be done",
                    "add `unwrap = true`: what it forwards closes and acknowledges as if it had come by itself",
                ),
                Some(_) => {}
            }
            forwarder.finish();
        }
        Self { subject_tags, banners: Banners { site }, forwarders }
    }

    /// Whether the site names one of these as a forwarder.
    pub(super) fn names(&self, from: &[Address]) -> bool {
        // With several authors the forwarder is unknown.
        matches!(from, [author] if self.forwarders.contains(&author.address.to_lowercase()))
    }
}

fn marks(table: &mut Table<'_>, key: &'static str) -> Vec<Mark> {
    let mut marks = Vec::new();
    for text in table.strings(key).unwrap_or_default() {
        match Mark::read(&text.value) {
            Ok(mark) => marks.push(mark),
            Err(problem) => table.error(
                text.span,
                format!("`{}` cannot be one of `{key}`: {problem}", text.value.escape_debug()),
                "write the text as it stands in the mail, or a regular expression between slashes",
            ),
        }
    }
    marks
}

fn is_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || "<>,*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Config, String> {
        let config = document::read(&Source::new("c", text), |root| {
            let mut table = root.table("mail").unwrap();
            let config = Config::read(&mut table);
            table.finish();
            config
        });
        config.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn every_key_is_read() {
        let config = read(concat!(
            "[mail]\nsubject-tags = ['[alerts]', '/^ACME-[0-9]+: /']\nbanners = ['Sent by ACME']\n",
            "[[mail.forwarder]]\nfrom = 'Helpdesk@ops.example'\nunwrap = true\n[[mail.forwarder]]\nfrom = 'x@ops.example'\nunwrap = false\n",
        ))
        .unwrap();
        assert_eq!((config.subject_tags.len(), config.banners.site.len()), (2, 1));
        let from = |address: &str| vec![Address { address: address.to_owned(), ..Address::default() }];
        assert!(config.names(&from("helpdesk@OPS.example")));
        assert!(!config.names(&from("x@ops.example")));
        assert!(!config.names(&[from("helpdesk@ops.example"), from("x@ops.example")].concat()));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_do() {
        for (text, said) in [
            ("[mail]\nbanners = ['']", "there is nothing in it"),
            ("[mail]\nbanners = ['/(/']", "unclosed group"),
            ("[mail]\nsubject-tags = ['/x*/']", "matches the empty text"),
            ("[mail]\n[[mail.forwarder]]\nunwrap = true", "has no address"),
            ("[mail]\n[[mail.forwarder]]\nfrom = 'helpdesk'\nunwrap = true", "is not an address"),
            ("[mail]\n[[mail.forwarder]]\nfrom = 'a@b.example'", "unwrap = true"),
            ("[mail]\n[[mail.forwarder]]\nfrom = '*@b.example'\nunwrap = true", "is not an address"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }

    #[test]
    fn a_mark_stands_at_the_start_of_a_line() {
        let mark = Mark::read("ACME ext").unwrap();
        assert_eq!(mark.prefix("acme  EXT: down"), Some(9));
        assert_eq!(mark.prefix("ACME extended"), None);
        assert_eq!(mark.prefix("an ACME ext"), None);
        assert_eq!(Mark::read("[alerts]").unwrap().prefix("[Alerts]down"), Some(8));
        assert_eq!(Mark::read("/ACME[0-9]/").unwrap().prefix("x ACME1"), None);
    }
}
