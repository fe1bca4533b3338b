//! The PROXY protocol, versions 1 and 2 (HAProxy's `doc/proxy-protocol.txt`): the header with which a proxy
//! begins a connection, to say whose it is.
//!
//! It is never guessed whether there is one: the peer's address decides that, and a peer that must send one
//! and does not is closed. Nothing behind the header is read, so that TLS can begin there. Of the TLVs of
//! version 2 only the checksum is looked at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a proxy may take for its header, which it sends at once: time for a lost packet to come again.
pub const TIME: Duration = Duration::from_secs(10);

/// How the header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// How the header of version 1 begins.
const WORD: &[u8; 6] = b"PROXY ";

/// The longest header of version 1, with its line end (section 2.1).
const MAX_LINE: usize = 107;

/// The shortest: `PROXY UNKNOWN`. That many octets can be read before anything is known.
const MIN_LINE: usize = 15;

/// The longest of version 2 behind its first 16 octets: room for a certificate that the proxy passes on.
const MAX_REST: usize = 16 << 10;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// That of a client at this address.
    Client(IpAddr),
    /// That of a client of which the proxy can name no IP address.
    Unknown,
    /// The proxy's own: it looks whether somebody is here.
    Local,
}

/// What there is of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// So many octets more belong to it for certain.
    Needs(usize),
    /// All.
    Whole(Named),
}

/// It is no header, or not in form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads the header that `octets` are or begin. It is to be given all that was read so far, and no more than
/// it asked for.
///
/// # Errors
/// No header begins like this.
pub fn parse(octets: &[u8]) -> Result<Header, Malformed> {
    let begins_like = |start: &[u8]| octets.iter().zip(start).all(|(octet, wanted)| octet == wanted);
    if octets.is_empty() {
        Ok(Header::Needs(MIN_LINE))
    } else if begins_like(WORD) {
        version_1(octets)
    } else if begins_like(SIGNATURE) {
        version_2(octets)
    } else {
        Err(Malformed)
    }
}

fn version_1(octets: &[u8]) -> Result<Header, Malformed> {
    let Some(line) = octets.strip_suffix(b"\r\n") else {
        if octets.len() >= MAX_LINE || octets.contains(&b'\n') {
            return Err(Malformed);
        }
        let line_end = if octets.ends_with(b"\r") { 1 } else { 2 };
        let more = MIN_LINE.saturating_sub(octets.len()).max(line_end);
        return Ok(Header::Needs(more.min(MAX_LINE - octets.len())));
    };
    let line = str::from_utf8(line).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(Malformed)?;
    if family == "UNKNOWN" {
        return Ok(Header::Whole(Named::Unknown));
    }
    let [Some(source), Some(target), Some(from), Some(to), None] = std::array::from_fn(|_| words.next())
    else {
        return Err(Malformed);
    };
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Malformed),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    };
    let client = address(source)?;
    address(target)?;
    if !is_port(from) || !is_port(to) {
        return Err(Malformed);
    }
    Ok(Header::Whole(Named::Client(client.to_canonical())))
}

fn version_2(octets: &[u8]) -> Result<Header, Malformed> {
    let Some((start, rest)) = octets.split_first_chunk::<16>() else {
        return Ok(Header::Needs(16 - octets.len()));
    };
    let [.., command, family, high, low] = *start;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) || length > MAX_REST || rest.len() > length {
        return Err(Malformed);
    }
    if rest.len() < length {
        return Ok(Header::Needs(length - rest.len()));
    }
    if command == 0x20 {
        return Ok(Header::Whole(Named::Local));
    }
    let (named, addresses) = match family {
        0x11 => {
            let (source, _) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            (Named::Client(Ipv4Addr::from(*source).into()), 12)
        }
        0x21 => {
            let (source, _) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
            (Named::Client(IpAddr::V6(Ipv6Addr::from(*source)).to_canonical()), 36)
        }
        // An unknown family, or UDP or a Unix socket, which no proxy forwards to this listener.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Ok(Header::Whole(Named::Unknown)),
        _ => return Err(Malformed),
    };
    check(octets, 16 + addresses)?;
    Ok(Header::Whole(named))
}

