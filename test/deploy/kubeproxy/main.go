// Command kubeproxy plays a Kubernetes service in a container: it takes TCP
// connections at ADDRESS and hands each to one of the endpoints that the file
// lists, one a line, in turn. The file is read again for every connection, as
// the endpoints of a service change while it lives.
//
//	kubeproxy ADDRESS FILE
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
)

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var turn atomic.Uint64
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go serve(c, os.Args[2], &turn)
	}
}

func serve(c net.Conn, file string, turn *atomic.Uint64) {
	defer c.Close()
	text, _ := os.ReadFile(file) // none yet: no endpoints
	endpoints := strings.Fields(string(text))
	if len(endpoints) == 0 {
		return
	}
	b, err := net.Dial("tcp", endpoints[turn.Add(1)%uint64(len(endpoints))])
	if err != nil {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // refused there, reset here
		}
		return
	}
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(b, c) // either end may go away
		_ = b.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, b)
	_ = c.(*net.TCPConn).CloseWrite()
	<-done
}
