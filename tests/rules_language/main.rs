//! The laws of the rule language (`rules/README.md`), one line each: a rule file, a mail, what comes of it.

use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, Severity};
use smtp2signl4::mail::{Client, Envelope, Message, Origin};
use smtp2signl4::rules::{Config, Judgement, Paging, RuleSet, Site, Subject, Tlp};

/// A site with two teams and two colours.
fn site() -> Site {
    let colors = [("red", "Critical"), ("blue", "Information")].map(|(c, s)| (c.to_owned(), s.to_owned()));
    Config::default().site(colors.into(), vec!["soc".into(), "net".into()])
}

fn source(name: &str, rules: &str) -> Source {
    let head =
        if rules.contains("[source]") { String::new() } else { format!("[source]\nname = \"{name}\"\n") };
    let at = rules.find("[[").or(rules.find("[off]")).unwrap_or(rules.len());
    let (own_head, rest) = rules.split_at(at);
    Source::new(format!("{name}.toml"), format!("version = 1\n{own_head}{head}{rest}"))
}

fn load(files: &[&str], site: Site) -> RuleSet {
    let sources: Vec<_> =
        files.iter().enumerate().map(|(at, text)| source(&format!("t{at}"), text)).collect();
    RuleSet::load(&sources, site).unwrap_or_else(|found| {
        panic!("{}", found.iter().map(|d| format!("{d}\n")).collect::<String>());
    })
}

fn envelope() -> Envelope {
    Envelope {
        received_at: "2026-11-20T17:04:05Z".parse().expect("it is a time"),
        origin: Origin::Smtp,
        client: Client {
            address: Some("10.1.2.3".parse().expect("it is an address")),
            helo: "h".into(),
            user: None,
            ..Client::default()
        },
        reverse_path: "bounce@a.example".into(),
        recipients: vec!["soc+red@gw.example".into()],
        ..Envelope::default()
    }
}

fn judge_with(files: &[&str], mail: &str, site: Site, envelope: &Envelope) -> Judgement {
    let message = Message::parse(mail.as_bytes());
    let rules = load(files, site);
    let subject = Subject { message: &message, envelope, team: "soc" };
    let judgement = rules.judge(&subject);
    let traced = rules.judge_traced(&subject);
    assert_eq!(judgement.events, traced.events, "a trace changes nothing");
    assert_eq!(judgement.dropped, traced.dropped, "a trace changes nothing");
    assert_eq!(judgement.events.is_empty(), judgement.dropped.is_some(), "events are none only if dropped");
    judgement
}

fn judge(files: &[&str], mail: &str) -> Judgement {
    judge_with(files, mail, site(), &envelope())
}

fn value(event: &Event, field: &str) -> String {
    match field {
        "team" => event.team.clone(),
        "title" => event.title.clone(),
        "message" => event.message.clone(),
        "status" => event.status.to_string(),
        "external-id" => event.external_id.clone().unwrap_or_default(),
        "service" => event.service.clone().unwrap_or_default(),
        "color" => event.color.clone().unwrap_or_default(),
        "severity" => event.severity.map(|s| s.to_string()).unwrap_or_default(),
        "scenario" => event.scenario.map(|s| s.to_string()).unwrap_or_default(),
        "location" => event.location.clone().unwrap_or_default(),
        "source-system" => event.source_system.clone().unwrap_or_default(),
        tile => event.fields.iter().find(|(n, _)| n == tile).map(|(_, v)| v.clone()).unwrap_or_default(),
    }
}

/// The mail raises one event whose fields are these.
macro_rules! raises {
    ([$($rules:expr),+ $(,)?], $mail:expr => $($field:literal = $value:expr),+ $(,)?) => {{
        let judgement = judge(&[$($rules),+], $mail);
        assert_eq!(judgement.events.len(), 1, "one event: {:?}", judgement.dropped);
        $(assert_eq!(value(&judgement.events[0], $field), $value, "{}", $field);)+
    }};
    ($rules:expr, $mail:expr => $($rest:tt)+) => { raises!([$rules], $mail => $($rest)+) };
}

