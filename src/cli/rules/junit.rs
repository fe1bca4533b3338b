//! The report of `rules test` in the XML of JUnit, as CI systems read it: a suite for each rule file, a case
//! for each example.

use std::fmt::Write;

use super::test::{Case, Verdict};

/// The whole document.
pub(super) fn report(cases: &[Case]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let total = Totals::of(cases);
    text.push_str(&format!("<testsuites name=\"smtp2signl4 rules\" {total}>\n"));
    for suite in cases.chunk_by(|a, b| a.file == b.file) {
        let file = &suite[0].file;
        text.push_str(&format!("  <testsuite name=\"{}\" {}>\n", escaped(file), Totals::of(suite)));
        for case in suite {
            text.push_str(&format!(
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.6}\"",
                escaped(file),
                escaped(&case.name),
                case.took.as_secs_f64()
            ));
            match &case.verdict {
                Verdict::Passed => text.push_str("/>\n"),
                Verdict::Skipped => text.push_str(
                    ">\n      <skipped message=\"its mail is in the source tree\"/>\n    </testcase>\n",
                ),
                Verdict::Failed(found) => {
                    let fields: Vec<&str> = found.iter().map(|deviation| deviation.field.as_str()).collect();
                    let errors: Vec<String> =
                        found.iter().map(|deviation| deviation.diagnostic.to_string()).collect();
                    failure(&mut text, &format!("otherwise: {}", fields.join(", ")), &errors.join("\n"));
                }
                Verdict::Unreadable(why) => failure(&mut text, "the mail cannot be read", why),
            }
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn failure(text: &mut String, what: &str, detail: &str) {
    text.push_str(&format!(
        ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n",
        escaped(what),
        escaped(detail)
    ));
}

/// The attributes that count.
struct Totals {
    tests: usize,
    failures: usize,
    skipped: usize,
    seconds: f64,
}

impl Totals {
    fn of(cases: &[Case]) -> Self {
        let count = |holds: fn(&Verdict) -> bool| cases.iter().filter(|case| holds(&case.verdict)).count();
        Self {
            tests: cases.len(),
            failures: count(|verdict| matches!(verdict, Verdict::Failed(_) | Verdict::Unreadable(_))),
            skipped: count(|verdict| matches!(verdict, Verdict::Skipped)),
            seconds: cases.iter().map(|case| case.took.as_secs_f64()).sum(),
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tests, failures, skipped, seconds } = self;
        write!(
            f,
            "tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.6}\""
        )
    }
}

/// `text` for an attribute or an element. XML 1.0 (section 2.2) has no way at all to write most control
/// characters: they are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => {
                write!(out, "&#{};", c as u32).expect("a string takes everything");
            }
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mail_says_cannot_end_an_element_or_break_the_document() {
        assert_eq!(escaped("</a> & \"b\" 'c'\u{1b}[0m\n"), {
            "&lt;/a&gt; &amp; &quot;b&quot; &apos;c&apos;\u{fffd}[0m&#10;"
        });
    }
}
