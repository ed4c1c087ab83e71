package balancer_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/ankacluster/ankacluster/balancer"
)

func Example() {
	serve := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }
	one, two := httptest.NewServer(http.HandlerFunc(serve)), httptest.NewServer(http.HandlerFunc(serve))
	defer two.Close()

	b, err := balancer.New(balancer.DefaultConfig(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.SetMembers(balancer.OriginJoin, []string{one.URL, two.URL}); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	defer func() { cancel(); <-done }()

	one.Close() // whichever is asked first, the other answers
	resp, err := b.Client().Get("http://pool/greeting")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(data))
	// Output: 200 hello
}

func ExampleBalancer_SetMembers() {
	b, _ := balancer.New(balancer.DefaultConfig(), nil)
	fmt.Println(b.SetMembers(balancer.OriginLearned, nil))
	fmt.Println(b.SetMembers(balancer.OriginJoin, []string{"10.0.1.4:8090"}))
	// Output:
	// endpoints: learned: an empty endpoint list is refused
	// endpoint "10.0.1.4:8090" must begin with http:// or https://
}