/// The mail is dropped for this reason.
macro_rules! drops {
    ([$($rules:expr),+], $mail:expr => $reason:expr) => {
        assert_eq!(judge(&[$($rules),+], $mail).dropped.expect("the mail is dropped").reason, $reason)
    };
}

/// The files are refused, with these errors.
macro_rules! refuses {
    ([$($rules:expr),+ $(,)?], $($error:literal),+ $(,)?) => {{
        let files = [$($rules),+];
        let sources: Vec<_> =
            files.iter().enumerate().map(|(at, text)| source(&format!("t{at}"), text)).collect();
        let found = RuleSet::load(&sources, site()).expect_err("the files are refused");
        let found: Vec<_> =
            found.iter().map(|d| format!("{}:{}:{}: {}", d.path, d.line, d.column, d.message)).collect();
        assert_eq!(found, [$($error),+]);
    }};
}

const MAIL: &str = "Subject: web01 is DOWN\nFrom: Nagios <nagios@mon.example>\nTo: soc@gw.example\n\nHost: web01\nState: DOWN\nLoad: 97.5 %\nSrc IP: 203.0.113.9\n";

/// A rule that sets the title to `yes` when `$when` holds.
fn titled(when: &str) -> String {
    format!("[[rule]]\nname = 'a'\nwhen = {{ {when} }}\nset = {{ title = 'yes' }}\n")
}

macro_rules! holds {
    ($($when:expr),+ $(,)?) => {$(assert_eq!(judge(&[&titled($when)], MAIL).events[0].title, "yes", "{}", $when);)+};
}

macro_rules! fails {
    ($($when:expr),+ $(,)?) => {$(assert_eq!(judge(&[&titled($when)], MAIL).events[0].title, "web01 is DOWN", "{}", $when);)+};
}

mod senders;

#[test]
fn a_condition_says_what_must_be() {
    holds!(
        "subject = 'DOWN$'",
        "text = '^State: DOWN$'",
        "from = '^nagios@mon\\.example$'",
        "from-name = '^Nagios$'",
        "to = { equals = 'SOC@gw.example' }",
        "sender = '^bounce@'",
        "recipient = '\\+red@'",
        "header.FROM = 'Nagios <'",
        "client = { in = '10.0.0.0/8' }",
        "client = { in = ['192.0.2.0/24', '10.1.2.3'] }",
        "team = { equals = 'soc' }",
        "trusted = true",
        "encrypted = false",
        "size = { above = 100, below = 1000 }",
        "subject = { any-word = ['up', 'down'] }",
        "subject = { all-words = ['down', 'web01'] }",
        "text = { any-word = 'src ip' }",
        "cc = { present = false }",
        "subject = { present = true }",
        "received = { between = ['17:00', '18:00'] }",
        "received = { between = ['18:00', '19:00'], zone = 'Europe/Berlin' }",
        "received = { days = ['fri'] }",
        "text = '^Load: (?<load>.+)$', load = { at-least = 97.5 }",
        "text = '^Src IP: (?<ip>.+)$', ip = { in = '203.0.113.0/24' }",
        "subject = '(?<what>\\w+) is (?<state>\\w+)', state = { equals = ['UP', 'DOWN'] }",
        "any = [{ subject = 'UP' }, { subject = 'DOWN' }]",
        "all = [{ subject = 'web' }, { subject = 'DOWN' }]",
        "not = { subject = 'UP' }",
        "not = { any = [{ subject = 'UP' }, { not = { subject = 'DOWN' } }] }",
        "event.status = { equals = 'new' }",
        "event.title = { present = false }",
    );
    fails!(
        "subject = 'down'",
        "subject = { any-word = ['own', 'web'] }",
        "subject = { all-words = ['down', 'up'] }",
        "from = 'Nagios'",
        "client = { in = '192.0.2.0/24' }",
        "text = '^Load: (?<load>.+)$', load = { above = 97.5 }",
        "text = { at-least = 1 }",
        "any = [{ subject = 'UP' }, { subject = 'OK' }]",
        "not = { subject = 'DOWN' }",
        "received = { days = ['sat', 'sun'] }",
        "received = { between = ['17:05', '17:00'], days = ['fri'] }",
        "header.x-spam = { present = true }",
        "user = '.'",
        "subject = 'DOWN', text = 'UP'",
    );
}

