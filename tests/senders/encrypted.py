"""Sends one mail by Python's smtplib, encrypted or by LMTP:

    encrypted.py CA BODY starttls|implicit|cortex PORT
    encrypted.py CA BODY lmtp SOCKET
"""

import smtplib
import ssl
import sys

authority, body, way, where = sys.argv[1:]
message = f"Subject: Disk full on db01\nFrom: you@example.org\n\n{body}"
context = ssl.create_default_context(cafile=authority)
if way == "lmtp":
    server = smtplib.LMTP(where)
elif way == "implicit":
    server = smtplib.SMTP_SSL("localhost", int(where), context=context)
else:
    server = smtplib.SMTP("localhost", int(where))
with server:
    if way == "starttls":
        server.starttls(context=context)
    if way in ("starttls", "implicit"):
        server.login("alice", "open sesame")
    elif way == "cortex":
        server.login("user", "pwd")
    server.sendmail("you@example.org", ["soc@example.org"], message)
