// Sends one mail by Go's net/smtp:  go run send.go PORT BODY
package main

import (
	"log"
	"net/smtp"
	"os"
	"strings"
)

func main() {
	port, body := os.Args[1], os.Args[2]
	login := smtp.PlainAuth("", "alice", "open sesame", "localhost")
	mail := strings.ReplaceAll("From: you@example.org\nSubject: Disk full on db01\n\n"+body, "\n", "\r\n")
	err := smtp.SendMail("localhost:"+port, login, "you@example.org", []string{"soc@example.org"}, []byte(mail))
	if err != nil {
		log.Fatal(err)
	}
}