#[test]
fn a_capture_is_a_field_from_there_on() {
    raises!("[source]\nname = 's'\nwhen = { subject = '^(?<host>\\S+) is (?<state>\\S+)$' }\n[[rule]]\nname = 'a'\nwhen = { state = '^D(?<rest>.*)$' }\nset = { title = '{{ host }}/{{ rest }}' }\n",
        MAIL => "title" = "web01/OWN");
    raises!("[[rule]]\nname = 'a'\nwhen = { subject = '^(?<host>\\S+)' }\n[[rule]]\nname = 'b'\nwhen = { host = 'web' }\nset = { title = 'on {{ host }}' }\n",
        MAIL => "title" = "on web01");
    // Not in another file, where the same name is another thing.
    raises!(["[[rule]]\nname = 'a'\nwhen = { subject = '^(?<host>\\S+)' }\n", "[[rule]]\nname = 'b'\nwhen = { text = '^State: (?<host>.+)$' }\nset = { title = '{{ host }}' }\n"],
        MAIL => "title" = "DOWN");
    // What a failed condition or a `not` captured is not there.
    raises!("[[rule]]\nname = 'a'\nwhen = { subject = '^(?<host>\\S+)', text = 'nowhere' }\n[[rule]]\nname = 'b'\nset = { title = \"{{ host | default('none') }}\" }\n",
        MAIL => "title" = "none");
    raises!("[[rule]]\nname = 'a'\nwhen = { any = [{ subject = '^(?<a>web)01 is UP' }, { subject = '(?<b>DOWN)' }] }\nset = { title = \"{{ a | default('-') }}{{ b | default('-') }}\" }\n",
        MAIL => "title" = "-DOWN");
}

#[test]
fn the_later_set_wins_field_by_field() {
    raises!("[[rule]]\nname = 'a'\nset = { title = 'first', service = 'A' }\n[[rule]]\nname = 'b'\nwhen = { subject = 'DOWN' }\nset = { title = 'second' }\n",
        MAIL => "title" = "second", "service" = "A");
    raises!(["[[rule]]\nname = 'a'\nset = { title = 'shipped' }\n", "[[rule]]\nname = 'a'\nset = { title = 'own' }\n"],
        MAIL => "title" = "own");
    raises!("[[rule]]\nname = 'a'\nset = { title = 'first' }\n[[rule]]\nname = 'b'\nwhen = { subject = 'DOWN' }\nset = { title = '{{ event.title }} second' }\n",
        MAIL => "title" = "first second");
}

#[test]
fn a_file_whose_source_does_not_hold_says_nothing() {
    raises!("[source]\nname = 's'\nwhen = { subject = 'UP' }\n[[rule]]\nname = 'a'\nset = { title = 'no' }\n",
        MAIL => "title" = "web01 is DOWN");
}

#[test]
fn stop_ends_its_file_and_no_other() {
    raises!(["[[rule]]\nname = 'a'\nwhen = { subject = 'DOWN' }\nstop = true\nset = { service = 'A' }\n[[rule]]\nname = 'b'\nset = { service = 'B' }\n", "[[rule]]\nname = 'c'\nset = { title = 'C' }\n"],
        MAIL => "service" = "A", "title" = "C");
}

#[test]
fn a_drop_has_a_reason_and_only_keep_takes_it_back() {
    let drop = "[[rule]]\nname = 'a'\nwhen = { subject = 'DOWN' }\ndrop = 'we know'\n";
    drops!([drop], MAIL => "we know");
    drops!([drop, "[[rule]]\nname = 'b'\nset = { title = 'b' }\n"], MAIL => "we know");
    raises!([drop, "[[rule]]\nname = 'b'\nkeep = true\n"], MAIL => "title" = "web01 is DOWN");
    raises!(["[[rule]]\nname = 'b'\nkeep = true\n", "[[rule]]\nname = 'c'\nset = { service = 'x' }\n"], MAIL => "service" = "x");
    drops!(["[[rule]]\nname = 'b'\nkeep = true\n", drop], MAIL => "we know");
}