/// Walks over the TLVs from `at` on and checks the checksum, if one of them is that (section 2.2.3).
fn check(octets: &[u8], mut at: usize) -> Result<(), Malformed> {
    const CRC32C: u8 = 0x03;
    while at != octets.len() {
        let &[kind, high, low] =
            octets.get(at..).and_then(|rest| rest.first_chunk::<3>()).ok_or(Malformed)?;
        let start = at + 3;
        at = start + usize::from(u16::from_be_bytes([high, low]));
        let value = octets.get(start..at).ok_or(Malformed)?;
        if kind == CRC32C {
            let wanted = u32::from_be_bytes(value.try_into().map_err(|_| Malformed)?);
            // The checksum was taken with nothing in its own place.
            let found = crc32c(octets[..start].iter().chain(&[0; 4]).chain(&octets[at..]));
            if found != wanted {
                return Err(Malformed);
            }
        }
    }
    Ok(())
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: a header is short.
fn crc32c<'o>(octets: impl Iterator<Item = &'o u8>) -> u32 {
    !octets.fold(u32::MAX, |crc, &octet| {
        (0..8).fold(crc ^ u32::from(octet), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// Reads the header from the front of `stream`, and nothing behind it.
///
/// # Errors
/// It is no header (`InvalidData`), or the stream's own.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Named> {
    let mut octets = Vec::new();
    loop {
        match parse(&octets).map_err(|Malformed| io::ErrorKind::InvalidData)? {
            Header::Whole(named) => return Ok(named),
            Header::Needs(more) => {
                let from = octets.len();
                octets.resize(from + more, 0);
                stream.read_exact(&mut octets[from..]).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `stream` as a proxy's peer does; how many octets it took beside.
    fn read(stream: &[u8]) -> Option<(Result<Named, Malformed>, usize)> {
        let mut taken = 0;
        loop {
            match parse(&stream[..taken]) {
                Ok(Header::Whole(named)) => return Some((Ok(named), taken)),
                Ok(Header::Needs(more)) => {
                    assert_ne!(more, 0);
                    taken += more;
                    if taken > stream.len() {
                        return None;
                    }
                }
                Err(wrong) => return Some((Err(wrong), taken)),
            }
        }
    }

    fn client(text: &str) -> Named {
        Named::Client(text.parse().unwrap())
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// 192.0.2.7 port 4711 to 10.0.0.1 port 25.
    const TCP4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 25];

    #[test]
    fn the_header_is_read_and_nothing_behind_it() {
        let tcp6 = [&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 20]].concat();
        let mapped = [&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7][..], &[0; 20]].concat();
        let tlvs = [&TCP4[..], &[0x04, 0, 3, 1, 2, 3, 0xe0, 0, 0]].concat();
        for (header, named) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 25\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n".to_vec(), client("2001:db8::7")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Named::Unknown),
            (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), Named::Unknown),
            (v2(0x21, 0x11, &TCP4), client("192.0.2.7")),
            (v2(0x21, 0x11, &tlvs), client("192.0.2.7")),
            (v2(0x21, 0x21, &tcp6), client("2001:db8::7")),
            (v2(0x21, 0x21, &mapped), client("192.0.2.7")),
            (v2(0x21, 0x00, b""), Named::Unknown),
            (v2(0x21, 0x31, &[0; 216]), Named::Unknown),
            (v2(0x20, 0x00, b""), Named::Local),
            (v2(0x20, 0x11, &TCP4), Named::Local),
        ] {
            let stream = [&header[..], b"EHLO x\r\n"].concat();
            assert_eq!(read(&stream), Some((Ok(named), header.len())), "{header:?}");
            for at in 0..header.len() {
                assert_eq!(read(&header[..at]), None, "cut at {at}: {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_with_no_more_than_a_header_read() {
        for wrong in [
            &b"EHLO a.example.org\r\n"[..],
            b"PROXY\r\nEHLO a.example.org\r\n",
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\nEHLO x\r\n",
            b"proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.\xff 1 2\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\r\n\r\n\r\n\r\n",
        ] {
            let (found, taken) = read(wrong).unwrap();
            assert_eq!(found, Err(Malformed), "{:?}", wrong.escape_ascii().to_string());
            assert!(taken <= MAX_LINE);
        }
        let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        assert_eq!(read(&endless), Some((Err(Malformed), MAX_LINE)));
        // A bare CR shifts by one where the reader looks for the line end.
        let one_too_long = [&b"PROXY UNKNOWN \r"[..], &[b'x'; 91], b"\r\n"].concat();
        assert_eq!(read(&one_too_long), Some((Err(Malformed), MAX_LINE)));
        for wrong in [
            v2(0x11, 0x11, &TCP4),
            v2(0x22, 0x11, &TCP4),
            v2(0x21, 0x41, &TCP4),
            v2(0x21, 0x11, &TCP4[..11]),
            v2(0x21, 0x21, &TCP4),
            v2(0x21, 0x11, &[&TCP4[..], &[4]].concat()),
            v2(0x21, 0x11, &[&TCP4[..], &[4, 0, 2, 1]].concat()),
            v2(0x21, 0x11, &[0; MAX_REST + 1]),
        ] {
            assert_eq!(read(&wrong).unwrap().0, Err(Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn a_checksum_that_is_there_must_be_right() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
        let mut header = v2(0x21, 0x11, &[&TCP4[..], &[0x03, 0, 4, 0, 0, 0, 0, 0x04, 0, 0]].concat());
        let crc = crc32c(header.iter());
        header[31..35].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(read(&header).unwrap().0, Ok(client("192.0.2.7")));
        header[16] ^= 1;
        assert_eq!(read(&header).unwrap().0, Err(Malformed));
        let short = v2(0x21, 0x11, &[&TCP4[..], &[0x03, 0, 1, 0]].concat());
        assert_eq!(read(&short).unwrap().0, Err(Malformed));
    }
}
