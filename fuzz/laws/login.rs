//! The law of AUTH (RFC 4954).

use base64ct::{Base64, Encoding};
use smtp2signl4::smtp;
use smtp2signl4::smtp::auth::Login;
use smtp2signl4::smtp::logins::LoginVerdict;

use super::session::{LENIENT, LMTP, PUBLIC, SAFE, at_listener};
use super::talk::{Talk, by_chance, same_however_cut, start, talk, whole};

/// A password that nothing else can be taken for. It is right.
const PASSWORD: &str = "right-horse-battery-staple";

/// The longest name and password of which the messages fit into a line.
const LONGEST: usize = 3000;

/// Any dialogue goes on around AUTH, in which the byte 1 stands for a right message of PLAIN and the byte 2 for
/// a right password of LOGIN. Nobody is logged in whom the verifier did not find right, each line has one
/// reply, a line that was asked for is never a command, and no password comes out.
///
/// Any name and any password come to the verifier as they are, and what is said depends on no more of them
/// than its verdict.
pub fn auth(input: &[u8]) {
    let (mut config, script) = at_listener(input, LMTP | LENIENT | PUBLIC | SAFE);
    config.max_errors = 20;
    let listener = &mut config.listeners[0];
    (listener.auth, listener.auth_without_tls, listener.require_auth) = (true, true, true);

    let (plain, password) = (base64(&format!("\0hive\0{PASSWORD}")), base64(PASSWORD));
    let mut dialogue = Vec::new();
    for byte in script {
        match byte {
            1 => dialogue.extend_from_slice(plain.as_bytes()),
            2 => dialogue.extend_from_slice(password.as_bytes()),
            other => dialogue.push(*other),
        }
    }
    let talk = same_however_cut(&config, &dialogue);
    for secret in [PASSWORD, &plain, &password] {
        assert!(!talk.said.contains(secret), "a password comes out");
    }
    for (envelope, _) in &talk.mails {
        let user = envelope.client.user.as_ref().expect("a mail without a login");
        let is_right =
            |(login, found): &(Login, LoginVerdict)| login.name == *user && *found == LoginVerdict::Right;
        assert!(talk.logins.iter().any(is_right), "logged in as another");
    }
    line_by_line(&config, &dialogue);

    let text = String::from_utf8_lossy(&input[..input.len().min(LONGEST / 3)]).replace('\0', "");
    let (name, password) = text.split_once('\n').unwrap_or(("hive", &text));
    comes_as_it_is(&config, name, password);
}

fn base64(text: &str) -> String {
    Base64::encode_string(text.as_bytes())
}

/// After each 334 comes a line of the login, whatever it looks like; 235 comes with a verdict and only then.
fn line_by_line(config: &smtp::Config, dialogue: &[u8]) {
    let mut session = start(config);
    let mut talk = Talk::default();
    talk.hear(&mut session, b"");
    let mut asked = false;
    let mut line = Vec::new();
    for byte in dialogue {
        let (said, logins) = (talk.said.len(), talk.logins.len());
        line.push(*byte);
        let replies = talk.hear(&mut session, &[*byte]);
        let Some(code) = talk.said[said..].get(..3) else {
            assert!(!(asked && *byte == b'\n') || talk.closed.is_some(), "a line of a login has no reply");
            continue;
        };
        let found = talk.logins[logins..].iter().any(|(_, found)| *found == LoginVerdict::Right);
        assert_eq!(code == "235", found, "logged in by another than the verifier");
        if asked {
            assert_eq!((replies, *byte), (1, b'\n'), "a reply, but not to a line");
            // Gone on, in, malformed or cancelled, refused, not looked at, too long, closed.
            let known = ["334", "235", "501", "535", "454", "500", "421"];
            assert!(known.contains(&code), "a line of a login is a command: {code}");
        }
        if code == "334" && !asked {
            assert!(line.trim_ascii_start().to_ascii_uppercase().starts_with(b"AUTH"), "a login unasked");
        }
        asked = code == "334";
        line.clear();
    }
}

/// In each way to say it, the login comes to the verifier, and the verdict to the client and nothing else.
fn comes_as_it_is(config: &smtp::Config, name: &str, password: &str) {
    for (said, same) in logins(name, password).iter().zip(logins("hive", like(password))) {
        let found = talk(config, &by_chance(said.as_bytes()));
        let [(login, verdict)] = &found.logins[..] else {
            panic!("{} logins come of one", found.logins.len())
        };
        assert_eq!((login.name.as_str(), login.password.expose()), (name, password), "the login is another");
        let other = talk(config, &whole(same.as_bytes()));
        assert_eq!(Some(verdict), other.logins.first().map(|(_, verdict)| verdict));
        assert_eq!(found.said, other.said, "more than the verdict is said");
    }
}

/// What a client says to log in, by each mechanism, with and without an initial response.
fn logins(name: &str, password: &str) -> [String; 4] {
    let plain = base64(&format!("\0{name}\0{password}"));
    let (name, password) = (base64(name), base64(password));
    // An empty one is an equals sign (RFC 4954 section 4).
    let initial = if name.is_empty() { "=" } else { &name };
    [
        format!("AUTH PLAIN {plain}\r\nQUIT\r\n"),
        format!("AUTH PLAIN\r\n{plain}\r\nQUIT\r\n"),
        format!("AUTH LOGIN {initial}\r\n{password}\r\nQUIT\r\n"),
        format!("AUTH LOGIN\r\n{name}\r\n{password}\r\nQUIT\r\n"),
    ]
}

/// A password that is found to be what `password` is.
fn like(password: &str) -> &'static str {
    match password.as_bytes().first() {
        Some(b'r') => "right",
        Some(b'w') => "wrong",
        Some(b'm') => "many",
        _ => "later",
    }
}