#[test]
fn rules_of_other_files_are_switched_off_and_overridden_by_name() {
    let shipped = "[source]\nname = 'S'\nwhen = { subject = '^(?<host>\\S+)' }\n[[rule]]\nname = 'a'\nset = { title = 'A', service = 'A' }\n[[rule]]\nname = 'b'\nwhen = { subject = 'DOWN' }\nset = { title = 'B' }\n";
    raises!([shipped, "[off]\nrules = ['S: b']\n"], MAIL => "title" = "A", "service" = "A");
    raises!([shipped, "[off]\nrules = 'S'\n"], MAIL => "title" = "web01 is DOWN", "service" = "");
    // In the place of the other rule, and with the names of its file.
    raises!([shipped, "[[rule]]\nname = 'mine'\noverride = 'S: a'\nset = { title = '{{ host }}', service = '{{ host }}' }\n"],
        MAIL => "title" = "B", "service" = "web01");
}

#[test]
fn a_set_that_comes_out_empty_sets_nothing() {
    raises!("[[rule]]\nname = 'a'\nset = { title = 'A' }\n[[rule]]\nname = 'b'\nwhen = { text = '^Nothing:(?<n>.*)$|Host' }\nset = { title = \"{{ n | default('') }}\" }\n",
        MAIL => "title" = "A");
}

#[test]
fn a_word_that_is_none_sets_nothing() {
    raises!("[[rule]]\nname = 'a'\nwhen = { text = '^State: (?<s>.+)$' }\nset = { status = '{{ s }}', severity = '{{ s }}', location = '{{ s }}', external-id = 'x' }\n",
        MAIL => "status" = "new", "severity" = "", "location" = "");
}

#[test]
fn let_makes_names_and_tables_map_values() {
    raises!("[table.sev]\nDOWN = 'critical'\n[[rule]]\nname = 'a'\nwhen = { text = '^State: (?<s>.+)$' }\nlet = { sev = \"{{ s | map('sev') | default('low') }}\" }\nset = { severity = '{{ sev }}', tile.State = '{{ s | lower }}' }\n",
        MAIL => "severity" = "critical", "State" = "down");
}

#[test]
fn teams_fan_out() {
    let judgement = judge(&["[[rule]]\nname = 'a'\nset = { team = ['soc', 'net', 'soc'] }\n"], MAIL);
    let teams: Vec<_> = judgement.events.iter().map(|event| event.team.as_str()).collect();
    assert_eq!(teams, ["soc", "net"]);
}

#[test]
fn a_colour_is_the_service_that_has_it_and_the_later_word_counts() {
    raises!("[[rule]]\nname = 'a'\nset = { color = 'red' }\n", MAIL => "service" = "Critical", "color" = "red");
    raises!("[[rule]]\nname = 'a'\nset = { color = 'red', service = 'Mine' }\n", MAIL => "service" = "Mine");
    raises!(["[[rule]]\nname = 'a'\nset = { service = 'Mine' }\n", "[[rule]]\nname = 'b'\nset = { color = 'blue' }\n"],
        MAIL => "service" = "Information");
    raises!("[[rule]]\nname = 'a'\nwhen = { text = '^State: (?<s>.+)$' }\nset = { color = '{{ s }}' }\n", MAIL => "service" = "", "color" = "DOWN");
}

#[test]
fn severity_pages_by_the_sites_table_where_the_rules_do_not_say() {
    let mut site = site();
    let paging = Paging {
        service: None,
        color: Some("red".into()),
        scenario: Some(smtp2signl4::event::Scenario::MultiAck),
    };
    site.severities = vec![(Severity::High, paging)];
    let high = "[[rule]]\nname = 'a'\nset = { severity = 'high' }\n";
    let event = &judge_with(&[high], MAIL, site.clone(), &envelope()).events[0];
    assert_eq!(
        [value(event, "service"), value(event, "color"), value(event, "scenario")],
        ["Critical", "red", "multi_ack"]
    );
    let own = "[[rule]]\nname = 'b'\nset = { service = 'Mine', scenario = 'single_ack' }\n";
    let event = &judge_with(&[high, own], MAIL, site, &envelope()).events[0];
    assert_eq!([value(event, "service"), value(event, "scenario")], ["Mine", "single_ack"]);
}

