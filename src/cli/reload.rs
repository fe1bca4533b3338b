//! `reload`: has the running service put what is new in the config and the rules in force.

use std::time::Duration;

use crate::config::{self, Control};
use crate::gateway;
use crate::operator::client::{Way, ask};
use crate::operator::{Reply, Request};

use super::site::{Exit, Site, runtime};
use super::terminal::print;

/// How long it may take: thousands of rules and their examples take some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the service, and says what came of it.
pub(super) fn reload(site: &Site) -> Exit {
    // A broken config is the service's to judge: here it only says where the service is.
    let (found, _) = config::examine(site.path.as_deref());
    let (answer, socket) = runtime().block_on(async {
        let last_good = match &found {
            None => gateway::last_good_config(site.path.as_deref(), None, &site.environment).await,
            Some(_) => None,
        };
        let control = found.or(last_good).map_or_else(Control::default, |config| config.control);
        (ask(&control.socket, &Request::Reload, &[], PATIENCE).await, control.socket)
    });
    match answer {
        Way::Answered(Reply::Reloaded { pending }) => {
            print("what is new in the config and the rules is in force\n");
            for setting in pending {
                eprintln!("smtp2signl4: {setting} has changed and needs a restart");
            }
            Exit::Done
        }
        Way::Answered(Reply::Broken { problems }) => {
            for problem in &problems {
                eprintln!("{problem}\n");
            }
            eprintln!("smtp2signl4: nothing of it is in force: the service goes on with the last good rules");
            Exit::Config
        }
        Way::Answered(Reply::Refused(problem) | Reply::Temporary(problem)) | Way::Broken(problem) => {
            eprintln!("smtp2signl4: {problem}");
            Exit::Temporary
        }
        Way::Answered(_) => {
            eprintln!("smtp2signl4: the service answered another question");
            Exit::Software
        }
        Way::NoService => {
            eprintln!(
                "smtp2signl4: no service listens at {}: `smtp2signl4 check` looks over config and rules",
                socket.display()
            );
            Exit::Unavailable
        }
    }
}
