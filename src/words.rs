//! Closed lists of words: each value of such an enum has one word, which the config, the rules, the command line and
//! the database share. `strum` derives them from the names of the variants.

use std::str::FromStr;

use strum::VariantArray;

/// An enum whose values are words. Derive `EnumString`, `IntoStaticStr` and `VariantArray` for it.
pub trait Words: VariantArray + FromStr + Into<&'static str> + Copy {
    /// The value that `word` stands for, compared without case.
    fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// The word for it.
    fn word(self) -> &'static str {
        self.into()
    }

    /// Every value's word, in order.
    fn words() -> impl Iterator<Item = &'static str> + Clone {
        Self::VARIANTS.iter().map(|&value| value.into())
    }
}

impl<W: VariantArray + FromStr + Into<&'static str> + Copy> Words for W {}
