//! The law of the PROXY header (HAProxy's `doc/proxy-protocol.txt`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use smtp2signl4::smtp::proxy;
use smtp2signl4::smtp::proxy::{Header, Malformed, Named};

/// The longest line of version 1 (section 2.1), and how far version 2 is read.
const LONGEST_LINE: usize = 107;
const LONGEST: usize = 16 + (16 << 10);

/// How a header of version 2 begins (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Any bytes come from a proxy: they begin with a header or do not, however they are cut, and nothing behind it
/// is read, nor more than a header can have. What a proxy writes as it should is read as it was meant.
pub fn proxy(stream: &[u8]) {
    let found = reading(stream, |asked| asked);
    let mut rng = fastrand::Rng::with_seed(stream.len() as u64);
    let bytewise = reading(stream, |_| 1);
    let by_chance = reading(stream, |asked| rng.usize(1..=asked));
    for cut in [bytewise, by_chance] {
        // What is none may be seen sooner, or not before more comes.
        if [found, cut].iter().flatten().any(Result::is_ok) {
            assert_eq!(found, cut, "a cut changes the header");
        }
    }
    if let Some(Err(Malformed)) = found {
        assert_eq!(bytewise, found, "byte by byte it is not seen");
    }
    if let Some(Ok((named, used))) = found {
        assert_eq!(Some(used), end(stream), "the header has another end");
        assert_eq!(addressed(&stream[..used]).unwrap_or(named), named, "it names another");
    }
    as_connections_do(stream, found.and_then(Result::ok));
    what_a_proxy_writes(stream);
}

/// What the reader makes of the stream if it is given, of what it asks for, as much as `given` says; and how
/// many bytes it took for it. None if the stream ends before the header does.
fn reading(
    stream: &[u8],
    mut given: impl FnMut(usize) -> usize,
) -> Option<Result<(Named, usize), Malformed>> {
    let mut taken = 0;
    loop {
        match proxy::parse(&stream[..taken]) {
            Ok(Header::Whole(named)) => return Some(Ok((named, taken))),
            Err(Malformed) => return Some(Err(Malformed)),
            Ok(Header::Needs(more)) => {
                assert!(more > 0, "it wants nothing");
                let longest = if stream.starts_with(b"PROXY ") { LONGEST_LINE } else { LONGEST };
                assert!(taken + more <= longest, "it wants more than a header has");
                taken += given(more);
                if taken > stream.len() {
                    return None;
                }
            }
        }
    }
}

/// Where the header of the stream ends by its own words, if there is one in form.
fn end(stream: &[u8]) -> Option<usize> {
    if stream.starts_with(SIGNATURE) {
        let length = stream.get(14..16)?;
        return Some(16 + usize::from(length[0]) * 256 + usize::from(length[1]));
    }
    let line_end = stream.windows(2).position(|pair| pair == b"\r\n")? + 2;
    (stream.starts_with(b"PROXY ") && line_end <= LONGEST_LINE).then_some(line_end)
}

/// The address in the header, if it says plainly that it has one.
fn addressed(header: &[u8]) -> Option<Named> {
    let address: IpAddr = if let Some(line) = header.strip_prefix(b"PROXY TCP") {
        str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()?
    } else {
        match (header.get(12..14)?, header.get(16..32)) {
            ([0x21, 0x11], _) => Ipv4Addr::from_octets(header.get(16..20)?.try_into().ok()?).into(),
            ([0x21, 0x21], Some(source)) => Ipv6Addr::from_octets(source.try_into().ok()?).into(),
            _ => return None,
        }
    };
    Some(Named::Client(address.to_canonical()))
}

/// The reader of connections finds the same, and leaves what is behind.
fn as_connections_do(stream: &[u8], wanted: Option<(Named, usize)>) {
    let mut rest = stream;
    let outcome = pin!(proxy::read(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(outcome) = outcome else { panic!("it waits for what is there") };
    match wanted {
        Some((named, used)) => {
            assert_eq!(outcome.ok(), Some(named), "a connection reads another header");
            assert_eq!(rest.len(), stream.len() - used, "a connection reads behind the header");
        }
        None => assert!(outcome.is_err(), "a connection reads a header where there is none"),
    }
}

/// Headers for the address that the stream begins with, and the stream behind them.
fn what_a_proxy_writes(stream: &[u8]) {
    let Some((source, behind)) = stream.split_first_chunk::<16>() else { return };
    let [a, b, c, d, high, low, ..] = *source;
    let (v4, v6) = (Ipv4Addr::new(a, b, c, d), Ipv6Addr::from(*source));
    let port = u16::from_be_bytes([high, low]);
    // The rest of it is what the proxy passes on, within a TLV that nobody knows.
    let passed_on = &behind[..behind.len().min(1000)];
    let length = u16::try_from(passed_on.len()).expect("it was cut").to_be_bytes();
    let tlv = [&[0xee], &length[..], passed_on].concat();
    let version_2 = |family: u8, addresses: &[u8]| {
        let length = u16::try_from(addresses.len() + tlv.len()).expect("it is short").to_be_bytes();
        [SIGNATURE, &[0x21, family], &length, addresses, &tlv].concat()
    };
    for (header, address) in [
        (format!("PROXY TCP4 {v4} 192.0.2.1 {port} 25\r\n").into_bytes(), IpAddr::V4(v4)),
        (format!("PROXY TCP6 {v6} 2001:db8::1 {port} 25\r\n").into_bytes(), IpAddr::V6(v6)),
        (version_2(0x11, &[&source[..4], &[0; 8]].concat()), IpAddr::V4(v4)),
        (version_2(0x21, &[&source[..], &[0; 20]].concat()), IpAddr::V6(v6)),
    ] {
        let wanted = Some(Ok((Named::Client(address.to_canonical()), header.len())));
        assert_eq!(reading(&[&header, behind].concat(), |asked| asked), wanted, "a good header is not read");
    }
}
