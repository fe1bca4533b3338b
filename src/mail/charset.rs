//! From bytes to characters: charsets by every name that they go by, and what to do where the name does not fit.
//! Nothing here fails: what cannot be decoded is kept as well as it can be, and the caller is told.

use std::borrow::Cow;

use encoding_rs::Encoding;
use mail_parser::decoders::charsets::DecoderFnc;
use mail_parser::decoders::charsets::map::charset_decoder;

/// Bytes that are looked at to find out the charset of a text that names none that fits.
const GUESS_LIMIT: usize = 64 * 1024;

/// What was wrong with the charset of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Characters outside ASCII, and no charset was named that has them.
    Undeclared,
    /// The named charset is not known.
    Unknown,
    /// The bytes are not what was named.
    Invalid,
    /// The bytes are UTF-8, and another charset was named.
    Utf8,
    /// The bytes are ISO-2022-JP, and another charset or none was named.
    Iso2022Jp,
}

/// Decodes by the named charset. Where its name and the bytes do not agree, the bytes decide: ISO-2022-JP and UTF-8
/// cannot be mistaken for something else; what is neither is guessed, as windows-1252 in the end, which has a character
/// for nearly every byte.
pub(super) fn decode<'a>(bytes: &'a [u8], charset: Option<&str>) -> (Cow<'a, str>, Option<Misfit>) {
    let name = charset.map(|name| name.trim().to_ascii_lowercase()).unwrap_or_default();
    let ascii = matches!(name.as_str(), "" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "unknown-8bit");
    let utf8 = matches!(name.as_str(), "utf-8" | "utf8");
    // Charsets in which bytes of ASCII can stand for something else.
    let shifted = ["utf-16", "utf16", "utf-7", "iso-2022", "iso2022", "hz-", "unicode"]
        .iter()
        .any(|odd| name.contains(odd));
    if !shifted && is_iso_2022_jp(bytes) {
        let named =
            matches!(decoder(&name), Some(Decoder::Encoding(named)) if named == encoding_rs::ISO_2022_JP);
        return (iso_2022_jp(bytes), (!named).then_some(Misfit::Iso2022Jp));
    }
    if bytes.is_ascii() && !shifted {
        let text = std::str::from_utf8(bytes).expect("ASCII is UTF-8");
        let known = ascii || utf8 || decoder(&name).is_some();
        return (Cow::Borrowed(text), (!known).then_some(Misfit::Unknown));
    }
    if utf8 {
        return match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), None),
            Err(_) => (guess(bytes), Some(Misfit::Invalid)),
        };
    }
    let decoder = if ascii { None } else { decoder(&name) };
    let Some(decoder) = decoder else {
        let misfit = if ascii { Misfit::Undeclared } else { Misfit::Unknown };
        return (guess(bytes), Some(misfit));
    };
    if !shifted
        && let Ok(text) = std::str::from_utf8(bytes)
        && !decoder.is_right_about(text)
    {
        return (Cow::Borrowed(text), Some(Misfit::Utf8));
    }
    (decoder.decode(bytes), None)
}

/// The text of bytes without a declared charset: UTF-8 where it is that, ISO-2022-JP where it shifts to it, and else
/// guessed.
pub(super) fn guess(bytes: &[u8]) -> Cow<'_, str> {
    if is_iso_2022_jp(bytes) {
        return iso_2022_jp(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        // Cut inside a character by a limit of ours.
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 && bytes.len() > 4 => {
            String::from_utf8_lossy(&bytes[..error.valid_up_to()])
        }
        Err(_) => match detect(bytes)
            .and_then(|found| found.decode_without_bom_handling_and_without_replacement(bytes))
        {
            Some(text) => text,
            None => Cow::Owned(utf8_or_windows_1252(bytes)),
        },
    }
}

/// The charset that a text in a script of its own seems to be in. Of a text of Latin letters a few bytes are no
/// witness: it is windows-1252 more often than what a statistic makes of them.
fn detect(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = &bytes[..bytes.len().min(GUESS_LIMIT)];
    let foreign = head.iter().filter(|byte| !byte.is_ascii()).count();
    let letters = head.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    if foreign < 6 || foreign <= letters {
        return None;
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(head, true);
    Some(detector.guess(None, chardetng::Utf8Detection::Deny))
}

/// The text of bytes that are UTF-8 in part: each byte that is not is one of windows-1252.
fn utf8_or_windows_1252(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.push_str(&encoding_rs::WINDOWS_1252.decode_without_bom_handling(chunk.invalid()).0);
    }
    out
}

