package adopt

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

	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
	"github.com/jlaffaye/ftp"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"github.com/wneessen/go-mail"

	"github.com/safedial/safedial"
)

// inbox accepts all mail.
type inbox struct{}

func (inbox) NewSession(*smtp.Conn) (smtp.Session, error) { return inbox{}, nil }
func (inbox) Mail(string, *smtp.MailOptions) error        { return nil }
func (inbox) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (inbox) Reset()                                      {}
func (inbox) Logout() error                               { return nil }
func (inbox) Data(r io.Reader) error                      { _, err := io.Copy(io.Discard, r); return err }

func startSMTP(t *testing.T, address string) error {
	return listen(t, address, func(l net.Listener) { _ = smtp.NewServer(inbox{}).Serve(l) })
}

func TestRoundTripSMTP(t *testing.T) {
	trip{
		server: "emersion/go-smtp's",
		start:  startSMTP,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			dial := nsmtp.Dial
			if d != nil {
				dial = func(address string) (*nsmtp.Client, error) {
					host, port, _ := net.SplitHostPort(address)
					return SMTP(ctx, d, host, port)
				}
			}
			client, err := dial(address)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Noop()
		},
	}.run(t)
}

func TestRoundTripGoMail(t *testing.T) {
	trip{
		server: "emersion/go-smtp's",
		start:  startSMTP,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			addr, err := net.ResolveTCPAddr("tcp", address)
			if err != nil {
				return err
			}
			options := []mail.Option{mail.WithPort(addr.Port), mail.WithTLSPolicy(mail.NoTLS), mail.WithTimeout(time.Second)}
			if d != nil {
				options = append(options, GoMail(d))
			}
			client, err := mail.NewClient("127.0.0.1", options...)
			if err != nil {
				return err
			}
			if err := client.DialWithContext(ctx); err != nil {
				return err
			}
			return client.Close()
		},
	}.run(t)
}

func TestRoundTripLDAP(t *testing.T) {
	trip{
		server: "slapd", program: "slapd", debian: "slapd",
		start: func(t *testing.T, address string) error {
			p := process{dir: t.TempDir()}
			config := p.write(t, "slapd.conf", "include /etc/ldap/schema/core.schema\npidfile %s/pid\ndatabase ldif\nsuffix dc=example\ndirectory %s\n", p.dir, p.dir)
			return p.start(t, address, "slapd", "-d", "256", "-f", config, "-h", "ldap://"+address)
		},
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			var options []ldap.DialOpt
			if d != nil {
				options = append(options, LDAP(d))
			}
			conn, err := ldap.DialURL("ldap://"+address, options...)
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetTimeout(time.Second)
			return conn.UnauthenticatedBind("")
		},
	}.run(t)
}

func TestRoundTripDNS(t *testing.T) {
	trip{
		server: "miekg/dns's",
		start: func(t *testing.T, address string) error {
			handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
				answer := new(dns.Msg)
				_ = w.WriteMsg(answer.SetReply(question))
			})
			return listen(t, address, func(l net.Listener) { _ = (&dns.Server{Listener: l, Handler: handler}).ActivateAndServe() })
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			client := dns.Client{Net: "tcp"}
			if d != nil {
				DNS(&client, d)
			}
			question := new(dns.Msg)
			_, _, err := client.ExchangeContext(ctx, question.SetQuestion("example.com.", dns.TypeA), address)
			return err
		},
	}.run(t)
}

func TestRoundTripFTP(t *testing.T) {
	trip{
		server: "vsftpd", program: "vsftpd", debian: "vsftpd",
		start: func(t *testing.T, address string) error {
			p := process{dir: t.TempDir()}
			files := filepath.Join(p.dir, "files")
			require.NoError(t, os.Mkdir(files, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(files, "peer"), nil, 0o444))
			require.NoError(t, os.Chmod(files, 0o555)) // vsftpd refuses a root that can be written
			config := p.write(t, "conf", "listen=YES\nlisten_address=127.0.0.1\nlisten_port=%s\nanonymous_enable=YES\nrun_as_launching_user=YES\n"+
				"anon_root=%s\nsecure_chroot_dir=%s\npasv_min_port=21000\npasv_max_port=21100\nseccomp_sandbox=NO\nbackground=NO\n", port(t, address), files, files)
			return p.start(t, address, "vsftpd", config)
		},
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			options := []ftp.DialOption{ftp.DialWithTimeout(time.Second)}
			if d != nil {
				options = []ftp.DialOption{FTP(d)}
			}
			conn, err := ftp.Dial(address, options...)
			if err != nil {
				return err
			}
			defer conn.Quit()
			if err := conn.Login("anonymous", "anonymous"); err != nil {
				return err
			}
			entries, err := conn.List("")
			if err == nil && !slices.ContainsFunc(entries, func(e *ftp.Entry) bool { return e.Name == "peer" }) {
				err = errors.New("the file is not listed")
			}
			return err
		},
	}.run(t)
}
