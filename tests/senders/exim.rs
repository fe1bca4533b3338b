//! Exim: relays to the gateway by a router and a transport, in clear and within TLS.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use crate::Scene;
use crate::encrypted::Entrance;
use crate::postfix::MAIL;
use crate::support::run;

/// The folder of an Exim of its own.
struct Exim(TempDir);

impl Exim {
    fn new(port: &str, settings: &str) -> Self {
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("exim-").permissions(open).tempdir().unwrap();
        for name in ["spool", "log"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            let mut chown = Command::new("chown");
            chown.arg("Debian-exim").arg(folder.path().join(name));
            run(chown, "");
        }
        let config = include_str!("exim/exim.conf")
            .replace("{program}", &program())
            .replace("{folder}", folder.path().to_str().unwrap())
            .replace("{port}", port)
            .replace("{settings}", settings);
        fs::write(folder.path().join("exim.conf"), config).unwrap();
        Self(folder)
    }

    /// Hands it a mail, which it delivers before it returns.
    fn sendmail(&self, to: &str, mail: &str) {
        let mut exim = Command::new(program());
        exim.arg("-C").arg(self.0.path().join("exim.conf"));
        exim.args(["-odf", "-f", "nagios@mon.example", to]);
        run(exim, mail);
        let log = fs::read_to_string(self.0.path().join("log/mainlog")).unwrap();
        assert!(log.contains(" Completed"), "{log}");
    }
}

/// Where Exim is: `EXIM`, or where Debian has it.
fn program() -> String {
    std::env::var("EXIM").unwrap_or_else(|_| "/usr/sbin/exim4".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Exim"]
async fn exim_relays_by_a_router() {
    let scene = Scene::set().await;
    let exim = Exim::new(&scene.port(), "");
    exim.sendmail("oncall@soc.example", MAIL);
    scene.ends_with(1, "postfix-relayed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Exim"]
async fn exim_relays_within_tls() {
    let entrance = Entrance::with("tls = 'starttls'\nrequire-tls = true").await;
    let settings = format!(
        "  hosts_require_tls = *\n  tls_verify_certificates = {}\n  tls_verify_hosts = *",
        entrance.path("ca.pem")
    );
    let exim = Exim::new(&entrance.port, &settings);
    exim.sendmail("oncall@soc.example", MAIL);
    entrance.scene.ends_with(1, "postfix-relayed").await;
}
