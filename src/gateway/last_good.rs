//! The last config and rules that worked. The spool keeps their texts, so that a start with a file that was broken
//! meanwhile is a start with the old ones and not the end of the service: a sender without a queue would lose its mails.
//! No secret is among them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::config::{self, Config, Environment};
use crate::diagnostic::Source;
use crate::rules::RuleSet;
use crate::spool::{self, Memo, Reader, Spool};

use super::rulebook::load_sources;

/// The kind of the memo, and its name.
const KIND: &str = "last-good";
const NAME: &str = "site";

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The config file; none where there was none.
    path: Option<PathBuf>,
    /// Its text; none if there is a secret in it.
    config: Option<String>,
    /// The site's own rule files: path and text.
    rules: Vec<(String, String)>,
}

/// Keeps `config` and the site's own rule files, which are in force, unless they are kept already.
pub(super) async fn keep(spool: &Spool, config: &Config, rules: &[Source]) {
    let text = config.text_without_secrets();
    if text.is_none() {
        warn!(
            "[signl4] proxy has a password: no copy of this config is kept, and a start with a broken one is refused"
        );
    }
    let kept = Kept {
        path: config.path.clone(),
        config: text.map(str::to_owned),
        rules: rules.iter().map(|source| (source.path.to_string(), source.text.to_string())).collect(),
    };
    let value = serde_json::to_value(kept).expect("texts always serialise");
    if memo(spool.reader()).await.as_ref() == Some(&value) {
        return;
    }
    let memo = Memo { kind: KIND, name: NAME.to_owned(), value: Some(value) };
    if let Err(error) = spool.remember(vec![memo]).await {
        warn!(%error, "the config and the rules that are in force cannot be kept for a start with broken ones");
    }
}

/// The rules that were last in force with the config file of `config`; none if there are none that load today.
pub(super) async fn rules(spool: &Spool, config: &Config) -> Option<RuleSet> {
    let kept = kept(spool.reader()).await.filter(|kept| kept.path == config.path)?;
    let own: Vec<_> = kept.rules.into_iter().map(|(path, text)| Source::new(path, text)).collect();
    match load_sources(config, &own, false) {
        Ok(rules) => Some(rules),
        Err(problems) => {
            debug!(errors = problems.len(), "the rules that were last in force do not load with this config");
            None
        }
    }
}

/// The config of the file at `path` that was last in force, as the spool has it that the service of `environment`
/// has: the one that `broken` names, as far as that can be read, else systemd's state folder, else the default.
pub async fn config(
    path: Option<&Path>,
    broken: Option<&Config>,
    environment: &Environment,
) -> Option<Config> {
    let states = environment.var("STATE_DIRECTORY").unwrap_or_default().split(':').map(PathBuf::from);
    let folders = broken.map(|config| config.spool.path.clone()).into_iter();
    let folders = folders.chain(states).chain([spool::Config::default().path]);
    let path = path.map_or_else(|| PathBuf::from(config::DEFAULT_PATH), Path::to_path_buf);
    for folder in folders {
        let Ok(spool) = Reader::open(&folder) else { continue };
        let text = kept(&spool)
            .await
            .filter(|kept| kept.path.as_deref() == Some(&*path))
            .and_then(|kept| kept.config);
        if let Some(text) = text {
            return config::parse(Some(&path), &Source::new(path.display().to_string(), text)).ok();
        }
    }
    None
}

async fn kept(spool: &Reader) -> Option<Kept> {
    serde_json::from_value(memo(spool).await?).ok()
}

async fn memo(spool: &Reader) -> Option<serde_json::Value> {
    let memos = spool.memos(KIND).await.ok()?;
    memos.into_iter().find(|(name, _)| name == NAME).map(|(_, value)| value)
}
