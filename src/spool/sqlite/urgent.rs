//! What is most urgent among all that waits: the incidents of a team by their worst event, each by the event that
//! must go first.
//!
//! Two ways lead there. Mostly the queue is walked in the order of its urgency, which finds an incident with
//! nearly each event. Where one incident has thousands of events, that walk would pass them all: then the
//! incidents themselves are gone through, each by a look into its index.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::rows::{QUEUED, all, key, one, queued};
use crate::spool::reservation::{RANKS, Urgent};

/// Events that the walk passes in vain before the incidents are gone through.
const VAIN: usize = 1_024;

/// Incidents that are gone through at most. With more of them the walk finds enough sooner or later.
const INCIDENTS: usize = 4_096;

/// The queue in the order of urgency.
const WALK: &str = "SELECT rank, seq, incident FROM event INDEXED BY event_urgent \
     WHERE state = 'queued' AND team = ?1 AND (rank, seq) > (?2, ?3) ORDER BY rank, seq";

/// The most urgent event of an incident.
const WORST: &str = "SELECT rank, seq FROM event INDEXED BY event_lane \
     WHERE state = 'queued' AND team = ?1 AND incident = ?2 ORDER BY rank, seq LIMIT 1";

/// The oldest event of a rank of an incident.
const OLDEST: &str = "SELECT min(seq) FROM event INDEXED BY event_lane \
     WHERE state = 'queued' AND team = ?1 AND incident = ?2 AND rank = ?3";

/// The next incident behind one, in the order of their ids.
const NEXT: &str = "SELECT min(incident) FROM event INDEXED BY event_lane \
     WHERE state = 'queued' AND team = ?1 AND incident > ?2";

/// Events that are incidents of their own.
const ALONE: &str = "SELECT rank, seq FROM event INDEXED BY event_lane \
     WHERE state = 'queued' AND team = ?1 AND incident IS NULL AND (rank, seq) > (?2, ?3) \
     ORDER BY rank, seq LIMIT ?4";

/// The most urgent event of an incident: its rank, its number and the incident.
type Position = (i64, i64, Option<i64>);

/// The incidents of `team` behind `after`, a rank and a number, by their most urgent events.
pub(super) fn urgent(
    db: &Connection,
    team: &str,
    after: (u8, u64),
    limit: usize,
) -> rusqlite::Result<Vec<Urgent>> {
    // All that is asked is asked of one moment.
    let moment = db.unchecked_transaction()?;
    let question = Question { db: &moment, team, after: (i64::from(after.0), key(after.1)), limit };
    let positions = match question.walk(VAIN)? {
        Some(positions) => positions,
        None => match question.go_through()? {
            Some(positions) => positions,
            None => question.walk(usize::MAX)?.unwrap_or_default(),
        },
    };
    positions.into_iter().map(|position| question.head(position)).collect()
}

struct Question<'a> {
    db: &'a Connection,
    team: &'a str,
    after: (i64, i64),
    limit: usize,
}

