package etcdkit

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// fakeMembers are etcd members as far as the renewal of leases goes: each stream
// goes to the next of them, and the last serves those that come after.
type fakeMembers struct {
	pb.LeaseClient
	members []func(s *fakeStream, lease int64) error // answers one request
	streams []*fakeStream
}

type fakeStream struct {
	grpc.ClientStream
	ctx     context.Context
	serve   func(s *fakeStream, lease int64) error
	sent    []int64
	answers chan *pb.LeaseKeepAliveResponse
	broken  chan error
}

func (m *fakeMembers) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	s := &fakeStream{ctx: ctx, serve: m.members[min(len(m.streams), len(m.members)-1)],
		answers: make(chan *pb.LeaseKeepAliveResponse, 100), broken: make(chan error, 1)}
	m.streams = append(m.streams, s)
	return s, nil
}

func (s *fakeStream) Send(req *pb.LeaseKeepAliveRequest) error {
	s.sent = append(s.sent, req.ID)
	if err := s.serve(s, req.ID); err != nil {
		s.broken <- err
		return io.EOF // as a gRPC stream does: Recv says why
	}
	return nil
}

func (s *fakeStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	select {
	case a := <-s.answers:
		return a, nil
	case err := <-s.broken:
		return nil, err
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func alive(s *fakeStream, lease int64) error {
	s.answers <- &pb.LeaseKeepAliveResponse{ID: lease, TTL: 60}
	return nil
}

func silent(*fakeStream, int64) error { return nil }

// runRenewer runs a renewer of members inside a synctest bubble, and returns it
// with the times of the nodes' renewals.
func runRenewer(t *testing.T, m *fakeMembers) (*Renewer, map[string]time.Time) {
	renewed := make(map[string]time.Time)
	r := NewRenewer(m, zap.NewNop(), func(id string, at time.Time) { renewed[id] = at })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r, renewed
}

func TestRenewalsShareAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &fakeMembers{members: []func(*fakeStream, int64) error{alive}}
		r, renewed := runRenewer(t, m)
		begun := time.Now()
		for lease := range clientv3.LeaseID(3) {
			if err := r.Ask("n", lease).Wait(t.Context()); err != nil {
				t.Errorf("lease %d: %v", lease, err)
			}
			time.Sleep(time.Hour) // an idle stream is not a silent one
		}
		if len(m.streams) != 1 || len(m.streams[0].sent) != 3 {
			t.Errorf("%d streams, the first with %v; want one with 3 requests", len(m.streams), m.streams[0].sent)
		}
		if want := begun.Add(2 * time.Hour); !renewed["n"].Equal(want) {
			t.Errorf("renewed at %s, want when it was asked for, %s", renewed["n"], want)
		}
	})
}

func TestLostLeaseIsReportedAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := func(s *fakeStream, lease int64) error {
			s.answers <- &pb.LeaseKeepAliveResponse{ID: 99, TTL: 60} // nobody's
			s.answers <- &pb.LeaseKeepAliveResponse{ID: lease, TTL: lease}
			return nil
		}
		r, renewed := runRenewer(t, &fakeMembers{members: []func(*fakeStream, int64) error{lost}})
		gone, kept := r.Ask("gone", 0), r.Ask("kept", 1)
		if err := gone.Wait(t.Context()); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Errorf("lease without time to live: got %v, want ErrLeaseNotFound", err)
		}
		if err := kept.Wait(t.Context()); err != nil {
			t.Errorf("the other lease: %v", err)
		}
		if _, ok := renewed["gone"]; ok || len(renewed) != 1 {
			t.Errorf("counted as renewed: %v, want only the other", renewed)
		}
	})
}

func TestRenewalsGoToTheNextMember(t *testing.T) {
	breaks := func(*fakeStream, int64) error { return rpctypes.ErrNoLeader }
	for name, first := range map[string]func(*fakeStream, int64) error{"silent": silent, "breaks": breaks} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &fakeMembers{members: []func(*fakeStream, int64) error{first, alive}}
				r, renewed := runRenewer(t, m)
				begun := time.Now()
				one, two := r.Ask("one", 1), r.Ask("two", 2)
				for _, n := range []*Renewal{one, two} {
					if err := n.Wait(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(begun); took > renewLimit+MaxBackoff {
					t.Errorf("took %s, want at most %s", took, renewLimit+MaxBackoff)
				}
				if !renewed["one"].Equal(begun) || !renewed["two"].Equal(begun) {
					t.Errorf("renewed at %v, want when first asked for, %s", renewed, begun)
				}
				if len(m.streams) != 2 || len(m.streams[1].sent) != 2 {
					t.Errorf("%d streams; want a second one that carried both", len(m.streams))
				}
			})
		})
	}
}

func TestUnansweredRenewalIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, renewed := runRenewer(t, &fakeMembers{members: []func(*fakeStream, int64) error{silent}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		first := r.Ask("n", 1)
		if err := first.Wait(ctx); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if r.Ask("n", 1) != first {
			t.Error("what is still awaited was asked for a second time")
		}
		if len(renewed) != 0 {
			t.Errorf("counted as renewed: %v", renewed)
		}
	})
}
