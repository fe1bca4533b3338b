//! The command line: reads it, runs one command, and turns what became of it into an exit code of
//! sysexits(3), so that pipes, cron and systemd know what to do next.

mod backtest;
mod check;
mod demo;
mod difference;
mod expect;
mod explain;
mod hand_in;
mod log;
mod mute;
mod pairs;
mod passwd;
mod progress;
mod queue;
mod reload;
mod rules;
mod run;
mod sendmail;
mod service;
mod site;
mod strangers;
mod terminal;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Environment;
use site::{Exit, Site};

const EXAMPLES: &str = "\
Examples:
  smtp2signl4 demo                          see it work, without an account
  smtp2signl4 check                         look over config and rules
  smtp2signl4 explain alert.eml             what would become of this mail, and why
  smtp2signl4 queue list                    what waits, what failed
  smtp2signl4 rules new --from alert.eml    a first rule file for a mail
  smtp2signl4 backtest new.toml --since 7d  what other rules would have changed

Exit codes: 0 done, 64 usage, 65 bad input, 69 unavailable, 70 a fault of its own, 75 try again later, 78 bad config";

/// Turns alert mails into SIGNL4 events and never loses one.
#[derive(Parser)]
#[command(name = "smtp2signl4", version, after_help = EXAMPLES)]
struct Arguments {
    /// The config file [default: /etc/smtp2signl4/smtp2signl4.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service: listen for mail, judge it, post it
    #[command(after_help = "Examples:
  SIGNL4_TEAM_SECRET=... smtp2signl4 run       without any config: listens on 127.0.0.1:2525
  smtp2signl4 run --config gateway.toml

SIGTERM and SIGINT end it in order; SIGHUP loads the rules anew, as `smtp2signl4 reload` does. A start with a broken
config or broken rules uses the last good ones, and says so.")]
    Run,
    /// See it work: the real gateway, sample mails and a stand-in for SIGNL4, all on this machine
    Demo(demo::Arguments),
    /// Look over config and rules as the service would, and tell every error with its place
    Check(check::Arguments),
    /// Have the running service put new rules in force, and wait until it has
    #[command(after_help = "Example:
  smtp2signl4 reload

It fails with every error of config and rules, each with its place; what was in force stays in force then.")]
    Reload,
    /// Show what would become of a mail, and why, without sending anything
    Explain(explain::Arguments),
    /// Queue a mail from standard input, as sendmail would
    Submit(sendmail::Arguments),
    /// Raise an alert without a mail
    Send(hand_in::SendArguments),
    /// Close the alert with an external id
    Close(hand_in::CloseArguments),
    /// See and change what waits and what failed
    Queue(queue::Arguments),
    /// Keep what would page for a while, without sending it
    Mute(mute::Arguments),
    /// List the mails that must come, when each came last, and when the next is missed
    Expect(expect::Arguments),
    /// Test rules by their examples, and begin new ones
    Rules(rules::Arguments),
    /// Show what other rules would have changed, on the mails that came
    Backtest(backtest::Arguments),
    /// Show what the listener presents under TLS, and until when
    Tls(tls::Arguments),
    /// Set the password of a user of the listener
    Passwd(passwd::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    if let Some(exit) = sendmail::under_another_name(std::env::args_os()) {
        return ExitCode::from(exit as u8);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Printing fails if the reader is gone; then there is nothing to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    let environment = Environment::of_process();
    let site = Site { path: arguments.config, environment };
    let exit = match arguments.command {
        Command::Run => run::run(&site),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Check(arguments) => check::check(&site, &arguments),
        Command::Reload => reload::reload(&site),
        Command::Explain(arguments) => explain::explain(&site, &arguments),
        Command::Submit(arguments) => sendmail::submit(&site, arguments),
        Command::Send(arguments) => hand_in::send(&site, arguments),
        Command::Close(arguments) => hand_in::close(&site, arguments),
        Command::Queue(arguments) => queue::queue(&site, &arguments),
        Command::Mute(arguments) => mute::mute(&site, &arguments),
        Command::Expect(arguments) => expect::expect(&site, &arguments),
        Command::Rules(arguments) => rules::rules(&site, &arguments),
        Command::Backtest(arguments) => backtest::backtest(&site, &arguments),
        Command::Tls(arguments) => tls::tls(&site, &arguments),
        Command::Passwd(arguments) => passwd::passwd(&site, &arguments),
    };
    ExitCode::from(exit as u8)
}
