//! The smarthost: hands over the mail that says that SIGNL4 cannot be reached. It does not go through
//! SIGNL4, carries a mark so that no gateway takes it for an alert, and by default has no bounce address.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::config::{Environment, MailTls, NoticeMail};
use crate::mail::joined;
use crate::mail::trace::NOTICE;

/// The longest wait for a connection or a reply.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most characters of what a smarthost says.
const REASON_LIMIT: usize = 300;

/// The longest that handing over a mail may take.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(90);

/// The way to the smarthost.
pub struct Smarthost {
    mail: NoticeMail,
    hostname: String,
    environment: Environment,
}

impl Smarthost {
    /// The smarthost of `mail`; this machine calls itself `hostname`. The password is read when it is needed.
    pub fn new(mail: NoticeMail, hostname: String, environment: Environment) -> Self {
        Self { mail, hostname, environment }
    }

    /// Its address as an operator knows it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.mail.host, self.mail.port)
    }

    /// Who is told.
    pub fn recipients(&self) -> &[String] {
        &self.mail.to
    }

    /// Connects, encrypts and logs in as for a mail, and sends none.
    ///
    /// # Errors
    /// What did not work, without the password.
    pub async fn test(&self) -> Result<(), String> {
        match self.transport().await?.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err("it hung up".to_owned()),
            Err(error) => Err(reason(&error)),
        }
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// What did not work, without the password.
    pub(super) async fn send(&self, subject: &str, text: &str, now: Timestamp) -> Result<(), String> {
        let (envelope, content) = self.compose(subject, text, now)?;
        let transport = self.transport().await?;
        match tokio::time::timeout(WHOLE_TIMEOUT, transport.send_raw(&envelope, &content)).await {
            Ok(sent) => sent.map(drop).map_err(|error| reason(&error)),
            Err(_) => Err(format!("not taken within {WHOLE_TIMEOUT:?}")),
        }
    }

    fn compose(&self, subject: &str, text: &str, now: Timestamp) -> Result<(Envelope, Vec<u8>), String> {
        let address = |text: &String| {
            text.parse::<Address>().map_err(|error| format!("{}: {error}", text.escape_debug()))
        };
        let recipients: Vec<Address> = self.mail.to.iter().map(address).collect::<Result<_, _>>()?;
        let bounce = self.mail.bounce.as_ref().map(address).transpose()?;
        let envelope = Envelope::new(bounce, recipients.clone()).map_err(|error| error.to_string())?;
        let mut builder = Message::builder()
            .from(Mailbox::new(Some("smtp2signl4".to_owned()), address(&self.mail.from)?))
            .subject(subject)
            .date(SystemTime::from(now))
            .message_id(Some(format!(
                "<notice.{}.{:016x}@{}>",
                now.as_millisecond(),
                fastrand::u64(..),
                self.hostname
            )));
        for recipient in recipients {
            builder = builder.to(Mailbox::new(None, recipient));
        }
        let mut message = builder
            .header(ContentType::TEXT_PLAIN)
            .body(text.to_owned())
            .map_err(|error| error.to_string())?;
        // RFC 3834 section 5: so that no automatic reply answers it.
        for (name, value) in [(NOTICE, self.hostname.as_str()), ("Auto-Submitted", "auto-generated")] {
            let name = HeaderName::new_from_ascii(name.to_owned()).expect("these are names of header fields");
            message.headers_mut().insert_raw(HeaderValue::new(name, value.to_owned()));
        }
        Ok((envelope, message.formatted()))
    }

    /// A connection for one mail.
    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
        let NoticeMail { host, port, tls, ca_file, login, .. } = &self.mail;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str())
            .port(*port)
            .timeout(Some(TIMEOUT))
            .hello_name(ClientId::Domain(self.hostname.clone()));
        let parameters = || async {
            let mut parameters = TlsParameters::builder(host.clone())
                .dangerous_accept_invalid_certs(*tls == MailTls::Opportunistic);
            if let Some(path) = ca_file {
                let unreadable =
                    |error: String| format!("cannot read the CA file {}: {error}", path.display());
                let pem = tokio::fs::read(path).await.map_err(|error| unreadable(error.to_string()))?;
                let certificate = Certificate::from_pem(&pem).map_err(|error| unreadable(reason(&error)))?;
                parameters = parameters.add_root_certificate(certificate);
            }
            parameters.build_rustls().map_err(|error| reason(&error))
        };
        builder = match tls {
            MailTls::Off => builder.tls(Tls::None),
            MailTls::Opportunistic => builder.tls(Tls::Opportunistic(parameters().await?)),
            MailTls::Starttls => builder.tls(Tls::Required(parameters().await?)),
            MailTls::Implicit => builder.tls(Tls::Wrapper(parameters().await?)),
        };
        if let Some((user, password)) = login {
            let password = password.password(&self.environment)?;
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(builder.build())
    }
}

/// The error and its causes, on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    let line = joined(&text);
    line.chars().take(REASON_LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smarthost(bounce: Option<&str>) -> Smarthost {
        let mail = NoticeMail {
            host: "smtp.example.org".into(),
            port: 25,
            tls: MailTls::Off,
            ca_file: None,
            login: None,
            from: "gw@example.org".into(),
            to: vec!["ops@example.org".into(), "boss@example.org".into()],
            bounce: bounce.map(str::to_owned),
        };
        Smarthost::new(mail, "gw1.example.org".into(), Environment::default())
    }

    #[test]
    fn the_mail_is_marked_and_bounces_to_nobody() {
        let now = "2026-11-20T02:10:00Z".parse().unwrap();
        let (envelope, content) = smarthost(None).compose("s", "t\n", now).unwrap();
        let content = String::from_utf8(content).unwrap();
        assert_eq!(envelope.from(), None);
        assert_eq!(envelope.to().len(), 2);
        for line in [
            "From: smtp2signl4 <gw@example.org>",
            "To: ops@example.org, boss@example.org",
            "Subject: s",
            "Date: Fri, 20 Nov 2026 02:10:00 +0000",
            "X-Smtp2signl4-Notice: gw1.example.org",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(content.lines().any(|found| found == line), "{line} is missing:\n{content}");
        }
        let (envelope, _) = smarthost(Some("b@example.org")).compose("s", "t", now).unwrap();
        assert_eq!(envelope.from().map(ToString::to_string).as_deref(), Some("b@example.org"));
    }
}