#[test]
fn nothing_is_lost_where_no_rule_speaks() {
    let none = "[[rule]]\nname = 'a'\nwhen = { subject = 'x' }\nset = { title = 'x' }\n";
    raises!(none, MAIL => "title" = "web01 is DOWN", "status" = "new", "team" = "soc");
    raises!(none, "From: a@b.example\n\n" => "title" = "Mail from a@b.example (no subject)", "message" = "A mail without text from a@b.example.");
    raises!(none, "" => "title" = "Mail from bounce@a.example (no subject)");
    raises!(none, "Subject: ...\nFrom: misp@a.example\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x\n\n--x\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--x\nContent-Type: application/octet-stream\n\n-----BEGIN PGP MESSAGE-----\n--x--\n"
        => "title" = "Encrypted mail from misp@a.example");
}

#[test]
fn what_closes_without_a_key_is_a_page() {
    let close = "[[rule]]\nname = 'a'\nset = { status = 'resolved' }\n";
    raises!(close, MAIL => "status" = "new");
    raises!(&close.replace("resolved", "acknowledged"), MAIL => "status" = "new");
    raises!("[[rule]]\nname = 'a'\nset = { status = 'resolved', external-id = 'k' }\n", MAIL => "status" = "resolved", "external-id" = "k");
    // A key that cannot be made is no key.
    raises!("[[rule]]\nname = 'a'\nwhen = { text = '^Id: (?<id>.*)$|Host' }\nset = { status = 'resolved', external-id = \"{{ id | default('') }}\" }\n", MAIL => "status" = "new");
}

#[test]
fn captures_are_data() {
    let echo = "[[rule]]\nname = 'a'\nwhen = { subject = '^(?<s>.*)$' }\nset = { title = '{{ s }}', tile.S = '{{ s | upper }}' }\n";
    raises!(echo, "Subject: {{ 7 * 7 }} {% if x %} <b>\n\n" => "title" = "{{ 7 * 7 }} {% if x %} <b>");
    raises!(echo, "Subject: =?utf-8?q?a=E2=80=AEb?=\n\n" => "title" = "a⟨U+202E⟩b");
}

#[test]
fn a_mail_of_several_alerts_is_an_event_for_each() {
    let split = "[source]\nname = 's'\nwhen = { subject = '^W' }\nsplit = '^Alert '\n[[rule]]\nname = 'a'\nwhen = { text = '^Alert (?<n>\\d+) (?<what>\\w+)' }\nset = { title = '{{ what }}', external-id = 'w:{{ n }}' }\n[[rule]]\nname = 'd'\nwhen = { text = 'noise' }\ndrop = 'noise'\n";
    let mail = "Subject: W\n\nHello\nAlert 1 one\nx\nAlert 2 two\nAlert 3 noise\n";
    let judgement =
        judge(&[split, "[[rule]]\nname = 'x'\nwhen = { text = 'one' }\nset = { service = 'One' }\n"], mail);
    let shown: Vec<_> = judgement
        .events
        .iter()
        .map(|e| {
            format!(
                "{} {} {} {}",
                e.title,
                value(e, "external-id"),
                value(e, "service"),
                e.message.replace('\n', "|")
            )
        })
        .collect();
    assert_eq!(shown, ["one w:1 One Hello|Alert 1 one|x", "two w:2  Alert 2 two"]);
    assert_eq!(judge(&[split], "Subject: W\n\nAlert 1 one\n").events.len(), 1);
    assert_eq!(judge(&[split], "Subject: W\n\nnothing\n").events.len(), 1);
    let keys = judge(
        &["[source]\nname = 's'\nsplit = '^Alert '\n[[rule]]\nname = 'a'\nset = { service = 'x' }\n"],
        mail,
    );
    assert_ne!(keys.events[0].external_id, keys.events[1].external_id, "pieces without a key stay apart");
}

