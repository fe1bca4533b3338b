//! smtp2signl4: alert mails come in by SMTP, SIGNL4 events go out, and nothing is lost between.
//!
//! ```text
//! smtp ──► mail ──► rules ──► event ──► spool ──► delivery ──► SIGNL4
//! listen   noun     judge     noun      keep      post
//! └─────────── intake ─────────────────────┘
//!           context, watch and operator beside it; gateway wires, cli starts
//! ```
//!
//! The guarantee: a mail that was answered `250` is on disk, synced, together with the events that the
//! rules made of it, and each of those events is posted until SIGNL4 takes it or an operator decides
//! otherwise. Three nouns ([`mail`], [`event`], [`incident`]) are plain data. Four stages ([`smtp`], [`rules`],
//! [`spool`], [`delivery`]) know the nouns and not each other, but for delivery, which drains the spool.
//! [`intake`] takes a mail the way from edge to spool, on which [`authenticity`] gathers evidence about the sender;
//! [`watch`] looks after what no single mail shows; [`operator`] does what a person asks for. They share a [`context`], and
//! [`gateway`] starts and stops them.

pub mod address;
pub mod clock;
pub mod diagnostic;
pub mod document;
pub mod network;
pub mod secret;
pub mod supervisor;
pub mod time;
pub mod unix;
pub mod words;

pub mod mail;

pub mod authenticity;

pub mod event;

pub mod incident;

pub mod smtp;

pub mod rules;

pub mod spool;

pub mod delivery;

pub mod standin;

pub mod config;

pub mod context;

pub mod watch;

pub mod intake;

pub mod operator;

pub mod gateway;

pub mod cli;
