//! How much is open, team by team, and what may be at SIGNL4 twice.
//!
//! An event counts the posts of it that SIGNL4 may have taken although no answer came. Each of them, but for the
//! one that stands for the event itself, may be an alert too many.

use rusqlite::Connection;

use super::rows::{all, maybe_time, number};
#[cfg(doc)]
use crate::spool::entry::State;
use crate::spool::entry::{Count, Vouched};

/// Where to look for the events that have a possible double, and the condition for them: [`State::possible_doubles`] in SQL.
pub(super) const DOUBLED: (&str, &str) =
    ("INDEXED BY event_unanswered", "unanswered > 0 AND unanswered > (state != 'delivered') AND");

/// What is open, by team.
pub(super) fn counts(db: &Connection) -> rusqlite::Result<Vec<Count>> {
    all(
        db,
        "SELECT team, queued, failed, doubles, \
         (SELECT received_at FROM event JOIN mail ON mail.id = event.mail WHERE seq = oldest) FROM ( \
         SELECT team, sum(queued) AS queued, sum(failed) AS failed, sum(doubles) AS doubles, \
         min(oldest) AS oldest FROM ( \
         SELECT team, count(*) AS queued, 0 AS failed, 0 AS doubles, min(seq) AS oldest \
         FROM event INDEXED BY event_queued WHERE state = 'queued' GROUP BY team \
         UNION ALL SELECT team, 0, count(*), 0, NULL \
         FROM event INDEXED BY event_failed WHERE state = 'failed' GROUP BY team \
         UNION ALL SELECT team, 0, 0, sum(unanswered - (state != 'delivered')), NULL \
         FROM event INDEXED BY event_unanswered WHERE unanswered > 0 GROUP BY team) \
         WHERE team IS NOT NULL GROUP BY team) \
         WHERE queued + failed + doubles > 0 ORDER BY team",
        [],
        |row| {
            Ok(Count {
                team: row.get(0)?,
                queued: number(row, 1)?,
                failed: number(row, 2)?,
                possible_doubles: number(row, 3)?,
                oldest: maybe_time(row, 4)?,
            })
        },
    )
}

/// The mails from `from` on by what their stories say of trust. Reads the stories of these mails, and so is for an
/// operator's question and not for each mail.
pub(super) fn vouched(db: &Connection, from: i64) -> rusqlite::Result<Vec<Vouched>> {
    all(
        db,
        "SELECT class, domain, line, count(*) FROM ( \
         SELECT json_extract(story, '$.trust.class') AS class, json_extract(story, '$.trust.domain') AS domain, \
         json_extract(story, '$.trust.line') AS line FROM mail WHERE id >= ?1 AND json_valid(story)) \
         WHERE class IS NOT NULL GROUP BY class, domain, line",
        [from],
        |row| {
            Ok(Vouched { class: row.get(0)?, domain: row.get(1)?, line: row.get(2)?, mails: number(row, 3)? })
        },
    )
}