#[test]
fn parameters_count_from_trusted_senders_in_lines_throughout() {
    let rules = "[source]\nname = 's'\nwhen = { trusted = true }\n[[rule]]\nname = 'b'\nparameters = 'body'\n[[rule]]\nname = 'h'\nparameters = 'headers'\n";
    let mail = "Subject: Server Down\nFrom: ops@a.example\n\nMessage: Server A2 is down.\nX-S4-ExternalID: 1234\nX-S4-Status: resolved\nRack: 7\nSeverity: High\n";
    raises!(rules, mail => "title" = "Server Down", "message" = "Server A2 is down.", "external-id" = "1234", "status" = "resolved", "Rack" = "7", "severity" = "high");
    raises!(rules, "Subject: a\nX-S4-ExternalID: 9\nX-S4-Status: acknowledged\n\nText\n" => "external-id" = "9", "status" = "acknowledged", "message" = "Text");
    raises!(rules, "Subject: a\n\nHello,\nX-S4-ExternalID: 9\n" => "message" = "Hello,\nX-S4-ExternalID: 9");
    raises!(rules, "Subject: a\n\nX-S4-ExternalID: 9\nX-S4-Status: closed\n" => "status" = "new", "external-id" = "9");
    // A site's own rules come after.
    raises!([rules, "[[rule]]\nname = 'mine'\nset = { external-id = 'mine' }\n"], mail => "external-id" = "mine");
}

#[test]
fn only_the_same_condition_makes_a_rule_above_useless() {
    let rules = |a: &str, b: &str| {
        format!(
            "[[rule]]\nname = 'a'\nwhen = {{ {a} }}\nset = {{ title = '1' }}\n[[rule]]\nname = 'b'\nwhen = {{ {b} }}\nset = {{ title = '2' }}\n"
        )
    };
    for (a, b) in [
        ("subject = 'disk full'", "subject = 'diskfull'"),
        ("subject = { equals = ['a or b'] }", "subject = { equals = ['a', 'b'] }"),
        ("received = { days = ['sat'] }", "received = { days = ['sun'] }"),
    ] {
        load(&[&rules(a, b)], site());
    }
    refuses!(
        [&rules("subject = 'disk full'", "subject   =   \"disk full\"")],
        "t0.toml:5:8: the rule is for nothing: `b` below always overrides it"
    );
}

#[test]
fn a_mail_above_the_tlp_limit_leaves_as_a_bare_notice() {
    let mut site = site();
    site.tlp_limit = Some(Tlp::Amber);
    let rules = "[[rule]]\nname = 'a'\nset = { title = 'secret', external-id = 'case:7', reference = 'Case #7', link = 'https://h/7', location = '1,2', tile.Victim = 'x' }\n";
    let event = |mail: &str| judge_with(&[rules], mail, site.clone(), &envelope()).events.remove(0);
    let red = event("Subject: TLP:RED victim is x\nFrom: hive@a.example\n\nx was hit\n");
    assert_eq!(red.title, "TLP:RED Case #7 from hive@a.example");
    let json = red.payload();
    for word in ["secret", "victim", "hit", "Victim", "1,2"] {
        assert!(!json.contains(word), "{word} leaves in {json}");
    }
    assert!(json.contains("case:7") && json.contains("https://h/7"));
    // What a rule says may only raise what is written.
    let lower = "[[rule]]\nname = 'a'\nset = { title = 'secret', tlp = 'green' }\n";
    let red = judge_with(&[lower], "Subject: TLP RED a\n\nx\n", site.clone(), &envelope()).events.remove(0);
    assert_eq!(value(&red, "TLP"), "red");
    assert!(!red.payload().contains("secret"));
    let amber = event("Subject: TLP:AMBER a\nFrom: hive@a.example\n\nx was hit\n");
    assert_eq!((amber.title.as_str(), value(&amber, "TLP").as_str()), ("secret", "amber"));
}

#[test]
fn what_is_redacted_leaves_nowhere() {
    let rules = "[[rule]]\nname = 'a'\nwhen = { text = '(?<l>password.*)' }\nset = { title = '{{ l }}', external-id = 'k {{ l }}', tile.L = '{{ l }}' }\n";
    let json = judge(&[rules], "Subject: a\n\npassword: hunter2\n").events[0].payload();
    assert!(!json.contains("hunter2"), "{json}");
    let id = |secret: &str| {
        judge(&[rules], &format!("Subject: a\n\npassword: {secret}\n")).events[0].external_id.clone()
    };
    assert_ne!(id("hunter2"), id("hunter3"), "keys stay apart");
}

