//! The fields of a header as they were written.

/// The fields of a header, each with its continuation lines.
pub(super) fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = memchr::memchr_iter(b'\n', rest).map(|at| at + 1);
        let end =
            ends.into_iter().find(|&at| !matches!(rest.get(at), Some(b' ' | b'\t'))).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        rest = after;
        Some(field)
    })
}
