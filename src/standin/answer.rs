//! What the stand-in answers: SIGNL4's statuses, bodies and headers, as far as they are documented.

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::quota::Ruling;

/// What is sent back.
pub(super) type Response = hyper::Response<Full<Bytes>>;

pub(super) fn reply(status: StatusCode, body: &Value) -> Response {
    let mut response = hyper::Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

pub(super) fn error(status: StatusCode, details: &str) -> Response {
    let code = if status == StatusCode::NOT_FOUND { 3004 } else { 3000 };
    let body = json!({
        "requestId": uuid(),
        "code": code,
        "details": details,
        "message": "Error raising event.",
    });
    reply(status, &body)
}

pub(super) fn throttled() -> Response {
    error(StatusCode::TOO_MANY_REQUESTS, "Too many requests. Receiving events is blocked for a while.")
}

/// `response` with the headers of the rate limit.
pub(super) fn limited(mut response: Response, ruling: Option<Ruling>) -> Response {
    if let Some(Ruling { limit, remaining, reset, .. }) = ruling {
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert("x-ratelimit-limit", limit.into());
        headers.insert("x-ratelimit-remaining", remaining.into());
        // Rounded up: who comes back then is not early.
        let second = reset.as_second() + i64::from(reset.subsec_nanosecond() > 0);
        headers.insert("x-ratelimit-reset", second.into());
    }
    response
}

pub(super) fn status_only(status: u16) -> Response {
    written(status, &[], String::new())
}

pub(super) fn written(status: u16, headers: &[(String, String)], body: String) -> Response {
    let mut builder = hyper::Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(Bytes::from(body))).expect("a scripted reply is made of valid parts")
}

/// An id such as SIGNL4's: the ticks that are left until the year 10000, and a UUID.
pub(super) fn event_id(now: Timestamp) -> String {
    const LAST_TICK: i128 = 3_155_378_975_999_999_999;
    const UNIX_TICK: i128 = 621_355_968_000_000_000;
    let ticks = LAST_TICK - (UNIX_TICK + now.as_nanosecond() / 100);
    format!("{ticks:019}_{}", uuid())
}

fn uuid() -> String {
    let n = fastrand::u128(..);
    let (a, b, c, d, e) =
        ((n >> 96) as u32, (n >> 80) as u16, (n >> 64) as u16 & 0xfff, (n >> 48) as u16 & 0x3fff, n);
    format!("{a:08x}-{b:04x}-4{c:03x}-{:04x}-{:012x}", d | 0x8000, e & 0xffff_ffff_ffff)
}