#[test]
fn the_trace_tells_what_held_and_what_it_changed() {
    let rules = load(
        &[
            "[[rule]]\nname = 'a'\nwhen = { subject = '(?<host>web\\d+) is', text = 'UP' }\nset = { title = 'no' }\n[[rule]]\nname = 'b'\nwhen = { subject = 'is (?<s>\\w+)' }\nset = { title = '{{ s }}' }\nstop = true\n[[rule]]\nname = 'c'\nset = { service = 'c' }\n",
        ],
        site(),
    );
    let message = Message::parse(MAIL.as_bytes());
    let envelope = envelope();
    let subject = Subject { message: &message, envelope: &envelope, team: "soc" };
    let trace = serde_json::to_value(rules.judge_traced(&subject).trace).unwrap();
    let rule = |at: usize| &trace["pieces"][0]["sources"][0]["rules"][at];
    assert_eq!(rule(0)["outcome"], "failed");
    assert_eq!(
        rule(0)["conditions"][0]["matched"],
        serde_json::json!({ "text": "web01 is", "start": 0, "end": 8 })
    );
    assert_eq!(rule(0)["conditions"][1]["held"], false);
    assert_eq!(rule(1)["changes"][0], serde_json::json!({ "field": "title", "from": null, "to": "DOWN" }));
    assert_eq!(rule(2)["outcome"], "not-reached");
    assert_eq!(trace["pieces"][0]["origins"][0], serde_json::json!({ "field": "title", "by": "t0: b" }));
    assert_eq!(rules.judge(&subject).trace.story()["rules"], serde_json::json!(["t0: b"]));
}

#[test]
fn what_is_wrong_between_files_is_found() {
    let shipped = "[source]\nname = 'S'\nwhen = { subject = '^(?<host>\\S+)' }\n[[rule]]\nname = 'a'\nset = { title = '{{ host }}' }\n";
    refuses!([shipped, shipped], "t1.toml:3:8: the source `S` is in t0.toml already");
    refuses!([shipped, "[off]\nrules = ['S: b', 'S']\n"], "t1.toml:5:10: there is no rule `S: b`");
    refuses!(
        [shipped, "[[rule]]\nname = 'x'\noverride = 'S'\nset = { title = 'x' }\n"],
        "t1.toml:6:12: `S` is no rule of another file"
    );
    // An overriding rule has the names of the place where it runs, and its errors are where it is written.
    refuses!(
        [shipped, "[[rule]]\nname = 'x'\noverride = 'S: a'\nset = { title = '{{ hots }}' }\n"],
        "t1.toml:7:21: unknown name `hots`"
    );
    refuses!(
        [
            "[[rule]]\nname = 'a'\nwhen = { subjct = 'x' }\nset = { title = 'x' }\n",
            "[[rule]]\nname = 'a'\nset = { titel = 'x' }\n"
        ],
        "t0.toml:6:10: unknown field `subjct`",
        "t1.toml:6:9: nothing of an event is called `titel`"
    );
}

#[test]
fn a_file_of_a_monitoring_system_reads_as_one_would_write_it() {
    let nagios = r#"
[source]
name = "Nagios"
when = { subject = '^\*\* (?<type>[A-Z]+) (?<kind>Host|Service) Alert: (?<object>.+) is (?<state>[A-Z]+) \*\*$' }

[[rule]]
name = "one key for an object"
set = { external-id = "nagios:{{ object }}" }

[[rule]]
name = "recovery closes the alert"
when = { type = '^RECOVERY$' }
set = { status = "resolved" }

[[rule]]
name = "critical pages everyone on duty"
when = { state = '^(CRITICAL|DOWN)$' }
set = { color = "red", scenario = "multi_ack", title = "{{ object }} is {{ state }}" }
"#;
    raises!(nagios, "Subject: ** PROBLEM Host Alert: web01 is DOWN **\n\n" => "title" = "web01 is DOWN", "status" = "new", "external-id" = "nagios:web01", "color" = "red", "service" = "Critical", "scenario" = "multi_ack");
    raises!(nagios, "Subject: ** RECOVERY Host Alert: web01 is UP **\n\n" => "status" = "resolved", "external-id" = "nagios:web01");
}