/// A charset that is known.
enum Decoder {
    /// By encoding_rs.
    Encoding(&'static Encoding),
    /// By mail-parser, which knows some that browsers do not.
    Other(DecoderFnc),
}

impl Decoder {
    fn decode<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        match self {
            Self::Encoding(encoding) if *encoding == encoding_rs::ISO_2022_JP => iso_2022_jp(bytes),
            Self::Encoding(encoding) => encoding.decode_without_bom_handling(bytes).0,
            Self::Other(decode) => Cow::Owned(decode(bytes)),
        }
    }

    /// Whether bytes that are UTF-8 are in this charset all the same. One of single bytes has a character for
    /// each, so that its word is worth nothing; one of several bytes finds errors in what is not its own, and a few
    /// characters of its own can be UTF-8 by chance.
    fn is_right_about(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Encoding(encoding) => {
                !encoding.is_single_byte()
                    && text.chars().filter(|c| !c.is_ascii()).take(3).count() < 3
                    && encoding.decode_without_bom_handling_and_without_replacement(bytes).is_some()
            }
            Self::Other(_) => false,
        }
    }
}

/// The charset of this name in lower case: by the registry of IANA (mail-parser's table) and the Encoding Standard
/// (encoding_rs's), by the number of a code page, and by either with the punctuation left out or made up.
fn decoder(name: &str) -> Option<Decoder> {
    let known = |name: &str| {
        let standard =
            Encoding::for_label(name.as_bytes()).filter(|encoding| *encoding != encoding_rs::REPLACEMENT);
        let other = || charset_decoder(name.as_bytes()).map(Decoder::Other);
        // Of UTF-16 it reads the mark that says which one it is, and UTF-7 at all.
        if name.starts_with("utf") || name.contains("unicode") {
            return other().or(standard.map(Decoder::Encoding));
        }
        standard.map(Decoder::Encoding).or_else(other)
    };
    if let Some(decoder) = known(name) {
        return Some(decoder);
    }
    let squeezed: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let squeezed = squeezed.strip_prefix("cs").or(squeezed.strip_prefix('x')).unwrap_or(&squeezed);
    let number = squeezed.trim_start_matches(|c: char| !c.is_ascii_digit());
    let prefix = &squeezed[..squeezed.len() - number.len()];
    if matches!(prefix, "" | "cp" | "ms" | "win" | "windows" | "ibm" | "dos" | "oem" | "codepage")
        && let Some(decoder) = number.parse().ok().and_then(codepage)
    {
        return Some(decoder);
    }
    let same = |encoding: &&'static Encoding| {
        let own =
            encoding.name().bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
        own.eq(squeezed.bytes())
    };
    ENCODINGS.iter().find(|encoding| same(encoding)).map(|encoding| Decoder::Encoding(encoding)).or_else(
        || {
            let more = match squeezed {
                "ujis" | "eucjpms" | "eucjpwin" => "euc-jp",
                "mskanji" | "sjiswin" | "sjis" => "shift_jis",
                "uhc" | "ksc56011987" | "ksc5601" | "korean" => "euc-kr",
                "big5eten" | "big5hkscs2004" | "tcabig5" => "big5",
                "gb2312" | "euccn" | "gb23121980" => "gbk",
                "jis" | "jis7" => "iso-2022-jp",
                _ => return None,
            };
            known(more)
        },
    )
}

/// The encodings of the standard, whose names a sender may write without their punctuation.
static ENCODINGS: [&Encoding; 39] = [
    encoding_rs::BIG5,
    encoding_rs::EUC_JP,
    encoding_rs::EUC_KR,
    encoding_rs::GB18030,
    encoding_rs::GBK,
    encoding_rs::IBM866,
    encoding_rs::ISO_2022_JP,
    encoding_rs::ISO_8859_10,
    encoding_rs::ISO_8859_13,
    encoding_rs::ISO_8859_14,
    encoding_rs::ISO_8859_15,
    encoding_rs::ISO_8859_16,
    encoding_rs::ISO_8859_2,
    encoding_rs::ISO_8859_3,
    encoding_rs::ISO_8859_4,
    encoding_rs::ISO_8859_5,
    encoding_rs::ISO_8859_6,
    encoding_rs::ISO_8859_7,
    encoding_rs::ISO_8859_8,
    encoding_rs::ISO_8859_8_I,
    encoding_rs::KOI8_R,
    encoding_rs::KOI8_U,
    encoding_rs::MACINTOSH,
    encoding_rs::SHIFT_JIS,
    encoding_rs::UTF_16BE,
    encoding_rs::UTF_16LE,
    encoding_rs::UTF_8,
    encoding_rs::WINDOWS_1250,
    encoding_rs::WINDOWS_1251,
    encoding_rs::WINDOWS_1252,
    encoding_rs::WINDOWS_1253,
    encoding_rs::WINDOWS_1254,
    encoding_rs::WINDOWS_1255,
    encoding_rs::WINDOWS_1256,
    encoding_rs::WINDOWS_1257,
    encoding_rs::WINDOWS_1258,
    encoding_rs::WINDOWS_874,
    encoding_rs::X_MAC_CYRILLIC,
    encoding_rs::X_USER_DEFINED,
];

