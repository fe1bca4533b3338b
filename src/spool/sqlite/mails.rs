//! Mails in the database.

use std::ops::Range;

use rusqlite::params;

use super::Sqlite;
use super::rows::{all, key, maybe, number, one, run, time};
use crate::mail::MailId;
use crate::spool::engine::{Done, MailRow, Mails, OldMail};

impl Mails for Sqlite {
    fn insert_mail(&mut self, mail: &MailRow<'_>) -> Done<bool> {
        let id = key(mail.id.number());
        let added = run(
            &self.db,
            "INSERT INTO mail (id, received_at, first_seq, end_seq, size, envelope, story, stranger, file) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            params![
                id,
                mail.received_at.as_millisecond(),
                key(mail.block.start),
                key(mail.block.end),
                mail.size as i64,
                mail.envelope,
                mail.story,
                mail.stranger.map(key),
                mail.file,
            ],
        )?;
        if added > 0 {
            run(&self.db, "INSERT INTO pack (mail, data) VALUES (?1, ?2)", params![id, mail.pack])?;
        }
        Ok(added > 0)
    }

    fn set_story(&mut self, mail: MailId, story: &str) -> Done<()> {
        run(&self.db, "UPDATE mail SET story = ?2 WHERE id = ?1", params![key(mail.number()), story])?;
        Ok(())
    }

    fn block(&self, mail: MailId) -> Done<Option<Range<u64>>> {
        let sql = "SELECT first_seq, end_seq FROM mail WHERE id = ?1";
        Ok(one(&self.db, sql, [key(mail.number())], |row| Ok(number(row, 0)?..number(row, 1)?))?)
    }

    fn mails_after(&self, after: u64, strangers: bool, limit: usize) -> Done<Vec<OldMail>> {
        let sql = if strangers {
            "SELECT id, received_at, first_seq, end_seq, stranger, iif(file IS NULL, 0, size) \
             FROM mail INDEXED BY mail_stranger WHERE stranger IS NOT NULL AND id > ?1 ORDER BY id LIMIT ?2"
        } else {
            "SELECT id, received_at, first_seq, end_seq, stranger, iif(file IS NULL, 0, size) \
             FROM mail WHERE id > ?1 ORDER BY id LIMIT ?2"
        };
        Ok(all(&self.db, sql, params![key(after), limit as i64], |row| {
            Ok(OldMail {
                id: number(row, 0)?,
                received_at: time(row, 1)?,
                block: number(row, 2)?..number(row, 3)?,
                stranger: maybe(row, 4)?,
                aside: number(row, 5)?,
            })
        })?)
    }

    fn delete_mail(&mut self, mail: &OldMail) -> Done<()> {
        let id = key(mail.id);
        let file = one(&self.db, "DELETE FROM mail WHERE id = ?1 RETURNING file", [id], |row| row.get(0))?;
        self.deleted.extend(file.flatten());
        run(&self.db, "DELETE FROM pack WHERE mail = ?1", [id])?;
        let block = [key(mail.block.start), key(mail.block.end)];
        run(&self.db, "DELETE FROM event WHERE seq >= ?1 AND seq < ?2", block)?;
        Ok(())
    }

    fn sums(&self) -> Done<(u64, u64)> {
        let sql = "SELECT (SELECT coalesce(sum(stranger), 0) FROM mail WHERE stranger IS NOT NULL), \
                   (SELECT coalesce(sum(size), 0) FROM mail WHERE file IS NOT NULL)";
        Ok(self.db.query_row(sql, [], |row| Ok((number(row, 0)?, number(row, 1)?)))?)
    }
}
