//! The content of a mail on its way in: kept up to a limit, or lost for a reason and no longer kept. DATA
//! and BDAT both fill one.

/// Why a message was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It is longer than a message may be.
    TooLarge,
    /// There was no memory for it.
    NoMemory,
}

/// What is there of a message so far.
#[derive(Debug)]
pub struct Content {
    kept: Vec<u8>,
    limit: usize,
    lost: Option<Lost>,
}

impl Content {
    /// Nothing yet, of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, lost: None }
    }

    /// Puts `text` behind what is there, unless the message is lost or gets too long by it.
    pub fn keep(&mut self, text: &[u8]) {
        if self.lost.is_some() {
            return;
        }
        if text.len() > self.room() {
            self.lose(Lost::TooLarge);
            return;
        }
        let needed = self.kept.len() + text.len();
        if needed > self.kept.capacity() {
            // Doubled, as a Vec would do, but never beyond the limit, which is what a mail may cost.
            let capacity = needed.max(2 * self.kept.capacity()).min(self.limit);
            self.kept.reserve_exact(capacity - self.kept.len());
        }
        self.kept.extend_from_slice(text);
    }

    /// How many bytes more it may have.
    pub fn room(&self) -> usize {
        self.limit - self.kept.len()
    }

    /// Gives up what was kept; the first reason stands.
    pub fn lose(&mut self, why: Lost) {
        self.lost.get_or_insert(why);
        self.kept = Vec::new();
    }

    /// Why it is lost, if it is.
    pub fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// Whether what is there ends with `end`, or is that but for its first byte.
    pub fn ends_with(&self, end: &[u8]) -> bool {
        self.kept.ends_with(end) || self.kept == end[1..]
    }

    /// The bytes of memory it holds.
    pub fn held(&self) -> usize {
        self.kept.capacity()
    }

    /// What was kept.
    ///
    /// # Errors
    /// Why there is nothing.
    pub fn finish(self) -> Result<Vec<u8>, Lost> {
        match self.lost {
            Some(why) => Err(why),
            None => Ok(self.kept),
        }
    }
}
