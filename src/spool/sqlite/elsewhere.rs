//! What an incident had posted for another team than its own, by way of a fallback or by an operator's word: what
//! acknowledges or closes it goes there as well, or an alert would stay open there for ever.

use rusqlite::{Connection, OptionalExtension, params};

use super::changes::{Work, key};
use super::incidents::of_event;
use crate::event::Status;
use crate::incident::{Ruling, following};
use crate::spool::engine::{Fresh, Judged};

/// The kind of the memos, each by the number of an incident, with the teams as a list.
const KIND: &str = "elsewhere";

/// A close or an acknowledgement that took effect on an incident.
pub(super) struct Told<'a> {
    incident: u64,
    /// What SIGNL4 was told.
    external_id: String,
    event: &'a Fresh,
}

impl<'a> Told<'a> {
    /// What an event has told of the incidents that it closed or acknowledged.
    pub fn of(event: &'a Fresh, ruling: &Ruling) -> Vec<Self> {
        if ruling.status == Status::New {
            return Vec::new();
        }
        let rows = ruling.rows.iter();
        rows.map(|row| Self { incident: row.id, external_id: row.incident.external_id.clone(), event })
            .collect()
    }
}

fn teams(db: &Connection, incident: u64) -> rusqlite::Result<Vec<String>> {
    let value: Option<String> = db
        .prepare_cached("SELECT value FROM memo WHERE kind = ?1 AND name = ?2")?
        .query_row([KIND, &incident.to_string()], |row| row.get(0))
        .optional()?;
    Ok(value.and_then(|value| serde_json::from_str(&value).ok()).unwrap_or_default())
}

impl Work<'_> {
    /// Notes that the event `seq` goes to `team`, which is not its own. Only an open has anything to follow it.
    pub fn goes_elsewhere(&self, seq: u64, team: &str) -> rusqlite::Result<()> {
        let opens = self
            .db
            .prepare_cached("SELECT 1 FROM event WHERE seq = ?1 AND status = 'new'")?
            .exists([key(seq)])?;
        let Some(row) = opens.then(|| of_event(self.db, seq)).transpose()?.flatten() else { return Ok(()) };
        let mut teams = teams(self.db, row.id)?;
        if !teams.iter().any(|known| known == team) {
            teams.push(team.to_owned());
            self.db
                .prepare_cached("INSERT OR REPLACE INTO memo (kind, name, value) VALUES (?1, ?2, ?3)")?
                .execute(params![KIND, row.id.to_string(), serde_json::json!(teams).to_string()])?;
        }
        Ok(())
    }

    /// What must be posted for other teams along with what was `told`.
    pub fn followers(&self, judged: &Judged, told: Vec<Told<'_>>) -> rusqlite::Result<Vec<Fresh>> {
        let mut followers: Vec<Fresh> = Vec::new();
        for Told { incident, external_id, event } in told {
            let teams = teams(self.db, incident)?;
            let following = following(&event.queued.team, &teams, event.status);
            if following.over {
                self.forgets(incident)?;
            }
            for team in following.teams {
                let follower = event.for_team(team, &external_id);
                // The mail itself may be for that team as well.
                if !judged.events.iter().chain(&followers).any(|other| other.says_the_same_as(&follower)) {
                    followers.push(follower);
                }
            }
        }
        Ok(followers)
    }

    /// Forgets where an incident went.
    pub fn forgets(&self, incident: u64) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("DELETE FROM memo WHERE kind = ?1 AND name = ?2")?
            .execute([KIND, &incident.to_string()])?;
        Ok(())
    }
}

impl Fresh {
    /// Whether both tell one team the same of one incident.
    fn says_the_same_as(&self, other: &Self) -> bool {
        self.queued.team == other.queued.team
            && self.queued.external_id == other.queued.external_id
            && self.posted_as == other.posted_as.clone().filter(|_| self.posted_as.is_some())
            && self.status == other.status
    }

    /// The same for another team, where SIGNL4 knows it as `posted_as`.
    fn for_team(&self, team: &str, posted_as: &str) -> Self {
        let mut event = self.clone();
        team.clone_into(&mut event.queued.team);
        event.posted_as = Some(posted_as.to_owned());
        event.muted = None;
        event
    }
}
