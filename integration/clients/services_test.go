package clients

import (
	"context"
	"errors"
	"io"
	"net"
	nsmtp "net/smtp"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	dnsv2 "codeberg.org/miekg/dns"
	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
	"github.com/jlaffaye/ftp"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"github.com/wneessen/go-mail"
)

var serviceLibraries = []library{
	{name: "SMTP", server: smtpServer, call: callSMTP},
	{name: "GoMail", server: smtpServer, call: callGoMail},
	{name: "LDAP", server: slapdServer, tls: true, call: callLDAP},
	{name: "DNS", server: dnsServer, tls: true, call: callDNS},
	{name: "DNSv2", server: dnsServer, tls: true, call: callDNSv2},
	{name: "FTP", server: vsftpdServer, tls: true, call: callFTP},
}

func callSMTP(ctx context.Context, a attempt) error {
	dial := func() (*nsmtp.Client, error) { return nsmtp.Dial(a.address) }
	if a.d != nil {
		dial = func() (*nsmtp.Client, error) {
			host, port, _ := net.SplitHostPort(a.address)
			return SMTP(ctx, a.d, host, port)
		}
	}
	client, err := dial()
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Noop()
}

func callGoMail(ctx context.Context, a attempt) error {
	addr, err := net.ResolveTCPAddr("tcp", a.address)
	if err != nil {
		return err
	}
	options := []mail.Option{
		mail.WithPort(addr.Port), mail.WithTLSPolicy(mail.NoTLS), mail.WithTimeout(time.Second),
	}
	if a.d != nil {
		options = append(options, GoMail(a.d))
	}
	client, err := mail.NewClient("127.0.0.1", options...)
	if err != nil {
		return err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return err
	}
	return client.Close()
}

func callLDAP(_ context.Context, a attempt) error {
	var options []ldap.DialOpt
	if a.d != nil {
		options = append(options, LDAP(a.d))
	}
	conn, err := ldap.DialURL(a.url("ldap"), options...)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetTimeout(time.Second)
	return conn.UnauthenticatedBind("")
}

func callDNS(ctx context.Context, a attempt) error {
	client := dns.Client{Net: "tcp"}
	if a.tls != nil {
		client = dns.Client{Net: "tcp-tls", TLSConfig: a.tls}
	}
	if a.d != nil {
		DNS(&client, a.d)
	}
	question := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	_, _, err := client.ExchangeContext(ctx, question, a.address)
	return err
}

func callDNSv2(ctx context.Context, a attempt) error {
	client := dnsv2.NewClient()
	client.TLSConfig = a.tls
	if a.d != nil {
		DNSv2(client, a.d)
	}
	question := dnsv2.NewMsg("example.com.", dnsv2.TypeA)
	_, _, err := client.Exchange(ctx, question, "tcp", a.address)
	return err
}

func callFTP(_ context.Context, a attempt) error {
	options := []ftp.DialOption{ftp.DialWithTimeout(time.Second)}
	if a.d != nil {
		options = []ftp.DialOption{FTP(a.d)}
	}
	if a.tls != nil {
		options = append(options, ftp.DialWithTLS(a.tls))
	}
	conn, err := ftp.Dial(a.address, options...)
	if err != nil {
		return err
	}
	defer conn.Quit()
	if err := conn.Login("anonymous", "anonymous"); err != nil {
		return err
	}
	entries, err := conn.List("")
	listed := func(e *ftp.Entry) bool { return e.Name == "peer" }
	if err == nil && !slices.ContainsFunc(entries, listed) {
		err = errors.New("the file is not listed")
	}
	return err
}

// An inbox accepts all mail.
type inbox struct{}

func (inbox) NewSession(*smtp.Conn) (smtp.Session, error) { return inbox{}, nil }

func (inbox) Mail(string, *smtp.MailOptions) error { return nil }

func (inbox) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (inbox) Reset() {}

func (inbox) Logout() error { return nil }

func (inbox) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

var smtpServer = server{
	name: "emersion/go-smtp's",
	start: func(t *testing.T, address string) error {
		return listen(t, address, func(l net.Listener) { _ = smtp.NewServer(inbox{}).Serve(l) })
	},
}

var slapdServer = server{
	name: "slapd", program: "slapd", debian: "slapd",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		config := p.write(t, "slapd.conf", `include /etc/ldap/schema/core.schema
pidfile %s/pid
database ldif
suffix dc=example
directory %s
`, p.dir, p.dir)
		return p.start(t, address, "slapd", "-d", "256", "-f", config, "-h", "ldap://"+address)
	},
}

var dnsServer = server{
	name: "miekg/dns's",
	start: func(t *testing.T, address string) error {
		handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
			_ = w.WriteMsg(new(dns.Msg).SetReply(question))
		})
		return listen(t, address, func(l net.Listener) {
			_ = (&dns.Server{Listener: l, Handler: handler}).ActivateAndServe()
		})
	},
}

var vsftpdServer = server{
	name: "vsftpd", program: "vsftpd", debian: "vsftpd",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		files := filepath.Join(p.dir, "files")
		require.NoError(t, os.Mkdir(files, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(files, "peer"), nil, 0o444))
		require.NoError(t, os.Chmod(files, 0o555)) // vsftpd refuses a root that can be written
		config := p.write(t, "conf", `listen=YES
listen_address=127.0.0.1
listen_port=%s
anonymous_enable=YES
run_as_launching_user=YES
anon_root=%s
secure_chroot_dir=%s
pasv_min_port=21000
pasv_max_port=21100
seccomp_sandbox=NO
background=NO
`, port(t, address), files, files)
		return p.start(t, address, "vsftpd", config)
	},
}