impl Question<'_> {
    /// Walks the queue. None if it passes more than `vain` events of incidents that it has met.
    fn walk(&self, vain: usize) -> rusqlite::Result<Option<Vec<Position>>> {
        let mut statement = self.db.prepare_cached(WALK)?;
        let mut rows = statement.query(params![self.team, self.after.0, self.after.1])?;
        let (mut found, mut met, mut passed) = (Vec::new(), HashSet::new(), 0);
        while found.len() < self.limit
            && let Some(row) = rows.next()?
        {
            let (rank, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
            let Some(id) = row.get::<_, Option<i64>>(2)? else {
                found.push((rank, seq, None));
                continue;
            };
            if !met.insert(id) {
                passed += 1;
                if passed > vain {
                    return Ok(None);
                }
                continue;
            }
            // One that has a worse event is one of those before.
            if self.worst(id)? == Some((rank, seq)) {
                found.push((rank, seq, Some(id)));
            }
        }
        Ok(Some(found))
    }

    /// Goes through the incidents. None if they are too many.
    fn go_through(&self) -> rusqlite::Result<Option<Vec<Position>>> {
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let values = params![self.team, self.after.0, self.after.1, limit];
        let mut found: Vec<Position> =
            all(self.db, ALONE, values, |row| Ok((row.get(0)?, row.get(1)?, None)))?;
        let mut next = self.db.prepare_cached(NEXT)?;
        let mut incident = Some(i64::MIN);
        for _ in 0..INCIDENTS {
            let Some(id) = incident else {
                found.sort_unstable();
                found.truncate(self.limit);
                return Ok(Some(found));
            };
            incident = next.query_row(params![self.team, id], |row| row.get(0))?;
            if let Some((rank, seq)) = self.worst(id)?
                && (rank, seq) > self.after
            {
                found.push((rank, seq, Some(id)));
            }
        }
        Ok(None)
    }

    fn worst(&self, id: i64) -> rusqlite::Result<Option<(i64, i64)>> {
        one(self.db, WORST, params![self.team, id], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The event that must go first for the one at that position to go.
    fn head(&self, (rank, seq, id): Position) -> rusqlite::Result<Urgent> {
        let mut first = seq;
        if let Some(id) = id {
            let mut oldest = self.db.prepare_cached(OLDEST)?;
            for rank in 0..RANKS {
                let of_rank: Option<i64> =
                    oldest.query_row(params![self.team, id, rank], |row| row.get(0))?;
                first = first.min(of_rank.unwrap_or(first));
            }
        }
        let head = self
            .db
            .prepare_cached(&format!("SELECT {QUEUED} FROM event WHERE seq = ?1"))?
            .query_row([first], queued)?;
        Ok(Urgent { head, rank: u8::try_from(rank).unwrap_or(u8::MAX), seq: seq.cast_unsigned() })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;
    use strum::VariantArray;

    use super::*;
    use crate::event::Severity;
    use crate::spool::Config;
    use crate::spool::sqlite::open;

    /// A database with the tables of a spool.
    fn database() -> Connection {
        let folder = tempfile::tempdir().unwrap();
        let (engine, _store) = open(&Config::at(folder.path())).unwrap();
        engine.db
    }

    fn insert(db: &Connection, seq: u64, id: Option<i64>, severity: Option<Severity>) {
        db.prepare_cached(
            "INSERT INTO event (seq, mail, team, state, attempts, queued_at, next_at, title, incident, \
             severity) VALUES (?1, 1, 'soc', 'queued', 0, 0, 0, '', ?2, ?3)",
        )
        .unwrap()
        .execute(params![key(seq), id, severity.map(|severity| severity.to_string())])
        .unwrap();
    }

    #[test]
    fn every_question_is_a_look_into_an_index() {
        let db = database();
        let plan = |sql: &str, parameters: usize| -> String {
            let parameters = vec![1_i64; parameters];
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let rows = plan.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
            let plan: Vec<String> = rows.map(Result::unwrap).collect();
            plan.join("; ").replace("COVERING ", "")
        };
        let lane = "SEARCH event USING INDEX event_lane (team=? AND incident";
        assert_eq!(plan(WALK, 3), "SEARCH event USING INDEX event_urgent (team=? AND rank>?)");
        assert_eq!(plan(WORST, 2), format!("{lane}=?)"));
        assert_eq!(plan(OLDEST, 3), format!("{lane}=? AND rank=?)"));
        assert_eq!(plan(NEXT, 2), format!("{lane}>?)"));
        assert_eq!(plan(ALONE, 4), format!("{lane}=? AND rank>?)"));
    }

    #[test]
    fn both_ways_find_the_same() {
        let severities: Vec<_> =
            Severity::VARIANTS.iter().map(|&severity| Some(severity)).chain([None]).collect();
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let db = database();
            for seq in 1..400 {
                let id = match rng.u8(0..10) {
                    0 => None,
                    _ => Some(rng.i64(0..60)),
                };
                insert(&db, seq, id, severities[rng.usize(0..severities.len())]);
            }
            for limit in [1, 7, 1_000] {
                let after = (rng.i64(0..5), rng.i64(0..400));
                let question = Question { db: &db, team: "soc", after, limit };
                let walked = question.walk(usize::MAX).unwrap().unwrap();
                assert_eq!(question.go_through().unwrap().unwrap(), walked, "seed {seed}");
            }
        }
    }

    #[test]
    fn an_incident_of_ten_thousand_events_is_passed_at_the_cost_of_few() {
        let db = database();
        db.execute_batch("BEGIN").unwrap();
        for seq in 1..=10_000 {
            insert(&db, seq, Some(7), Some(Severity::High));
        }
        insert(&db, 10_001, Some(8), Some(Severity::High));
        insert(&db, 10_002, None, None);
        db.execute_batch("COMMIT").unwrap();
        let found = urgent(&db, "soc", (0, 0), 256).unwrap();
        let found: Vec<_> = found.iter().map(|urgent| (urgent.rank, urgent.seq, urgent.head.seq)).collect();
        assert_eq!(found, [(1, 1, 1), (1, 10_001, 10_001), (2, 10_002, 10_002)]);
        let steps: i32 = [WALK, WORST, OLDEST, NEXT, ALONE]
            .map(|sql| db.prepare_cached(sql).unwrap().get_status(StatementStatus::VmStep))
            .iter()
            .sum();
        assert!((1_000..20_000).contains(&steps), "{steps}");
    }
}
