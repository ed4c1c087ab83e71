package localcloud

// Etcd is a member of an etcd cluster on loopback. Others may reach it by other
// URLs than those it listens at.
type Etcd struct {
	Name, Dir                  string
	Client, Peer               string // URLs to listen at
	ClientThrough, PeerThrough string // URLs for others; empty means as above
}

// Args are the arguments of the etcd executable. initial is the cluster, as
// NAME=PEER,...
func (e Etcd) Args(initial string) []string {
	client, peer := e.ClientThrough, e.PeerThrough
	if client == "" {
		client = e.Client
	}
	if peer == "" {
		peer = e.Peer
	}
	return []string{
		"--name", e.Name, "--data-dir", e.Dir, "--initial-cluster", initial, "--log-level", "warn",
		"--election-timeout", "500", // as our embedded member has it
		"--listen-client-urls", e.Client, "--advertise-client-urls", client,
		"--listen-peer-urls", e.Peer, "--initial-advertise-peer-urls", peer,
	}
}
