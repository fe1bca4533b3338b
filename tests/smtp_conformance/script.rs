//! A session out of a file. The grammar is in `tests/README.md`.

use std::path::Path;

use super::over::Over;

/// A session out of a file.
#[derive(Debug)]
pub struct Script {
    pub name: String,
    /// Lines of the `[smtp]` section that the server gets.
    pub config: String,
    /// Lines of its `[[smtp.listener]]`.
    pub listener: String,
    /// The ways that it goes.
    pub over: Vec<Over>,
    pub steps: Vec<Step>,
    pub mails: Vec<Taken>,
}

/// A step of the client, or what the server must do.
#[derive(Debug)]
pub enum Step {
    Send(Vec<u8>),
    Handshake,
    Expect(Expected),
    ExpectClose,
    ExpectAlert,
    Close,
}

/// What a reply must be.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    codes: Vec<String>,
    enhanced: Option<String>,
    has: Vec<String>,
    lacks: Vec<String>,
    bare: bool,
}

/// A mail as a server took it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub content: Vec<u8>,
    /// What is known of the client, where the script asks.
    pub client: Option<String>,
}

/// Every session there is, by name.
pub fn all() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp");
    let mut found: Vec<Script> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            Script::read(name, &std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl Script {
    fn read(name: String, text: &str) -> Self {
        let mut script = Self {
            name,
            config: String::new(),
            listener: String::new(),
            over: Over::ALL.to_vec(),
            steps: Vec::new(),
            mails: Vec::new(),
        };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(setting) = line.strip_prefix("with ") {
                script.config += setting;
                script.config.push('\n');
            } else if let Some(setting) = line.strip_prefix("at ") {
                script.listener += setting;
                script.listener.push('\n');
            } else if let Some(ways) = line.strip_prefix("over ") {
                script.over = ways.split(", ").flat_map(Over::named).copied().collect();
            } else if let Some(ways) = line.strip_prefix("not over ") {
                let not: Vec<Over> = ways.split(", ").flat_map(Over::named).copied().collect();
                script.over.retain(|over| !not.contains(over));
            } else if line == "close" {
                script.steps.push(Step::Close);
            } else if line == "TLS" {
                script.steps.push(Step::Handshake);
            } else {
                script.repeated(line);
            }
        }
        script
    }

    fn repeated(&mut self, line: &str) {
        let (head, rest) = line.split_once(':').unwrap_or_else(|| panic!("{}: {line}", self.name));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let (letter, times) = head.split_once('*').unwrap_or((head, "1"));
        for _ in 0..times.parse().unwrap() {
            self.line(letter, rest);
        }
    }

    fn line(&mut self, letter: &str, rest: &str) {
        match letter {
            "C" => self.send(&[&unescape(rest)[..], b"\r\n"].concat()),
            "R" => self.send(&unescape(rest)),
            "S" if rest == "closed" => self.steps.push(Step::ExpectClose),
            "S" if rest == "alert" => self.steps.push(Step::ExpectAlert),
            "S" => self.steps.push(Step::Expect(Expected::read(rest))),
            "M" => {
                let (from, to) = rest.split_once(" -> ").unwrap();
                let path = |text: &str| text.trim_start_matches('<').trim_end_matches('>').to_owned();
                let to = to.split(", ").map(path).collect();
                self.mails.push(Taken { from: path(from), to, ..Taken::default() });
            }
            "D" => {
                let content = &mut self.mails.last_mut().unwrap().content;
                content.extend(unescape(rest));
                content.extend(b"\r\n");
            }
            "E" => self.mails.last_mut().unwrap().content.extend(unescape(rest)),
            "W" => self.mails.last_mut().unwrap().client = Some(rest.to_owned()),
            _ => panic!("{}: no step `{letter}`", self.name),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        match self.steps.last_mut() {
            Some(Step::Send(before)) => before.extend(bytes),
            _ => self.steps.push(Step::Send(bytes.to_vec())),
        }
    }
}

impl Expected {
    fn read(text: &str) -> Self {
        let mut words = text.split(' ');
        let codes = words.next().unwrap().split('|').map(str::to_owned).collect();
        let mut expected = Self { codes, ..Self::default() };
        while let Some(word) = words.next() {
            match word {
                "has" => expected.has.extend(words.next().map(str::to_owned)),
                "lacks" => expected.lacks.extend(words.next().map(str::to_owned)),
                "bare" => expected.bare = true,
                _ => expected.enhanced = Some(word.to_owned()),
            }
        }
        expected
    }

    /// # Errors
    /// What came instead.
    pub fn check(&self, lines: &[String]) -> Result<(), String> {
        let texts: Vec<&str> = lines.iter().map(|line| line.get(4..).unwrap_or("")).collect();
        let code = lines.iter().all(|line| self.codes.iter().any(|code| line.starts_with(code)));
        let begins =
            |text: &str, start: &str| text.split(' ').next().is_some_and(|w| w.eq_ignore_ascii_case(start));
        let some = |start: &String| texts.iter().any(|text| begins(text, start));
        let enhanced = self.enhanced.as_ref().is_none_or(|code| texts.iter().all(|text| begins(text, code)));
        let has = self.has.iter().all(some) && !self.lacks.iter().any(some);
        let has_code = |text: &str| {
            let word = text.split(' ').next().unwrap_or_default();
            word.split('.').count() == 3 && word.split('.').all(|part| part.parse::<u16>().is_ok())
        };
        let bare = !self.bare || (texts.len() == 1 && !has_code(texts[0]));
        if code && enhanced && has && bare { Ok(()) } else { Err(format!("wrong answer {lines:?}")) }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("no escape {other:?} in {text}"),
            },
            other => other,
        });
    }
    bytes
}
