package server

import (
	"context"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.etcd.io/etcd/client/v3"
)

// twice is an etcd whose answer to each change is lost: the change is sent again,
// and what that finds is answered. A slow etcd is sent copies in the same way.
type twice struct{ clientv3.KV }

func (k twice) Txn(ctx context.Context) clientv3.Txn { return &twiceTxn{ctx: ctx, kv: k.KV} }

type twiceTxn struct {
	ctx        context.Context
	kv         clientv3.KV
	cmps       []clientv3.Cmp
	then, alse []clientv3.Op
}

func (x *twiceTxn) If(cmps ...clientv3.Cmp) clientv3.Txn { x.cmps = cmps; return x }
func (x *twiceTxn) Then(ops ...clientv3.Op) clientv3.Txn { x.then = ops; return x }
func (x *twiceTxn) Else(ops ...clientv3.Op) clientv3.Txn { x.alse = ops; return x }

func (x *twiceTxn) Commit() (*clientv3.TxnResponse, error) {
	if _, err := x.kv.Txn(x.ctx).If(x.cmps...).Then(x.then...).Else(x.alse...).Commit(); err != nil {
		return nil, err
	}
	return x.kv.Txn(x.ctx).If(x.cmps...).Then(x.then...).Else(x.alse...).Commit()
}

// Each change recognizes its own work when it is sent twice.
func TestChangesSentTwiceAreAnsweredAsOne(t *testing.T) {
	t.Parallel()
	etcd := dialEtcd(t, startEtcd(t, nil))
	etcd.KV = twice{etcd.KV}
	ctl := startController(t, etcd, startRegistry(t).URL, nil)
	n := newNode(t, "n1", ctl)
	n.register()
	call := func(method, path, body string) string {
		t.Helper()
		code, answer := do(t, method, ctl.URL+path, body)
		if code != 200 || !strings.Contains(answer, `"OK"`) {
			t.Errorf("%s %s %s: %d %s", method, path, body, code, answer)
		}
		return answer
	}
	group := uuids.FindString(call("POST", "/api/v1/group", `{"name":"g"}`))
	call("PUT", "/api/v1/group?id="+group, `{"name":"h"}`)
	call("POST", "/api/v1/node/group", `{"group_ids":["`+group+`"],"node_ids":["n1"]}`)
	call("POST", "/api/v1/node/config", `{"node_id":"n1","name":"mac one"}`)
	id := mustStart(t, ctl, api.StartRequest{})
	if n.start(n.reserve(api.TaskStart)) {
		t.Error("the start was abandoned")
	}
	if got := state(t, ctl, id).InstanceState; got != api.Started {
		t.Errorf("the instance is %s, want Started", got)
	}
	call("POST", "/api/v1/image", `{"id":"`+string(id)+`","tag":"v9","target_vm_id":"tpl-1"}`)
	call("DELETE", "/api/v1/vm", `{"id":"`+string(id)+`"}`)
	call("DELETE", "/api/v1/group?id="+group, "")
	call("DELETE", "/api/v1/node", `{"node_id":"n1"}`)
	if list, err := ctl.client().Nodes(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("nodes %v, %v; want none", list, err)
	}
}
