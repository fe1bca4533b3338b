//! Text whose lines were broken on the way into the mail: format=flowed (RFC 3676).

/// Shortest line that a program breaks for its length. A shorter one with a space at its end, before a line that
/// begins `Name: `, is one that its writer ended.
const BROKEN: usize = 50;

/// Joins the lines that were broken and takes off the spaces that were put in front of others (section 4.4); `delsp` says
/// that the space at a line's end was put there with the break. None if there is nothing to do.
pub(super) fn joined(text: &str, delsp: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    // The depth of the quotation of a line that goes on, and how many characters it has so far.
    let mut open: Option<(usize, usize)> = None;
    let mut any = false;
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let depth = line.bytes().take_while(|byte| *byte == b'>').count();
        let (marks, rest) = line.split_at(depth);
        let stuffed = rest.strip_prefix(' ');
        any |= stuffed.is_some() && depth == 0;
        let rest = stuffed.unwrap_or(rest);
        match open {
            Some((quoted, length))
                if quoted == depth && rest != "-- " && !(length < BROKEN && is_labelled(rest)) =>
            {
                any = true;
            }
            goes_on => {
                if goes_on.is_some() {
                    out.push('\n');
                }
                out.push_str(marks);
                if depth > 0 {
                    out.push(' ');
                }
            }
        }
        let flows = rest.ends_with(' ') && rest != "-- ";
        out.push_str(if flows && delsp { &rest[..rest.len() - 1] } else { rest });
        open = flows.then_some((depth, rest.len()));
        if !flows && lines.peek().is_some() {
            out.push('\n');
        }
    }
    any.then_some(out)
}

/// Whether a line begins with the name of a field: `Severity: High`.
fn is_labelled(line: &str) -> bool {
    let Some((name, rest)) = line.split_once(':') else { return false };
    name.len() <= 30
        && name.starts_with(|c: char| c.is_uppercase())
        && name.chars().all(|c| c.is_alphanumeric() || " /-_".contains(c))
        && (rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_are_joined_and_others_stay() {
        let long = "Problem name: Service \"Windows Remote Management\" is not running on ";
        assert_eq!(
            joined(&format!("{long}\r\nnode 3\r\nHost: ts03"), false).unwrap(),
            format!("{long}node 3\nHost: ts03")
        );
        assert_eq!(
            joined("https://soc.example/a-very-long-name-of-an-organ \nisation", true).unwrap(),
            "https://soc.example/a-very-long-name-of-an-organisation"
        );
        assert_eq!(joined("a\n\nb\n", false), None);
    }

    #[test]
    fn a_field_is_not_joined_to_the_short_one_above() {
        assert_eq!(joined("Status: Down \nDate/Time: x", false), None);
        assert_eq!(joined("-- \nKim", false), None);
    }

    #[test]
    fn quotations_of_another_depth_are_not_joined() {
        assert_eq!(
            joined("> one and a half \n> two\n>> three", false).unwrap(),
            "> one and a half two\n>> three"
        );
        assert_eq!(joined("> a b \nc", false), None);
    }

    #[test]
    fn stuffed_spaces_go() {
        assert_eq!(joined(" From here \nto there", false).unwrap(), "From here to there");
        assert_eq!(joined("Traceback:\n   File x", false).unwrap(), "Traceback:\n  File x");
    }
}