/// The charset of a code page by its number, as Microsoft's registry has them.
fn codepage(number: u32) -> Option<Decoder> {
    let label = match number {
        // The letters of western languages are the same in both.
        437 | 858 => return charset_decoder(b"ibm850").map(Decoder::Other),
        866 => "ibm866",
        874 => "windows-874",
        932 | 943 => "shift_jis",
        936 | 20936 | 51936 => "gbk",
        949 | 51949 => "euc-kr",
        950 | 951 => "big5",
        1200 => "utf-16le",
        1201 => "utf-16be",
        1250..=1258 => &format!("windows-{number}"),
        10000 => "macintosh",
        10007 => "x-mac-cyrillic",
        20127 | 28591 => "windows-1252",
        20866 => "koi8-r",
        21866 => "koi8-u",
        20932 | 51932 => "euc-jp",
        28592..=28606 => &format!("iso-8859-{}", number - 28590),
        38598 => "iso-8859-8-i",
        50220..=50222 => "iso-2022-jp",
        54936 => "gb18030",
        65001 => "utf-8",
        _ => return None,
    };
    Encoding::for_label(label.as_bytes()).map(Decoder::Encoding)
}

/// Whether the bytes are text that shifts to Japanese by RFC 1468, which nothing else does.
fn is_iso_2022_jp(bytes: &[u8]) -> bool {
    let shifts = |at: usize| matches!(bytes.get(at + 1..at + 3), Some(b"$B" | b"$@"));
    memchr::memchr_iter(0x1b, bytes).any(shifts) && bytes.is_ascii()
}

