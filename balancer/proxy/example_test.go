package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/balancer/proxy"
)

func Example() {
	serve := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }
	one, two := httptest.NewServer(http.HandlerFunc(serve)), httptest.NewServer(http.HandlerFunc(serve))
	defer two.Close()

	pool, err := balancer.New(balancer.DefaultConfig(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := pool.SetMembers(balancer.OriginJoin, []string{one.URL, two.URL}); err != nil {
		fmt.Println(err)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := proxy.Server{Listener: ln, Handler: proxy.New(proxy.Config{Control: pool}, nil)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- pool.Run(ctx) }()
	go func() { done <- srv.Run(ctx) }()
	defer func() { cancel(); <-done; <-done }()

	one.Close() // the program behind the proxy does not notice
	resp, err := http.Get("http://" + ln.Addr().String() + "/greeting")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(data))
	// Output: 200 hello
}
