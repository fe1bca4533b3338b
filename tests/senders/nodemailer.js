// Sends one mail by nodemailer:  node nodemailer.js PORT true|false CA BODY      true: TLS from the first byte
"use strict";

const { readFileSync } = require("fs");
const nodemailer = require("nodemailer");

const [port, secure, authority, body] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: "localhost",
  port: Number(port),
  secure: secure === "true",
  requireTLS: true,
  tls: { ca: readFileSync(authority) },
  auth: { user: "alice", pass: "open sesame" },
});
transport
  .sendMail({ from: "you@example.org", to: "soc@example.org", subject: "Disk full on db01", text: body })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
