package clients

import (
	"context"
	"net"
	"net/smtp"

	dnsv2 "codeberg.org/miekg/dns"
	"github.com/go-ldap/ldap/v3"
	"github.com/jlaffaye/ftp"
	"github.com/miekg/dns"
	"github.com/wneessen/go-mail"

	"github.com/safedial/safedial"
)

// SMTP is net/smtp.
//
// TLS: the library's, by StartTLS; yours on port 465
// Timeouts: d's
// Keep-alive: d's
// Proxies: none
// Note: smtp.Dial and smtp.SendMail take no dialer
func SMTP(ctx context.Context, d *safedial.Dialer, host, port string) (*smtp.Client, error) {
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	return smtp.NewClient(conn, host)
}

// GoMail is github.com/wneessen/go-mail.
//
// TLS: the library's, by STARTTLS; yours with WithSSL, which this line replaces
// Timeouts: the library's, WithTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func GoMail(d *safedial.Dialer) mail.Option {
	return mail.WithDialContextFunc(d.DialContext)
}

// LDAP is github.com/go-ldap/ldap/v3.
//
// TLS: the library's
// Timeouts: d's
// Keep-alive: d's
// Proxies: none
func LDAP(d *safedial.Dialer) ldap.DialOpt {
	return ldap.DialWithDialer(d.NetDialer())
}

// DNS is github.com/miekg/dns.
//
// TLS: the library's
// Timeouts: d's; Client.DialTimeout does not apply
// Keep-alive: d's
// Proxies: none
// Note: for UDP and TCP
func DNS(client *dns.Client, d *safedial.Dialer) {
	client.Dialer = d.NetDialer()
}

// DNSv2 is codeberg.org/miekg/dns.
//
// TLS: the library's
// Timeouts: d's; NewTransport's does not apply
// Keep-alive: d's; NewTransport's does not apply
// Proxies: none
// Note: client is a NewClient; for UDP and TCP
func DNSv2(client *dnsv2.Client, d *safedial.Dialer) {
	client.Transport.Dialer = d.NetDialer()
}

// FTP is github.com/jlaffaye/ftp.
//
// TLS: the library's
// Timeouts: the library's, 30 s, for the control connection; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
// Note: data connections too
func FTP(d *safedial.Dialer) ftp.DialOption {
	return ftp.DialWithDialer(*d.NetDialer())
}
