//! A text that mail systems put into mails, as the site names it.

use regex::Regex;

/// A text that the site names: by its words, or by a pattern between slashes.
#[derive(Debug, Clone)]
pub(super) enum Mark {
    /// Words in lower case; blanks and line breaks between them do not count.
    Words(Vec<String>),
    /// What a pattern matches.
    Pattern(Regex),
}

impl Mark {
    /// Reads a mark as it is written in the config.
    ///
    /// # Errors
    /// What is wrong with it, in the words of an error.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Some(pattern) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'))
            && !pattern.is_empty()
        {
            return match Regex::new(pattern) {
                Ok(pattern) if pattern.is_match("") => Err("this pattern matches the empty text".to_owned()),
                Ok(pattern) => Ok(Self::Pattern(pattern)),
                Err(error) => {
                    Err(error.to_string().lines().last().unwrap_or("the pattern is wrong").trim().to_owned())
                }
            };
        }
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        if words.is_empty() { Err("there is nothing in it".to_owned()) } else { Ok(Self::Words(words)) }
    }

    /// The length of this mark at the start of a line; none if it does not stand there.
    pub(super) fn prefix(&self, line: &str) -> Option<usize> {
        match self {
            Self::Pattern(pattern) => pattern
                .find(line)
                .filter(|found| found.start() == 0 && found.end() > 0)
                .map(|found| found.end()),
            Self::Words(words) => {
                let mut rest = line;
                for word in words {
                    rest = rest.trim_start();
                    let end = rest.char_indices().nth(word.chars().count()).map_or(rest.len(), |(at, _)| at);
                    if rest[..end].to_lowercase() != *word {
                        return None;
                    }
                    rest = &rest[end..];
                }
                let glued = words.last().is_some_and(|word| word.ends_with(char::is_alphanumeric))
                    && rest.starts_with(char::is_alphanumeric);
                (!glued).then_some(line.len() - rest.len())
            }
        }
    }
}
