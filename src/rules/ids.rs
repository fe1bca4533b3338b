//! External ids within their bound.

/// Longest external id in characters. SIGNL4 documents no bound; PagerDuty's is 255.
pub(super) const EXTERNAL_ID_LIMIT: usize = 250;

/// `id` in at most `limit` characters; what is cut off is kept apart by a hash of the whole.
pub(super) fn bounded_id(id: &str, limit: usize) -> String {
    match id.char_indices().nth(limit) {
        None => id.to_owned(),
        Some(_) => {
            let keep = id.char_indices().nth(limit - 17).map_or(0, |(at, _)| at);
            format!("{}#{:016x}", &id[..keep], fnv(&[id]))
        }
    }
}

/// FNV-1a in 64 bits (draft-eastlake-fnv): the same on every machine and in every version.
pub(super) fn fnv(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_stay_apart() {
        let long = |end: &str| bounded_id(&("x".repeat(300) + end), EXTERNAL_ID_LIMIT);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a").chars().count(), EXTERNAL_ID_LIMIT);
    }
}
