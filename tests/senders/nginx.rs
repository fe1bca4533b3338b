//! nginx as a mail proxy: it names the client by XCLIENT and then passes the client's bytes on.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::encrypted::Entrance;
use crate::postfix::MAIL;
use crate::support::{PATIENCE, Process, Smtp, free_port};

/// Where nginx is: `NGINX`, or where Debian has it.
fn program() -> PathBuf {
    std::env::var_os("NGINX").unwrap_or_else(|| "/usr/sbin/nginx".into()).into()
}

/// Starts a proxy in `folder` that listens on the port it returns, and goes on to the gateway's.
fn start(folder: &Path, gateway: &str) -> (Process, SocketAddr) {
    let modules = program().parent().unwrap().with_file_name("lib/nginx/modules");
    let port = free_port();
    let config = include_str!("nginx/nginx.conf")
        .replace("{modules}", modules.to_str().unwrap())
        .replace("{folder}", folder.to_str().unwrap())
        .replace("{web}", &free_port().to_string())
        .replace("{port}", &port.to_string())
        .replace("{gateway}", gateway);
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut nginx = Command::new(program());
    nginx.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]);
    (Process::spawn(nginx, ""), SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A client that comes from 127.0.0.9, once the proxy listens.
async fn client(proxy: SocketAddr) -> Smtp {
    let start = Instant::now();
    loop {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 9], 0))).unwrap();
        match socket.connect(proxy).await {
            Ok(stream) => {
                let stream: TcpStream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return Smtp::over(stream).unwrap();
            }
            Err(error) => assert!(start.elapsed() < PATIENCE, "nginx does not listen: {error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx"]
async fn nginx_names_the_client_and_the_client_behind_it_names_itself_nothing() {
    let entrance = Entrance::with("xclient = ['127.0.0.1']").await;
    let open = Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().prefix("nginx-").permissions(open).tempdir().unwrap();
    let (_nginx, proxy) = start(folder.path(), &entrance.port);
    let mut client = client(proxy).await;
    client.say("EHLO evil.example").unwrap();
    // From the first recipient on nginx passes bytes on.
    for step in ["MAIL FROM:<nagios@mon.example>", "RCPT TO:<oncall@soc.example>", "RSET"] {
        let reply = client.say(step).unwrap();
        assert!(reply.starts_with("250"), "{step}: {reply}");
    }
    for said in ["XCLIENT ADDR=127.0.0.1 LOGIN=alice", "XCLIENT LOGIN=alice"] {
        let reply = client.say(said).unwrap();
        assert!(reply.starts_with("503"), "{said}: {reply}");
    }
    let taken = client.mail("nagios@mon.example", &["oncall@soc.example"], MAIL).unwrap();
    assert!(taken.starts_with("250"), "{taken}");
    entrance.scene.arrived(1).await;
    let log = entrance.scene.gateway.stop();
    let accepted = log.iter().find(|line| line.contains("\"accepted\"")).unwrap();
    assert!(accepted.contains("127.0.0.9") && !accepted.contains("alice"), "{accepted}");
}
