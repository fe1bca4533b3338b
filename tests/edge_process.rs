//! The real program and what the system has for it: sockets of Unix and of systemd, file descriptors, signals; and
//! the commands about certificates and users.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64ct::{Base64, Encoding};
use smtp2signl4::standin::Standin;
use support::tls::{Authority, presented};
use support::{PATIENCE, Process, Site, Smtp, program, run};

const HOST: &str = "mx.example";
const MAIL: &str = "Subject: Disk full\n\n/var is full\n";

/// A site with a certificate of `authority`, a user, and this listener.
fn site(standin: &Standin, authority: &Authority, listener: &str) -> Site {
    let mut site = Site::new(standin);
    authority.sign(HOST).write(site.path("").as_path(), "mx");
    fs::write(site.path("users"), smtp2signl4::smtp::users::line("hive", "s3cret").unwrap()).unwrap();
    site.unset("smtp", "listen");
    site.set("smtp", "users", "'users'");
    site.append(&format!(
        "[[smtp.certificate]]\ncertificate = 'mx.pem'\nkey = 'mx.key'\n[[smtp.listener]]\n{listener}\n"
    ));
    site
}

fn output(mut command: Command, input: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of a log that say this.
fn said<'l>(log: &'l [String], message: &str) -> Vec<&'l String> {
    log.iter().filter(|line| line.contains(message)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_never_reaches_the_log() {
    let (standin, authority) = (support::standin().await, Authority::new("CA"));
    let mut site = site(&standin, &authority, "address = '127.0.0.1:0'\ntls = 'starttls'");
    site.set("log", "level", "'debug'");
    let gateway = site.start();
    let connect =
        || Smtp::connect(gateway.address()).unwrap().starttls(&authority.client(None), HOST).unwrap();
    let message = |password: &str| Base64::encode_string(format!("\0hive\0{password}").as_bytes());

    let mut smtp = connect();
    assert!(smtp.say(&format!("AUTH PLAIN {}", message("s3cret"))).unwrap().starts_with("235 "));
    // Once more, and as a line of its own: neither is a command.
    smtp.say(&format!("AUTH PLAIN {}", message("s3cret"))).unwrap();
    smtp.say(&message("s3cret")).unwrap();
    assert!(smtp.mail("a@b", &["c@d"], MAIL).unwrap().starts_with("250 "));
    let mut wrong = connect();
    assert!(wrong.say(&format!("AUTH PLAIN {}", message("gu3ss"))).unwrap().starts_with("535 "));
    // Without TLS it is out already, but not by us.
    let mut plain = Smtp::connect(gateway.address()).unwrap();
    assert!(plain.say(&format!("AUTH PLAIN {}", message("s3cret"))).unwrap().starts_with("538 "));

    let log = gateway.stop();
    assert_eq!(said(&log, "\"login\"").len(), 1, "{log:#?}");
    assert_eq!(said(&log, "login refused").len(), 1);
    for hidden in
        ["s3cret".to_owned(), "gu3ss".to_owned(), message("s3cret"), message("gu3ss"), "argon2".to_owned()]
    {
        assert!(said(&log, &hidden).is_empty(), "{hidden}: {log:#?}");
    }
    for file in fs::read_dir(site.spool()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap_or_default();
        assert!(memchr::memmem::find(&bytes, b"s3cret").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_the_new_certificate_and_the_new_users() {
    let (standin, authority) = (support::standin().await, Authority::new("CA"));
    let site = site(&standin, &authority, "address = '127.0.0.1:0'\ntls = 'starttls'");
    let gateway = site.start();
    let connect =
        || Smtp::connect(gateway.address()).unwrap().starttls(&authority.client(None), HOST).unwrap();
    let mut old = connect();
    let before = presented(old.stream()).clone();

    authority.sign(HOST).write(site.path("").as_path(), "mx");
    fs::write(site.path("users"), "not a line\n").unwrap();
    gateway.signal("HUP");
    gateway.process().wait_for("word of the reload", |line| line.contains("are in force").then_some(()));
    assert_ne!(presented(connect().stream()), &before);
    assert!(old.mail("a@b", &["c@d"], MAIL).unwrap().starts_with("250 "));

    let log = gateway.stop();
    assert_eq!(said(&log, "new certificate").len(), 1);
    assert_eq!(said(&log, "the old ones stay").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_takes_mail_and_is_gone_when_the_service_is() {
    let standin = support::standin().await;
    let mut site = Site::new(&standin);
    let path = site.path("smtp.sock");
    site.append(&format!("[[smtp.listener]]\naddress = 'unix:{}'\nmode = '0600'\n", path.display()));
    let gateway = site.start();
    gateway.process().wait_for("the Unix socket", |line| line.contains("unix:/").then_some(()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut smtp = Smtp::over(UnixStream::connect(&path).unwrap()).unwrap();
    assert!(smtp.mail("a@b", &["c@d"], MAIL).unwrap().starts_with("250 "));

    // One that was killed leaves its socket, which the next replaces.
    gateway.kill();
    assert!(path.exists());
    let gateway = site.start();
    let mut smtp = Smtp::over(UnixStream::connect(&path).unwrap()).unwrap();
    assert!(smtp.mail("a@b", &["c@d"], MAIL).unwrap().starts_with("250 "));
    drop(smtp);
    gateway.stop();
    assert!(!path.exists());
}

/// A command that runs the service with `sockets` as systemd would hand them over, under these names.
fn activated(site: &Site, names: &str, socket: TcpListener) -> Process {
    let run = site.command(&["run"]);
    let mut shell = Command::new("sh");
    // The shell becomes the service, so that its process id is the one that it was told.
    shell.arg("-c").arg(format!(
        "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={names}; exec \"$@\""
    ));
    shell.arg("sh").arg(run.get_program()).args(run.get_args()).env_clear();
    Process::with_stdin(shell, OwnedFd::from(socket).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_systemd_is_taken_over_by_its_name() {
    let standin = support::standin().await;
    let mut site = Site::new(&standin);
    site.set("smtp", "listen", "['systemd:mail']");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let service = activated(&site, "mail", socket);
    // Clients may come before the service is there.
    let mut smtp = Smtp::connect(address).unwrap();
    assert!(smtp.mail("a@b", &["c@d"], MAIL).unwrap().starts_with("250 "));
    drop(service);

    let mut service = activated(&site, "other", TcpListener::bind("127.0.0.1:0").unwrap());
    assert_eq!(service.wait().code(), Some(69));
    let told = service.lines().join("\n");
    assert!(told.contains("cannot listen on systemd:mail: "), "{told}");
    assert!(told.contains("it handed over: other"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_descriptors_run_out_clients_wait_and_come_in_when_others_leave() {
    let standin = support::standin().await;
    let site = Site::new(&standin);
    let gateway = site.start();
    let process = format!("/proc/{}", gateway.process().id());
    let open = fs::read_dir(format!("{process}/fd")).unwrap().count();
    let ticks = || -> u64 {
        let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={}", gateway.process().id())).arg(format!("--nofile={}", open + 3));
    run(prlimit, "");

    let mut inside = Smtp::connect(gateway.address()).unwrap();
    let waiting: Vec<_> = (0..8).map(|_| TcpStream::connect(gateway.address()).unwrap()).collect();
    let tell = |line: &str| line.contains("cannot accept connections").then_some(());
    gateway.process().wait_for("word that it cannot accept", tell);
    let before = ticks();
    // Those inside are served meanwhile, and for long enough to see whether the others cost anything.
    for _ in 0..200 {
        assert!(inside.say("NOOP").unwrap().starts_with("250 "));
        std::thread::yield_now();
    }
    drop(inside);
    for stream in waiting {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut smtp = Smtp::over(stream).unwrap();
        assert!(smtp.say("QUIT").unwrap().starts_with("221 "));
    }
    // Two seconds of reckoning would be a loop that spins.
    assert!(ticks() - before < 200, "{} ticks", ticks() - before);
    let log = gateway.stop();
    assert!(said(&log, "cannot accept connections").len() < 50, "{log:#?}");
}

/// A command that runs the service with such a limit of descriptors.
fn limited(site: &Site, limit: &str) -> Command {
    let service = site.command(&["run"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh"]);
    shell.arg(service.get_program()).args(service.get_args());
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_there_are_descriptors_are_not_promised() {
    let standin = support::standin().await;
    let mut site = Site::new(&standin);
    site.set("smtp", "max-sessions", "5000");
    let process = Process::spawn(limited(&site, "-n 300"), "");
    let told =
        process.wait_for("word of the limit", |line| line.contains("LimitNOFILE").then(|| line.to_owned()));
    assert!(told.contains("only 200 of the 5000 sessions"), "{told}");
    assert!(told.contains("LimitNOFILE=5100"), "{told}");
    drop(process);

    // A limit that may be raised is raised.
    site.set("smtp", "max-sessions", "250");
    let process = Process::spawn(limited(&site, "-Sn 300"), "");
    process.wait_for("word that it listens", |line| line.contains("listening").then_some(()));
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(files[3], files[4], "{files:?}");
    assert!(said(&process.lines(), "LimitNOFILE").is_empty());
}

#[test]
fn tls_shows_what_is_presented_and_what_to_do_about_a_self_signed_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let own = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    fs::write(path("own.pem"), own.cert.pem()).unwrap();
    fs::write(path("own.key"), own.signing_key.serialize_pem()).unwrap();
    Authority::new("Test CA").sign("signed.example").write(folder.path(), "signed");
    fs::write(
        path("c.toml"),
        "[[smtp.certificate]]\ncertificate = 'signed.pem'\nkey = 'signed.key'\n\
         [[smtp.certificate]]\ncertificate = 'own.pem'\nkey = 'own.key'\n\
         [[smtp.listener]]\naddress = '0.0.0.0:465'\ntls = 'implicit'\n",
    )
    .unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(path("c.toml")).env_clear();
        output(command, "")
    };
    let shown = command(&["tls"]);
    assert_eq!(shown.status.code(), Some(0));
    let text = out(&shown);
    for part in [
        "0.0.0.0:465  smtp, TLS from the first byte",
        HOST,
        "signed.example",
        "SHA-256",
        "days left",
        "Test CA",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    // rcgen's certificates hold for two thousand years, so that only one thing is to be said of them.
    assert_eq!(text.matches("PKIX path building failed").count(), 1, "{text}");

    let checked = command(&["check", "--without-secrets"]);
    assert!(out(&checked).contains("listens on 0.0.0.0:465 implicit TLS"), "{}", out(&checked));
    fs::rename(path("own.key"), path("signed.key")).unwrap();
    for arguments in [&["tls"][..], &["check", "--without-secrets"], &["run"]] {
        let refused = command(arguments);
        assert_eq!(refused.status.code(), Some(78));
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains("c.toml:3:7: this key is not that of the certificate"), "{told}");
    }
}

#[test]
fn passwd_writes_lines_that_the_service_reads() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let passwd = |arguments: &[&str], input: &str| {
        let mut command = Command::new(program());
        command.arg("passwd").args(arguments).args(["--config", "c.toml"]).env_clear().current_dir(&folder);
        let done = output(command, input);
        (done.status.code().unwrap(), out(&done), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let mode = || fs::metadata(&users).unwrap().permissions().mode() & 0o777;
    fs::write(folder.path().join("c.toml"), "").unwrap();

    let (code, line, _) = passwd(&["hive"], "s3cret\n");
    assert_eq!(code, 0);
    assert!(line.starts_with("hive:$argon2id$v=19$m=19456,t=2,p=1$") && !line.contains("s3cret"), "{line}");

    assert_eq!(passwd(&["hive", "--file", "users"], "s3cret\n").0, 0);
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&users, Permissions::from_mode(0o644)).unwrap();
    fs::write(folder.path().join("c.toml"), "[smtp]\nusers = 'users'\n").unwrap();
    assert_eq!(passwd(&["zabbix"], "other\r\n").0, 0);
    assert_eq!(mode(), 0o640);
    assert!(check(&users, "hive", "s3cret") && check(&users, "zabbix", "other"));

    assert_eq!(passwd(&["hive"], "changed").0, 0);
    assert!(check(&users, "hive", "changed") && check(&users, "zabbix", "other"));
    assert_eq!(passwd(&["hive", "--delete"], "").0, 0);
    assert!(!check(&users, "hive", "changed") && check(&users, "zabbix", "other"));
    assert_eq!(passwd(&["hive", "--delete"], "").0, 65);
    assert_eq!(passwd(&["hive"], "\n").0, 65);
    assert_eq!(passwd(&["a:b"], "x\n").0, 64);
    // A file of something else, named by mistake.
    let (code, _, told) = passwd(&["hive", "--file", "c.toml"], "x\n");
    assert_eq!(code, 78, "{told}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

fn check(file: &Path, name: &str, password: &str) -> bool {
    let text = fs::read_to_string(file).unwrap();
    let source = smtp2signl4::diagnostic::Source::new("users", text);
    let names = smtp2signl4::smtp::users::Names::parse(&source).unwrap();
    names.check(name, password, &mut smtp2signl4::smtp::users::Workspace::default())
}
