// Sends mails as TheHive 4 does: the calls that play-mailer makes of commons-email over JavaMail.
//   java -cp ... Notify.java PORT text|html SUBJECT TO BODY...      one mail for each BODY
// With -Dhost it asks for another name than 127.0.0.1, with -Dssl=true it speaks TLS from the first byte, with -Duser and -Dpassword it logs in.

import java.util.Properties;
import javax.mail.Session;
import org.apache.commons.mail.DefaultAuthenticator;
import org.apache.commons.mail.HtmlEmail;
import org.apache.commons.mail.MultiPartEmail;

public class Notify {
    public static void main(String[] args) throws Exception {
        for (int at = 4; at < args.length; at++) {
            send(Integer.parseInt(args[0]), args[1].equals("html"), args[2], args[3], args[at]);
        }
    }

    static void send(int port, boolean html, String subject, String to, String body) throws Exception {
        MultiPartEmail mail = html ? new HtmlEmail() : new MultiPartEmail();
        mail.setCharset("utf-8");
        if (html) {
            ((HtmlEmail) mail).setHtmlMsg(body);
        } else {
            mail.setMsg(body);
        }
        mail.setSubject(subject);
        mail.setFrom("notification@thehive.local", null);
        mail.addTo(to, null);
        mail.setHostName(System.getProperty("host", "127.0.0.1"));
        mail.setSmtpPort(port);
        // play.mailer.tls: STARTTLS where it is offered.
        mail.setStartTLSEnabled(true);
        if (Boolean.getBoolean("ssl")) {
            mail.setSSLOnConnect(true);
            mail.setSslSmtpPort(Integer.toString(port));
        }
        DefaultAuthenticator login = null;
        if (System.getProperty("user") != null) {
            login = new DefaultAuthenticator(System.getProperty("user"), System.getProperty("password"));
            mail.setAuthenticator(login);
        }
        Properties properties = mail.getMailSession().getProperties();
        properties.setProperty("mail.smtp.ssl.checkserveridentity", "true");
        mail.setMailSession(Session.getInstance(properties, login));
        mail.send();
    }
}
