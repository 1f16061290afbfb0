package clients

import (
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
)

func left() {
	grpc.NewClient("a:80") // want `left as it is: grpc dials by itself`
	grpc.NewClient("a:80", grpc.WithContextDialer(nil))
	_ = &redis.Options{}                         // want `redis.Options does not use safedial; left as it is: it dials by itself; set Dialer to d.DialContext$`
	_ = &redis.Options{TLSConfig: new(struct{})} // want `set Dialer to d.DialContext, which must do TLS by itself because TLSConfig is not used then`
	_ = &redis.Options{Dialer: func() {}}
}
