//! The laws that the fuzz targets look for breaches of. Each is a function that takes any input at all and
//! panics where the law does not hold. `tests/fuzz_replay.rs` runs them over the corpus without a fuzzer.

mod content;
mod login;
mod mail;
mod proxy;
mod results;
mod rules;
mod session;
mod talk;

pub use content::{bdat, end_of_data};
pub use login::auth;
pub use mail::mail;
pub use proxy::proxy;
pub use results::results;
pub use rules::{judge, rule_file};
pub use session::session;

use std::net::{IpAddr, Ipv4Addr};

/// A client in a network that the site trusts, and one that anybody could be.
const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
