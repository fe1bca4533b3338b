"""Sends mails as two Python programs of a SOC do, by the same calls of the standard library:

    notify.py PORT xsoar-text|xsoar-html|xsoar-alternative [HEADER=VALUE...]    Cortex XSOAR's Mail Sender
    notify.py PORT cortex                       the Mailer responder of TheHive's Cortex, credentials cleared
"""

import smtplib
import sys
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid

HOST = "127.0.0.1"
# What Cortex gives a server to answer in.
SECONDS = 10

TEXT = """Incident 4711 "Phishing - user reported" was created.
Severity: High
Owner: analyst1
Link: https://xsoar.example/#/Details/4711
"""
HTML = (
    "<html><body><p>Incident <b>4711</b> &quot;Phishing&quot;</p>"
    "<table><tr><td>Severity:</td><td><b>High</b></td><td>Owner:</td><td>analyst1</td></tr></table>"
    "</body></html>"
)


def xsoar(port, kind, headers):
    """No Date and no Message-ID, base64 throughout, one long encoded word, recipients joined by commas."""
    text, html = MIMEText(TEXT, "plain", "utf-8"), MIMEText(HTML, "html", "utf-8")
    if kind == "text":
        message = text
    elif kind == "html":
        message = html
    else:
        message = MIMEMultipart("alternative")
        message.preamble = "The message is only available on a MIME-aware mail reader.\n"
        message.attach(text)
        message.attach(html)
    sender = "Cortex XSOAR <noreply@demisto.com>"
    recipients = ["signl4@soc.example", "cc@soc.example"]
    message["Subject"] = Header("[XSOAR #4711] Phishing – user reported: Übermäßige Anmeldefehler")
    message["From"] = Header(sender)
    message["To"] = Header(",".join(recipients))
    for header in headers:
        name, value = header.split("=", 1)
        message[name] = Header(value)
    server = smtplib.SMTP(HOST, port)
    server.ehlo()
    server.sendmail(sender, recipients, message.as_string())
    server.quit()


def cortex(port):
    message = MIMEMultipart()
    message["Subject"] = "[Case #1208] Suspicious PowerShell on WS-042"
    message["From"] = "cortex@soc.example"
    message["To"] = "signl4@soc.example"
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid()
    body = "EDR reported an encoded PowerShell command on WS-042.\nPlease triage."
    message.attach(MIMEText(body, "plain", "utf-8"))
    with smtplib.SMTP(HOST, port, timeout=SECONDS) as server:
        server.send_message(message, "cortex@soc.example", ["signl4@soc.example"])


if sys.argv[2] == "cortex":
    cortex(int(sys.argv[1]))
else:
    xsoar(int(sys.argv[1]), sys.argv[2].removeprefix("xsoar-"), sys.argv[3:])
