//! The Traffic Light Protocol (FIRST TLP 2.0): how far the content of a mail may go.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::words::Words;

/// A TLP label. Greater is stricter. TheHive has numbers for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Tlp {
    /// To everyone; WHITE in TLP 1.
    #[strum(to_string = "clear", serialize = "white", serialize = "0")]
    Clear,
    /// Within the community.
    #[strum(to_string = "green", serialize = "1")]
    Green,
    /// On a need-to-know basis within the organisation and its clients.
    #[strum(to_string = "amber", serialize = "2")]
    Amber,
    /// Within the organisation only.
    #[serde(rename = "amber+strict")]
    #[strum(to_string = "amber+strict")]
    AmberStrict,
    /// To the recipients alone.
    #[strum(to_string = "red", serialize = "3")]
    Red,
}

impl Tlp {
    /// The label that `text` is, with or without `TLP:` before it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let bare = match text.get(..3) {
            Some(head) if head.eq_ignore_ascii_case("tlp") => {
                text[3..].trim_start_matches(|c: char| c.is_whitespace() || ":=：".contains(c))
            }
            _ => text,
        };
        Self::from_label(bare)
    }

    /// The label by its word; people write AMBER+STRICT with other signs too.
    fn from_label(word: &str) -> Option<Self> {
        Self::from_word(&word.replace(['-', '_', ' '], "+"))
    }

    /// The strictest label that is written in `text`.
    pub(super) fn strictest_in(text: &str) -> Option<Self> {
        static LABEL: LazyLock<Regex> = LazyLock::new(|| {
            let part = r"(?:[ \t]*[:=：][ \t]*|[ \t]+)";
            let label = r"(?i-u:(AMBER[+_ -]STRICT|RED|AMBER|GREEN|CLEAR|WHITE)\b)";
            Regex::new(&format!(r"(?i-u:\bTLP){part}{label}")).expect("the pattern is fixed")
        });
        LABEL.captures_iter(text).filter_map(|found| Self::from_label(&found[1])).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_label_counts() {
        assert_eq!(Tlp::strictest_in("tlp:amber, then TLP: RED and TLP:GREEN"), Some(Tlp::Red));
        assert_eq!(Tlp::strictest_in("TLP:AMBER+STRICT"), Some(Tlp::AmberStrict));
        for red in ["TLP RED", "tlp=red", "TLP：RED", "TLP : RED", "TLP:CLEAR TLP\tRED"] {
            assert_eq!(Tlp::strictest_in(red), Some(Tlp::Red), "{red}");
        }
        assert_eq!(Tlp::strictest_in("TLP:AMBER-STRICT"), Some(Tlp::AmberStrict));
        assert_eq!(Tlp::strictest_in("TLPRED TLP REDUCED"), None);
        assert_eq!(Tlp::read("TLP RED"), Some(Tlp::Red));
        assert_eq!(Tlp::read("amber-strict"), Some(Tlp::AmberStrict));
        assert_eq!(Tlp::strictest_in("NOTLP:RED reduced TLP:REDUCED"), None);
        assert_eq!(Tlp::read("TLP:Amber"), Some(Tlp::Amber));
        assert_eq!(Tlp::read("3"), Some(Tlp::Red));
    }
}