/// Decodes ISO-2022-JP. Between two words of a header stands a shift out and the shift in of the next, where a browser
/// sees an attack and shows a mark: it is no text, and goes.
fn iso_2022_jp(bytes: &[u8]) -> Cow<'_, str> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(0x1b, rest) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let length = match rest.get(1..3) {
            Some([b'$', b'(']) => 4.min(rest.len()),
            Some([b'$' | b'(', _]) => 3,
            _ => 1,
        };
        // One that another follows at once shifts nothing.
        if length == 1 || rest.get(length) != Some(&0x1b) {
            kept.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept.extend_from_slice(rest);
    Cow::Owned(encoding_rs::ISO_2022_JP.decode_without_bom_handling(&kept).0.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], charset: &str) -> (String, Option<Misfit>) {
        let (text, misfit) = decode(bytes, (!charset.is_empty()).then_some(charset));
        (text.into_owned(), misfit)
    }

    #[test]
    fn a_charset_that_does_not_fit_is_guessed() {
        assert_eq!(read("ü".as_bytes(), ""), ("ü".into(), Some(Misfit::Undeclared)));
        assert_eq!(read(b"\xfc", "us-ascii"), ("ü".into(), Some(Misfit::Undeclared)));
        assert_eq!(read(b"\xfc", "x-nobody"), ("ü".into(), Some(Misfit::Unknown)));
        assert_eq!(read(b"\xfc", "ISO-8859-1"), ("ü".into(), None));
        assert_eq!(read(b"abc", "x-nobody"), ("abc".into(), Some(Misfit::Unknown)));
        assert_eq!(read(b"\x1b$B%O%m\x1b(B", "iso-2022-jp"), ("ハロ".into(), None));
    }

    #[test]
    fn bytes_that_are_not_the_utf_8_they_are_called_are_windows_1252() {
        assert_eq!(read(b"a\xfcb", "UTF-8"), ("aüb".into(), Some(Misfit::Invalid)));
        assert_eq!(read(b"T\xfcr \xc3\xbc \x80", "utf-8"), ("Tür ü €".into(), Some(Misfit::Invalid)));
        // Cut inside a character by a limit.
        assert_eq!(read(b"Meldung: T\xc3", "utf-8").0, "Meldung: T");
    }

    #[test]
    fn utf_8_wins_over_another_label_but_not_over_a_charset_that_fits() {
        for label in ["iso-8859-1", "windows-1252", "iso-8859-2", "koi8-r", "gb2312", "euc-kr"] {
            assert_eq!(
                read("Störung żą".as_bytes(), label),
                ("Störung żą".into(), Some(Misfit::Utf8)),
                "{label}"
            );
        }
        let (bytes, ..) = encoding_rs::GBK.encode("通道：大门");
        assert_eq!(read(&bytes, "gb2312"), ("通道：大门".into(), None));
    }

    #[test]
    fn japanese_that_shifts_is_read_whatever_it_is_called() {
        for label in ["", "us-ascii", "utf-8", "iso-8859-1"] {
            assert_eq!(
                read(b"\x1b$BDd;_\x1b(B: db7", label),
                ("停止: db7".into(), Some(Misfit::Iso2022Jp)),
                "{label}"
            );
        }
        assert_eq!(
            read(b"\x1b[31mred\x1b(B\x1b[m", "").0,
            "\x1b[31mred\x1b(B\x1b[m",
            "colours of a terminal"
        );
    }

    #[test]
    fn shifts_with_nothing_between_leave_no_mark() {
        assert_eq!(read(b"\x1b$BDd\x1b(B\x1b$B;_\x1b(B", "iso-2022-jp").0, "停止");
        assert_eq!(read(b"\x1b(B\x1b(Ba\x1b$B\x1b(B\x1b", "iso-2022-jp").0, "a\u{fffd}");
    }

    #[test]
    fn the_first_code_page_of_the_pc_has_its_letters() {
        assert_eq!(read(b"Ger\x84t gest\x94rt", "cp437").0, "Gerät gestört");
    }

    #[test]
    fn charsets_are_known_by_every_name() {
        for (name, encoding) in [
            ("cp949", encoding_rs::EUC_KR),
            ("uhc", encoding_rs::EUC_KR),
            ("ks_c_5601-1987", encoding_rs::EUC_KR),
            ("cp932", encoding_rs::SHIFT_JIS),
            ("ms932", encoding_rs::SHIFT_JIS),
            ("windows-31j", encoding_rs::SHIFT_JIS),
            ("x-sjis", encoding_rs::SHIFT_JIS),
            ("eucjp", encoding_rs::EUC_JP),
            ("ujis", encoding_rs::EUC_JP),
            ("win-1251", encoding_rs::WINDOWS_1251),
            ("win1251", encoding_rs::WINDOWS_1251),
            ("cp-1250", encoding_rs::WINDOWS_1250),
            ("cp936", encoding_rs::GBK),
            ("950", encoding_rs::BIG5),
            ("koi8r", encoding_rs::KOI8_R),
            ("iso8859-15", encoding_rs::ISO_8859_15),
            ("iso_8859_7", encoding_rs::ISO_8859_7),
            ("latin2", encoding_rs::ISO_8859_2),
            ("cp28592", encoding_rs::ISO_8859_2),
        ] {
            let letters = match encoding.name() {
                "EUC-KR" => "디스크",
                "Shift_JIS" | "EUC-JP" => "障害",
                "GBK" | "Big5" => "故障",
                "windows-1251" | "KOI8-R" => "Авария",
                "ISO-8859-7" => "Βλάβη",
                "ISO-8859-15" => "œuvre €",
                _ => "żądanie",
            };
            let (bytes, ..) = encoding.encode(letters);
            assert_eq!(read(&bytes, name), (letters.into(), None), "{name}");
        }
        let (bytes, ..) = encoding_rs::ISO_2022_JP.encode("停止");
        for name in ["csISO2022JP", "iso2022jp", "iso-2022-jp", "cp50221"] {
            assert_eq!(read(&bytes, name), ("停止".into(), None), "{name}");
        }
    }

    #[test]
    fn a_text_of_another_script_is_found_out() {
        for (encoding, letters) in [
            (encoding_rs::WINDOWS_1251, "Авария: нет питания, стойка 4"),
            (encoding_rs::SHIFT_JIS, "監視サーバが停止しました。"),
            (encoding_rs::EUC_KR, "서버 장애가 발생했습니다"),
        ] {
            let (bytes, ..) = encoding.encode(letters);
            assert_eq!(guess(&bytes), letters);
        }
        assert_eq!(guess(b"K\xfchlung gest\xf6rt, T\xfcr offen"), "Kühlung gestört, Tür offen");
    }
}
