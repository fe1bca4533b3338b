//! What the config says of a team: its name, its account, its fallback and where its events go.

use std::fmt;
use std::sync::Arc;

use tokio::task;

use super::config::DEFAULT_ACCOUNT;
use super::webhook::Endpoint;
use crate::secret::Secret;

/// Tells a team's secret. It is asked at the start and before each try of a team that is held, so that a
/// secret that was put right is found without a restart. The error is for the log and must not hold the
/// secret.
pub type SecretSource = Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>;

/// Where a team's events go.
#[derive(Clone)]
pub struct Target {
    /// The team's name.
    pub team: Arc<str>,
    /// The webhook's URL without the secret; it may hold a query.
    pub url: String,
    /// The team's or the integration's secret.
    pub secret: SecretSource,
    /// The SIGNL4 account that it belongs to: what is posted counts for all of its teams together.
    pub account: String,
    /// The team that gets its events while its secret is refused for long.
    pub fallback: Option<String>,
}

impl Target {
    /// A target whose secret never changes.
    pub fn fixed(team: impl Into<Arc<str>>, url: impl Into<String>, secret: Secret) -> Self {
        Self {
            team: team.into(),
            url: url.into(),
            secret: Arc::new(move || Ok(secret.clone())),
            account: DEFAULT_ACCOUNT.to_owned(),
            fallback: None,
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("team", &self.team).finish_non_exhaustive()
    }
}

/// Asks for the secret of `target`, which may read a file.
pub(super) async fn endpoint_of(target: Target) -> Result<Arc<Endpoint>, String> {
    let ask = move || {
        let secret =
            (target.secret)().map_err(|problem| format!("cannot read the team secret: {problem}"))?;
        Endpoint::new(&target.url, &secret).map(Arc::new)
    };
    task::spawn_blocking(ask).await.unwrap_or_else(|_| Err("reading the team secret failed".to_owned()))
}

/// The payload of an event for `team` that goes to another one, with a tile that says so.
pub(super) fn meant_for(payload: &Arc<str>, team: &str) -> Arc<str> {
    let Ok(serde_json::Value::Object(mut tiles)) = serde_json::from_str(payload) else {
        return Arc::clone(payload);
    };
    tiles.insert("Meant for".to_owned(), team.into());
    serde_json::Value::Object(tiles).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_goes_to_another_team_says_whom_it_is_for_and_keeps_its_order() {
        let payload: Arc<str> = r#"{"Title":"disk full","Message":"b","A":"1"}"#.into();
        let expected = r#"{"Title":"disk full","Message":"b","A":"1","Meant for":"soc"}"#;
        assert_eq!(&*meant_for(&payload, "soc"), expected);
        let other: Arc<str> = "no JSON".into();
        assert_eq!(meant_for(&other, "soc"), other);
    }

    #[test]
    fn a_target_does_not_print_its_secret() {
        let target = Target::fixed("soc", "https://user:hidden@h/webhook/", Secret::new("hidden"));
        assert_eq!(format!("{target:?}"), "Target { team: \"soc\", .. }");
    }
}
