//! The laws of trust, as the rules keep them: who a mail is from decides what it may do.

use smtp2signl4::config;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, KeySource, Severity, Status};
use smtp2signl4::mail::{Authenticity, Envelope, Message, Tls, Trust, Verdict};
use smtp2signl4::rules::{Judgement, RuleSet, Subject, shipped};

/// Judges a mail by the shipped rules and those of the site, whose config has these lines.
fn judge(config: &str, own: &str, envelope: &Envelope, mail: &str) -> Judgement {
    let config = config::parse(None, &Source::new("c.toml", config)).expect("the config loads");
    let mut sources = shipped();
    if !own.is_empty() {
        sources.push(Source::new("own.toml", format!("version = 1\n[source]\nname = 'own'\n{own}")));
    }
    let rules = RuleSet::load(&sources, config.site()).expect("the rules load");
    let message = Message::parse(mail.as_bytes());
    let subject = Subject { message: &message, envelope, team: "soc" };
    let judgement = rules.judge(&subject);
    assert_eq!(judgement.events, rules.judge_traced(&subject).events, "a trace changes nothing");
    for event in &judgement.events {
        assert_eq!(event.identity.trust, rules.standing(&message, envelope).trust, "one word on trust");
    }
    judgement
}

/// The one event of a mail.
fn event(config: &str, own: &str, envelope: &Envelope, mail: &str) -> Event {
    let mut events = judge(config, own, envelope, mail).events;
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

fn from(client: &str) -> Envelope {
    let mut envelope = Envelope::default();
    envelope.client.address = Some(client.parse().expect("it is an address"));
    envelope
}

fn inside() -> Envelope {
    from("10.1.2.3")
}

fn outside() -> Envelope {
    from("203.0.113.9")
}

/// A mail from outside that is proven to be from `domain`.
fn proven(domain: &str) -> Envelope {
    let found = Authenticity {
        dkim: Verdict::Pass,
        dmarc: Verdict::Pass,
        proven: Some(domain.to_owned()),
        ..Authenticity::default()
    };
    Envelope { authenticity: Some(Box::new(found)), ..outside() }
}

const YOURS: &str = "[rules]\nclosing-domains = ['mon.example']\n";

/// A Nagios mail about the host web01.
fn nagios(kind: &str, state: &str) -> String {
    format!(
        "From: Nagios <nagios@mon.example>\nTo: soc@gw.example\nDate: Fri, 20 Nov 2026 17:04:05 +0000\n\
         Subject: ** {kind} Host Alert: web01 is {state} **\n\n***** Nagios *****\n\nNotification Type: {kind}\n\
         Host: web01\nState: {state}\nAddress: 192.0.2.1\nInfo: PING\n"
    )
}

#[test]
fn a_mail_from_outside_closes_only_if_it_is_proven() {
    let recovery = nagios("RECOVERY", "UP");
    let outcome = |config: &str, envelope: &Envelope, mail: &str| {
        let event = event(config, "", envelope, mail);
        assert_eq!(event.external_id.as_deref(), Some("nagios:web01"), "the key is that of the alert");
        let told = event.message.starts_with("This mail would close the alert, but");
        assert_eq!(told, event.status == Status::New, "{}", event.message);
        (event.identity.trust, event.status)
    };
    let closes = |trust| (trust, Status::Resolved);
    let pages = (Trust::Stranger, Status::New);

    assert_eq!(outcome("", &inside(), &recovery), closes(Trust::Trusted));
    assert_eq!(outcome("", &outside(), &recovery), pages);
    // DKIM and DMARC prove the domain in From, and it must be one of the site's: by default none is.
    assert_eq!(outcome("", &proven("mon.example"), &recovery), pages);
    assert_eq!(outcome(YOURS, &proven("mon.example"), &recovery), closes(Trust::Proven));
    assert_eq!(outcome(YOURS, &proven("evil.example"), &recovery), pages);
    let case = recovery.replace("@mon.", "@MON.");
    assert_eq!(outcome(YOURS, &proven("mon.example"), &case), closes(Trust::Proven));
    let sub = recovery.replace("@mon.", "@sub.mon.");
    assert_eq!(outcome(YOURS, &proven("mon.example"), &sub), pages, "another than the proven domain");
    assert_eq!(outcome(YOURS, &proven("sub.mon.example"), &sub), closes(Trust::Proven), "one below");
    let two = recovery.replace("From: ", "From: a@evil.example, ");
    assert_eq!(outcome(YOURS, &proven("mon.example"), &two), pages);
    // A login or a client certificate proves it, but not that of a relay which had it from outside.
    let mut known = outside();
    known.client.user = Some("zabbix".into());
    assert_eq!(outcome("", &known, &recovery), closes(Trust::Proven));
    known.client.user = None;
    known.client.tls = Some(Tls { subject: Some("CN=zabbix".into()), ..Tls::default() });
    assert_eq!(outcome("", &known, &recovery), closes(Trust::Proven));
    known.client.tls = Some(Tls::default());
    assert_eq!(outcome("", &known, &recovery), pages, "encryption alone proves nothing");
    let mut relay = inside();
    relay.client.user = Some("relay".into());
    let relayed = format!("Received: from a (a [203.0.113.9]) by relay; now\n{recovery}");
    assert_eq!(outcome("", &relay, &recovery), closes(Trust::Trusted));
    assert_eq!(outcome("", &relay, &relayed), pages);
    relay.authenticity = proven("mon.example").authenticity;
    assert_eq!(outcome(YOURS, &relay, &relayed), closes(Trust::Proven));
}

#[test]
fn the_page_of_a_strangers_close_says_why_it_is_one() {
    let recovery = nagios("RECOVERY", "UP");
    let unknown = event(YOURS, "", &outside(), &recovery);
    let says = "This mail would close the alert, but nothing proves who sent it: the alert stays open.\n\n";
    assert!(unknown.message.starts_with(says) && unknown.message.len() > says.len(), "{}", unknown.message);
    let other = event("", "", &proven("mon.example"), &recovery);
    assert!(
        other.message.starts_with("This mail would close the alert, but the domain of its sender may not")
    );
    let story = judge("", "", &proven("mon.example"), &recovery).trace.story().to_string();
    let note =
        "status: new instead of resolved, as the sender is a stranger: it is proven to be from mon.example";
    assert!(story.contains(note), "{story}");

    let acknowledgement = event("", "", &outside(), &nagios("ACKNOWLEDGEMENT", "DOWN"));
    assert_eq!(acknowledgement.status, Status::New);
    assert!(acknowledgement.message.starts_with("This mail would acknowledge the alert, but nothing proves"));
    // Also where the text may not leave.
    let labelled = event("[rules]\ntlp-limit = 'green'\n", "", &outside(), &format!("{recovery}TLP:RED\n"));
    assert!(labelled.message.starts_with("This mail would close") && !labelled.message.contains("PING"));
    // What pages anyway is as it was.
    assert!(!event("", "", &outside(), &nagios("PROBLEM", "DOWN")).message.contains("This mail would"));
}

#[test]
fn a_strangers_severity_is_capped_unless_the_site_set_it() {
    let problem = nagios("PROBLEM", "DOWN");
    let severity =
        |config: &str, own: &str, envelope: &Envelope| event(config, own, envelope, &problem).severity;
    let own = "[[rule]]\nname = 'a'\nset = { severity = 'critical' }\n";
    let instead = "[[rule]]\nname = 'a'\noverride = 'Nagios: the state of a host or service'\n\
                   set = { title = '{{ subject }}', severity = 'critical' }\n";
    let cap = |word: &str| format!("[rules]\nstranger-severity = '{word}'\n");
    assert_eq!(severity("", "", &inside()), Some(Severity::Critical));
    assert_eq!(severity(YOURS, "", &proven("mon.example")), Some(Severity::Critical));
    assert_eq!(severity("", "", &outside()), Some(Severity::Medium));
    assert_eq!(severity(&cap("low"), "", &outside()), Some(Severity::Low));
    assert_eq!(severity(&cap("off"), "", &outside()), Some(Severity::Critical));
    assert_eq!(severity("", own, &outside()), Some(Severity::Critical), "the site's own word");
    assert_eq!(severity("", instead, &outside()), Some(Severity::Critical), "in the place of a shipped rule");
    // What has no severity ranks as medium.
    let plain = "From: a@evil.example\nSubject: hello\n\nhello\n";
    assert_eq!(event("", "", &outside(), plain).severity, None);
    assert_eq!(event(&cap("low"), "", &outside(), plain).severity, Some(Severity::Low));
    // How it pages follows the capped severity.
    let paging = "[rules.severity]\ncritical = { scenario = 'emergency' }\n";
    assert!(event(paging, "", &inside(), &problem).scenario.is_some());
    assert_eq!(event(paging, "", &outside(), &problem).scenario, None);
    let story = judge("", "", &outside(), &problem).trace.story().to_string();
    assert!(story.contains("severity: medium instead of critical, the highest for a stranger"), "{story}");
}

#[test]
fn an_event_knows_which_source_its_key_is_of() {
    let problem = nagios("PROBLEM", "DOWN");
    let of = |config: &str, own: &str, mail: &str| event(config, own, &inside(), mail).identity;
    let nagios = of("", "", &problem);
    assert_eq!((nagios.trust, nagios.key_source), (Trust::Trusted, KeySource::Shipped));
    assert_eq!((nagios.family.as_deref(), nagios.form.as_deref()), (Some("Nagios"), Some("Nagios")));
    assert_eq!((nagios.instance.as_str(), nagios.domain.as_str()), ("nagios@mon.example", "mon.example"));
    assert_eq!(nagios.sent_at, "2026-11-20T17:04:05Z".parse().ok());

    // The mailbox is one whatever its letters, the config may name several as one, and a rule has the last word.
    assert_eq!(of("", "", &problem.replace("nagios@mon", "Nagios@MON")).instance, "nagios@mon.example");
    let named = "[rules.instances]\n'nagios@mon.example' = 'berlin'\n'*@mon.example' = 'elsewhere'\n";
    assert_eq!(of(named, "", &problem).instance, "berlin");
    assert_eq!(of(named, "", &problem.replace("nagios@", "two@")).instance, "elsewhere");
    let ruled = "[[rule]]\nname = 'a'\nwhen = { text = '^Address: (?<address>\\S+)' }\nset = { instance = 'at {{ address }}' }\n";
    assert_eq!(of(named, ruled, &problem).instance, "at 192.0.2.1");

    // A rule of the site's own gives the key in its own name; a mail without any has a guess.
    let own = "[[rule]]\nname = 'a'\nset = { external-id = 'k' }\n";
    assert_eq!(of("", own, &problem).key_source, KeySource::Site);
    assert_eq!(of("", "", "From: a@b.example\nSubject: hello\n\nhello\n").key_source, KeySource::Guess);
    let hive = "From: TheHive <hive@soc.example>\nSubject: [Case #7] Phishing\nContent-Type: multipart/mixed; \
                boundary=\"===============1234==\"\n\n--===============1234==\n\nx\n--===============1234==--\n";
    let cortex = of("", "", hive);
    assert_eq!((cortex.family.as_deref(), cortex.form.as_deref()), (Some("TheHive"), Some("Cortex Mailer")));
}

#[test]
fn parameters_in_a_body_speak_for_themselves_alone() {
    let lines = "X-S4-ExternalID: nagios:web01\nX-S4-Status: resolved\n";
    let form = format!("From: form@intra.example\nSubject: Contact\n\nName: x\n{lines}");
    let plain = event("", "", &inside(), &form);
    // Where no product is known they count, and close what they have opened.
    assert_eq!((plain.status, plain.identity.key_source), (Status::Resolved, KeySource::Parameters));
    let mut head = format!("X-S4-ExternalID: nagios:web01\n{form}");
    assert_eq!(event("", "", &inside(), &head).identity.key_source, KeySource::Parameters);
    // In the mail of a product they do not, unless the site names its sender.
    let cron = |from: &str| format!("From: {from}\nSubject: Cron <root@web01> backup\n\n{lines}");
    let named = "[rules]\nparameter-senders = ['root@web01.example']\n";
    for (config, from, status) in [
        ("", "Cron Daemon <root@web01.example>", Status::New),
        (named, "Cron Daemon <root@web01.example>", Status::Resolved),
        (named, "Cron Daemon <root@web02.example>", Status::New),
    ] {
        let event = event(config, "", &inside(), &cron(from));
        assert_eq!(event.status, status, "{config} {from}");
        let of_parameters = event.identity.key_source == KeySource::Parameters;
        assert_eq!(of_parameters, status == Status::Resolved, "{config} {from}");
    }
    // A status of the parameters under the key of a product closes what parameters have opened, and no alert of its.
    head = format!("X-S4-Status: resolved\n{}", nagios("PROBLEM", "DOWN"));
    let mixed = event("", "", &inside(), &head);
    assert_eq!(mixed.external_id.as_deref(), Some("nagios:web01"));
    assert_eq!((mixed.status, mixed.identity.key_source), (Status::Resolved, KeySource::Parameters));
    // Of a stranger nothing of it counts.
    assert_ne!(event("", "", &outside(), &form).external_id.as_deref(), Some("nagios:web01"));
}
