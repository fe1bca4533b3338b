//! What the listener proves itself by and what its clients prove themselves by: certificates and users, from files
//! that may change while it runs.

use jiff::Timestamp;

use crate::diagnostic::Diagnostic;

use super::Config;
use super::tls::Identity;
use super::users::Users;

/// The certificates and the users.
#[derive(Debug, Default)]
pub struct Credentials {
    /// What is presented under TLS; none where there is no certificate.
    pub identity: Option<Identity>,
    /// The users; none if logins are off.
    pub users: Option<Users>,
}

impl Credentials {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// Everything that is wrong with them, each at its place.
    pub fn load(config: &Config) -> Result<Self, Vec<Diagnostic>> {
        let identity = Identity::load(&config.tls);
        let users = config.users.as_ref().map(Users::load).transpose();
        match (identity, users) {
            (Ok(identity), Ok(users)) => Ok(Self { identity, users }),
            (identity, users) => Err([identity.err(), users.err()].into_iter().flatten().flatten().collect()),
        }
    }

    /// Reads the files anew that changed. What is wrong with them is logged and changes nothing. It blocks.
    pub fn look(&self) {
        if let Some(identity) = &self.identity {
            identity.look();
        }
        if let Some(users) = &self.users {
            users.look();
        }
    }

    /// What an operator should know at `now`.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let mut warnings = self.identity.as_ref().map_or_else(Vec::new, |identity| identity.warnings(now));
        warnings.extend(self.users.as_ref().and_then(Users::warning));
        warnings
    }
}
