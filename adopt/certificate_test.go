package adopt

import (
	"crypto/x509"
	"net/http/httptest"
)

// pool returns a pool that trusts a test server, whose name is example.com.
func pool(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}
