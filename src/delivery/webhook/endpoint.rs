//! The address of a webhook with its secret, and texts that may hold it.

use std::fmt;

use reqwest::Url;

use crate::secret::Secret;

/// Most characters of a foreign text in a reason.
const EXCERPT_LIMIT: usize = 200;

/// Where a team's events go: the address with the secret in it, which `Debug` leaves out.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) url: Url,
    secret: Secret,
}

impl fmt::Debug for Endpoint {
    /// Only the host: the rest holds the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// `base` with `secret` as its last path segment; a query that `base` has stays.
    ///
    /// # Errors
    /// What is wrong with `base` or `secret`, without showing either.
    pub fn new(base: &str, secret: &Secret) -> Result<Self, String> {
        let text = secret.expose().trim();
        if text.is_empty() {
            return Err("the team secret is empty".to_owned());
        }
        let mut url = Url::parse(base).map_err(|error| format!("the webhook's URL is wrong: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the webhook's URL must begin with https:// or http://".to_owned());
        }
        url.set_fragment(None);
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().push(text);
        Ok(Self { url, secret: Secret::new(text) })
    }

    /// Whether posts to `base` are encrypted. True for what is no URL, which is refused elsewhere.
    pub fn is_tls(base: &str) -> bool {
        Url::parse(base).map_or(true, |url| url.scheme() != "http")
    }

    /// Whether it is at SIGNL4's own host.
    pub(super) fn is_own(&self) -> bool {
        self.url.host_str().is_some_and(is_signl4s)
    }

    /// The scheme, the host and the port of `base`: what it shares with others at the same server.
    pub fn host(base: &str) -> String {
        Url::parse(base).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
    }

    /// `text` as it may be logged: without the secret in either of its spellings, on one line, cut.
    pub(super) fn excerpt(&self, text: &str) -> String {
        let redacted = self.secret.redact(text);
        let encoded = self.url.path_segments().and_then(|mut path| path.next_back()).unwrap_or("");
        one_line(&Secret::new(encoded).redact(&redacted))
    }
}

/// Whether a host is one of SIGNL4's own.
fn is_signl4s(host: &str) -> bool {
    host.trim_end_matches('.')
        .strip_suffix("signl4.com")
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// What is wrong with `base` as a webhook's URL without the secret, if anything. The text does not show it.
pub fn refuse_url(base: &str) -> Option<&'static str> {
    let url = match Url::parse(base) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => url,
        _ => return Some("this is not the address of a webhook"),
    };
    let own = url.host_str().is_some_and(is_signl4s);
    let path = url.path().trim_end_matches('/');
    if own && url.scheme() == "http" {
        return Some("without TLS everybody on the way reads the secret");
    }
    if own && path.is_empty() {
        return Some("this is not the address of a webhook");
    }
    (own && !matches!(path, "/webhook" | "/api/v2/events"))
        .then_some("this address holds more than SIGNL4's own: a secret in it would reach the log")
}

/// `text` on one line of bounded length, with what a terminal would obey made visible.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if length > 0 {
            line.push(' ');
        }
        for c in word.chars() {
            if length == EXCERPT_LIMIT {
                line.push('…');
                return line;
            }
            length += 1;
            match c {
                '"' | '\'' | '\\' => line.push(c),
                _ => line.extend(c.escape_debug()),
            }
        }
        length += 1;
        length = length.min(EXCERPT_LIMIT);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str, secret: &str) -> Endpoint {
        Endpoint::new(base, &Secret::new(secret)).ok().unwrap()
    }

    #[test]
    fn the_secret_is_the_last_segment_of_the_path_and_a_query_stays() {
        for (base, url) in [
            ("https://connect.signl4.com/webhook/", "https://connect.signl4.com/webhook/s3cret"),
            ("https://connect.signl4.com/webhook", "https://connect.signl4.com/webhook/s3cret"),
            ("http://h/webhook/?a=1&b=2#f", "http://h/webhook/s3cret?a=1&b=2"),
            ("http://h", "http://h/s3cret"),
        ] {
            assert_eq!(endpoint(base, "s3cret\n").url.as_str(), url);
        }
        assert_eq!(endpoint("http://h/", "a/b?c#d").url.as_str(), "http://h/a%2Fb%3Fc%23d");
        for (base, secret) in [("mailto:x", "s"), ("ftp://h/", "s"), ("/webhook", "s"), ("http://h/", " \n")]
        {
            assert!(Endpoint::new(base, &Secret::new(secret)).is_err(), "{base:?} {secret:?}");
        }
    }

    #[test]
    fn signl4s_own_hosts_are_those_of_its_domain() {
        for (base, own) in [
            ("https://connect.signl4.com/webhook/", true),
            ("https://CONNECT.SIGNL4.COM./webhook/", true),
            ("https://notsignl4.com/webhook/", false),
            ("https://signl4.com.example.org/webhook/", false),
            ("http://127.0.0.1:8080/webhook/", false),
        ] {
            assert_eq!(endpoint(base, "s").is_own(), own, "{base}");
        }
    }

    #[test]
    fn an_address_of_signl4_is_its_webhook_over_tls_and_holds_no_secret() {
        for base in [
            "https://connect.signl4.com/webhook",
            "https://connect.signl4.com/api/v2/events/",
            "http://h:1/x",
        ] {
            assert_eq!(refuse_url(base), None, "{base}");
        }
        for (base, part) in [
            ("http://connect.signl4.com/webhook/", "without TLS"),
            ("https://connect.signl4.com", "not the address"),
            ("connect.signl4.com", "not the address"),
            ("https://connect.signl4.com/webhook/s3cret", "would reach the log"),
        ] {
            assert!(refuse_url(base).is_some_and(|problem| problem.contains(part)), "{base}");
        }
    }

    #[test]
    fn an_excerpt_holds_no_secret_no_control_character_and_no_more_than_it_may() {
        let endpoint = endpoint("http://h/", "s3/cret");
        let shown = endpoint.excerpt("an event source with ID s3/cret\r\n\tat /s3%2Fcret \u{1b}[2J\u{202e}");
        assert_eq!(shown, "an event source with ID [redacted] at /[redacted] \\u{1b}[2J\\u{202e}");
        assert_eq!(endpoint.excerpt(&"ä ".repeat(900)).chars().count(), EXCERPT_LIMIT + 1);
        // Redacted before it is cut, or the first half of a secret could be left at the end.
        let across = format!("{}s3/cret", "x".repeat(EXCERPT_LIMIT - 3));
        assert!(!endpoint.excerpt(&across).contains("s3"));
    }
}
