//! The laws of reading mails.

use std::sync::LazyLock;

use smtp2signl4::config;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::mail::{self, Message, file_contents};

/// How much longer than its mail a text can be: what RTF compresses is the most.
const GROWTH: usize = 10;

/// Most bytes of a text, and of the mails inside of one.
const TEXT_LIMIT: usize = 1024 * 1024;

/// Things that are undone in one mail, below any limit on how often something is.
const FEW: usize = 3;

/// Any bytes are a mail. It is read the same each time, with and without what the site says of its mail system; what comes
/// out is bounded by what came in; and nothing is undone again in a mail that says just what was read.
pub fn mail(content: &[u8]) {
    static SITE: LazyLock<mail::Config> = LazyLock::new(|| {
        let site = "[mail]\nsubject-tags = ['ACME']\nbanners = ['Scanned by ACME.', '/^ACME Corp/']\n\
                    [[mail.forwarder]]\nfrom = 'helpdesk@ops.example'\nunwrap = true\n";
        config::parse(None, &Source::new("site", site)).expect("the config is right").site().mail
    });
    for config in [&mail::Config::default(), &*SITE] {
        let message = Message::parse_for(content, config);
        assert_eq!(message, Message::parse_for(content, config), "read otherwise the second time");
        bounded(&message, content.len());
        let places: Vec<usize> = message.attachments.iter().map(|file| file.place).collect();
        assert_eq!(file_contents(content, &places).len(), places.len(), "a file has no place");
        undone_once(&message, config);
    }
}

fn bounded(message: &Message, length: usize) {
    let text = message.text.len();
    assert!(text <= TEXT_LIMIT && text <= GROWTH * length + 1024, "{text} bytes of text come of {length}");
    assert!(message.enclosed.len() <= TEXT_LIMIT, "the mails inside are {} bytes", message.enclosed.len());
    let told = message.undone.iter().chain(&message.defects);
    assert!(told.clone().count() <= 40, "too much is told");
    let told: usize = told.map(String::len).sum();
    assert!(told <= GROWTH * length + 64 * 1024, "{told} bytes are told of {length}");
}

/// Reads the mail once more, as one that says what was read of it.
fn undone_once(message: &Message, config: &mail::Config) {
    // Text that looks like HTML, armour or another charset is that where it is sent as text.
    let ambiguous = |text: &str| text.contains(['<', '\x1b']) || text.contains("-----BEGIN PGP");
    if message.wrapper.is_some() || message.undone.len() > FEW || ambiguous(&message.text) {
        return;
    }
    // Neither a limit on tags or on how often a link was rewritten may have been reached.
    if message.undone.iter().any(|told| told.len() > 100) || message.text.matches("://").count() > FEW {
        return;
    }
    let escaped = |text: &str| text.replace('&', "&amp;");
    let words: String = escaped(&message.subject).bytes().map(|byte| format!("={byte:02X}")).collect();
    let again = format!(
        "Subject: =?utf-8?Q?{words}?=\nContent-Type: text/plain; charset=utf-8\n\n{}",
        escaped(&message.text)
    );
    let again = Message::parse_for(again.as_bytes(), config);
    assert_eq!(again.text, message.text, "a text is undone again: {:?}", again.undone);
    if !words.is_empty() && message.subject.len() < 500 {
        assert_eq!(again.subject, message.subject, "a subject is undone again: {:?}", again.undone);
    }
}
