//! What an incident had posted for another team than its own, by way of a fallback or by an operator's word: what
//! acknowledges or closes it goes there as well, or an alert would stay open there for ever.

use rusqlite::{Connection, OptionalExtension, params};

use super::changes::{Work, key};
use crate::event::Status;
use crate::spool::engine::Fresh;

/// The kind of the memos, each by the name of an incident, with the teams as a list.
const KIND: &str = "elsewhere";

/// The name of the memo of an incident.
fn name(incident: i64) -> String {
    incident.to_string()
}

fn teams(db: &Connection, name: &str) -> rusqlite::Result<Vec<String>> {
    let value: Option<String> = db
        .prepare_cached("SELECT value FROM memo WHERE kind = ?1 AND name = ?2")?
        .query_row([KIND, name], |row| row.get(0))
        .optional()?;
    Ok(value.and_then(|value| serde_json::from_str(&value).ok()).unwrap_or_default())
}

impl Work<'_> {
    /// Notes that the event `seq` goes to `team`, which is not its own. Only an open has anything to follow it.
    pub fn goes_elsewhere(&self, seq: u64, team: &str) -> rusqlite::Result<()> {
        let incident: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT incident FROM event WHERE seq = ?1 AND status = 'new' AND incident IS NOT NULL",
            )?
            .query_row([key(seq)], |row| row.get(0))
            .optional()?;
        let Some(incident) = incident else { return Ok(()) };
        let name = name(incident);
        let mut teams = teams(self.db, &name)?;
        if !teams.iter().any(|known| known == team) {
            teams.push(team.to_owned());
            self.db
                .prepare_cached("INSERT OR REPLACE INTO memo (kind, name, value) VALUES (?1, ?2, ?3)")?
                .execute(params![KIND, name, serde_json::json!(teams).to_string()])?;
        }
        Ok(())
    }

    /// What must be posted for other teams along with `event`. After a close nothing is left to follow.
    pub fn followers(&self, event: &Fresh, incident: Option<i64>) -> rusqlite::Result<Vec<Fresh>> {
        let (Some(incident), true) = (incident, event.status != Status::New) else {
            return Ok(Vec::new());
        };
        let name = name(incident);
        let teams = teams(self.db, &name)?;
        if event.status == Status::Resolved && !teams.is_empty() {
            self.forget_elsewhere(&name)?;
        }
        Ok(teams.iter().filter(|&team| *team != event.queued.team).map(|team| event.for_team(team)).collect())
    }

    /// Forgets where an incident went.
    pub fn forgets(&self, incident: i64) -> rusqlite::Result<()> {
        self.forget_elsewhere(&name(incident))
    }

    fn forget_elsewhere(&self, name: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached("DELETE FROM memo WHERE kind = ?1 AND name = ?2")?.execute([KIND, name])?;
        Ok(())
    }
}

impl Fresh {
    /// Whether both tell one team the same of one incident.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.queued.team == other.queued.team
            && self.queued.external_id == other.queued.external_id
            && self.status == other.status
    }

    /// The same for another team.
    fn for_team(&self, team: &str) -> Self {
        let mut queued = self.queued.clone();
        team.clone_into(&mut queued.team);
        Self {
            queued,
            status: self.status,
            title: self.title.clone(),
            source: self.source.clone(),
            repeat: self.repeat,
            quiet: self.quiet,
            muted: None,
        }
    }
}
