//! TheHive: commons-email over JavaMail, through the calls that its mailer makes.

use std::process::Command;

use crate::Scene;
use crate::encrypted::Entrance;
use crate::support::{Site, run, standin};

/// Where Debian's packages put the libraries; elsewhere CLASSPATH names them.
const DEBIAN: &str =
    "/usr/share/java/commons-email.jar:/usr/share/java/javax.mail.jar:/usr/share/java/javax.activation.jar";

fn send(scene: &Scene, kind: &str, subject: &str, to: &str, bodies: &[String]) {
    send_to(&scene.port(), &[], kind, subject, to, bodies);
}

/// Sends to `port`, with these settings of the Java machine.
fn send_to(port: &str, settings: &[String], kind: &str, subject: &str, to: &str, bodies: &[String]) {
    let mut java = Command::new("java");
    // Java reads its arguments in the encoding of the locale.
    java.env("LC_ALL", "C.UTF-8");
    if std::env::var_os("CLASSPATH").is_none() {
        java.args(["-cp", DEBIAN]);
    }
    java.args(settings).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/senders/Notify.java"));
    java.args([port, kind, subject, to]).args(bodies);
    run(java, "");
}

/// TheHive 4's default mail, with the two faults that its template has.
fn thehive4(action: &str, kind: &str, id: &str, request: u32) -> String {
    format!(
        "\nAudit (55cdf9e7b9d08d6d:-6e9f7e50:17b7ad2d9d5:-8000:{request}):\n{action} {kind} {id}\n  \
         by analyst@soc.example at {{audit._createdAt}}}}\nContext {kind} {id} ()\nFor user oncall@soc.example\n\
         ----------------\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java with commons-email"]
async fn thehive_4_creates_and_updates_a_case_under_one_external_id() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    site.set("incidents", "repeat", "'update'");
    let scene = Scene::of(standin, site);
    let bodies = [thehive4("create", "Case", "~41136", 5), thehive4("update", "Case", "~41136", 88)];
    send(&scene, "text", "Notification from TheHive", "oncall@soc.example", &bodies);
    scene.ends_with(2, "thehive4-case").await;
}

/// TheHive 4's mail by the template that the README recommends. Handlebars escapes for HTML even here.
fn thehive4_template(action: &str, state: &str) -> String {
    format!(
        "TheHive {action} Case ~41136\nBy: analyst@soc.example\nContext: Case ~41136\nStatus: {state}\n\
         Severity: 3\nTLP: 2\nNumber: 1208\nLink: https://thehive.soc.example/index.html#/case/~41136/details\n\
         Title: user&#x3D;&quot;j.müller&quot; &lt;&amp;&gt; Übermäßige Anmeldefehler\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java with commons-email"]
async fn thehive_4_opens_and_closes_a_case_by_the_recommended_template() {
    let scene = Scene::set().await;
    let bodies = [thehive4_template("create", "Open"), thehive4_template("update", "Resolved")];
    send(&scene, "text", "Notification from TheHive", "oncall@soc.example", &bodies);
    scene.ends_with(2, "thehive4-template").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java with commons-email"]
async fn thehive_5_opens_and_closes_a_case_by_html() {
    let scene = Scene::set().await;
    let page = |status: &str, stage: &str| {
        format!(
            "<html><body><h2>Case #1208</h2><table>\
             <tr><td>Title:</td><td>Suspicious PowerShell on WS-042</td></tr>\
             <tr><td>Severity:</td><td>High</td></tr><tr><td>TLP:</td><td>Amber</td></tr>\
             <tr><td>Stage:</td><td>{stage}</td></tr><tr><td>Status:</td><td>{status}</td></tr></table>\
             <p><a href=\"https://thehive.soc.example/cases/~41136/details\">Open the case</a></p></body></html>"
        )
    };
    let to = "signl4@soc.example";
    send(&scene, "html", "Case #1208 severity reached High", to, &[page("InProgress", "InProgress")]);
    send(&scene, "html", "Case #1208 closed: TruePositive", to, &[page("TruePositive", "Closed")]);
    scene.ends_with(2, "thehive5-html").await;
}

/// A truststore that holds the authority of `entrance`, made as the README says.
fn truststore(entrance: &Entrance) -> Vec<String> {
    let mut keytool = Command::new("keytool");
    keytool.args(["-importcert", "-noprompt", "-alias", "gateway", "-storepass", "changeit"]);
    keytool.args(["-file", &entrance.path("ca.pem"), "-keystore", &entrance.path("truststore")]);
    run(keytool, "");
    vec![
        format!("-Djavax.net.ssl.trustStore={}", entrance.path("truststore")),
        "-Djavax.net.ssl.trustStorePassword=changeit".to_owned(),
        "-Dhost=localhost".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java with commons-email"]
async fn thehive_sends_within_starttls_once_java_trusts_the_authority() {
    let entrance = Entrance::with("tls = 'starttls'\nrequire-tls = true").await;
    let bodies = [thehive4("create", "Case", "~41136", 5)];
    let settings = truststore(&entrance);
    send_to(&entrance.port, &settings, "text", "Notification from TheHive", "oncall@soc.example", &bodies);
    entrance.scene.ends_with(1, "thehive4-opened").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java with commons-email"]
async fn thehive_logs_in_within_starttls() {
    let entrance = Entrance::with("tls = 'starttls'\nrequire-tls = true\nrequire-auth = true").await;
    let bodies = [thehive4("create", "Case", "~41136", 5)];
    let mut settings = truststore(&entrance);
    settings.extend(["-Duser=alice", "-Dpassword=open sesame"].map(str::to_owned));
    send_to(&entrance.port, &settings, "text", "Notification from TheHive", "oncall@soc.example", &bodies);
    entrance.scene.ends_with(1, "thehive4-opened").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java with commons-email"]
async fn thehive_sends_within_tls_from_the_first_byte() {
    let entrance = Entrance::with("tls = 'implicit'\nrequire-auth = true").await;
    let bodies = [thehive4("create", "Case", "~41136", 5)];
    let mut settings = truststore(&entrance);
    settings.extend(["-Dssl=true", "-Duser=alice", "-Dpassword=open sesame"].map(str::to_owned));
    send_to(&entrance.port, &settings, "text", "Notification from TheHive", "oncall@soc.example", &bodies);
    entrance.scene.ends_with(1, "thehive4-opened").await;
}
