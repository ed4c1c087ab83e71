package etcdmember

import (
	"fmt"
	"slices"
	"strings"
)

// Action is what a member does next.
type Action int

// The actions.
const (
	Wait      Action = iota // ask again soon
	Start                   // the data say everything
	Bootstrap               // begin a new cluster, alone
	Join                    // join Decision.Via, replacing an old entry of this host
	Refuse                  // a person has to act
)

func (a Action) String() string {
	return [...]string{"wait", "start", "bootstrap", "join", "refuse"}[a]
}

// Local is what this host's data directory holds.
type Local struct {
	HasData  bool
	MemberID uint64
	Cluster  Cluster // Members may be empty for a member that never applied any
	Dir      string  // for messages
}

// Decision is an action and its reason, in words for a person.
type Decision struct {
	Action Action
	Reason string
	Via    []Cluster // what Join may join, as seen by its members
}

// Decide is the whole table: from what this host has and what the others were
// seen to be, to what to do. It is pure.
//
//	own data   the others                                    action
//	none       all empty, this host is first in the list     Bootstrap
//	none       all empty, another host is first              Wait
//	none       some cluster, of listed hosts only            Join
//	none       several clusters                              Refuse
//	none       anything else                                 Wait
//	some       a cluster that has removed this member        Refuse
//	some       another cluster, and it has the better claim  Refuse
//	some       anything else                                 Start
func Decide(local Local, self Host, hosts []Host, peers []Peer, tls bool) Decision {
	if local.HasData {
		return decideWithData(local, self, hosts, peers, tls)
	}
	return decideEmpty(self, hosts, peers, tls)
}

func decideEmpty(self Host, hosts []Host, peers []Peer, tls bool) Decision {
	var clusters []Cluster
	var clustered, waiting []string
	for _, p := range peers {
		switch p.State {
		case Clustered:
			clusters = append(clusters, p.Cluster)
			clustered = append(clustered, fmt.Sprintf("%s (%x)", p.Host, p.Cluster.ID))
		case Empty:
		case Unreachable:
			waiting = append(waiting, fmt.Sprintf("%s does not answer (%s)", p.Host, p.Detail))
		case Disagrees, Stranger:
			waiting = append(waiting, fmt.Sprintf("%s: %s", p.Host, p.Detail))
		}
	}
	if len(clusters) > 0 {
		if slices.ContainsFunc(clusters, func(c Cluster) bool { return c.ID != clusters[0].ID }) {
			return Decision{Action: Refuse, Reason: "this host is empty and the others run different clusters: " + strings.Join(clustered, ", ") +
				"; stop the one that is wrong and move its data directory away, then start this host again"}
		}
		if unlisted := unlistedMembers(clusters, hosts, tls); len(unlisted) > 0 {
			return Decision{Action: Wait, Reason: fmt.Sprintf("the cluster %x has members that --cluster does not name: %s; if they are gone for good, remove them with `anka-controller etcd remove ID`, else name them in --cluster",
				clusters[0].ID, strings.Join(unlisted, ", "))}
		}
		return Decision{Action: Join, Via: clusters, Reason: "this host is empty and the others have a cluster"}
	}
	if len(waiting) > 0 {
		return Decision{Action: Wait, Reason: "this host is empty, and until every other host has answered it cannot tell whether there is a cluster: " + strings.Join(waiting, "; ")}
	}
	if first := sortedHosts(hosts)[0]; first != self {
		return Decision{Action: Wait, Reason: fmt.Sprintf("all hosts are empty; %s begins the cluster", first)}
	}
	return Decision{Action: Bootstrap, Reason: "all hosts are empty and this one is the first of the list"}
}

// unlistedMembers names the members whose address is not in --cluster. It is a
// reason to wait, not to refuse: a member that ran alone until now has yet to
// tell its new address, and a list read from one member may be old.
func unlistedMembers(clusters []Cluster, hosts []Host, tls bool) []string {
	var unlisted []string
	for _, m := range clusters[0].Members {
		listed := slices.ContainsFunc(hosts, func(h Host) bool { return slices.Contains(m.PeerURLs, h.peerURL(tls)) })
		if !listed {
			unlisted = append(unlisted, fmt.Sprintf("%x %s", m.ID, strings.Join(m.PeerURLs, " ")))
		}
	}
	return unlisted
}

func decideWithData(local Local, self Host, hosts []Host, peers []Peer, tls bool) Decision {
	own := self.peerURL(tls)
	if len(hosts) == 0 {
		if n := len(local.Cluster.Members); n > 1 {
			return Decision{Action: Refuse, Reason: fmt.Sprintf("the data in %s belong to a cluster of %d members (%s); start this host with the same --cluster as the others, or keep the data of this host alone with `anka-controller etcd restore`",
				local.Dir, n, strings.Join(memberURLs(local.Cluster), ", "))}
		}
		return Decision{Action: Start, Reason: "this host has data"}
	}
	var others []string
	claimed := false
	for _, p := range peers {
		if p.State != Clustered {
			continue
		}
		if p.Cluster.ID == local.Cluster.ID {
			if _, ok := p.Cluster.byID(local.MemberID); !ok && p.Cluster.Confirmed {
				return Decision{Action: Refuse, Reason: fmt.Sprintf("this member (%x) was removed from its cluster, as %s says; to bring this host back as a new member, move %s away and start it again",
					local.MemberID, p.Host, local.Dir)}
			}
			continue
		}
		others = append(others, fmt.Sprintf("%s (%x)", p.Host, p.Cluster.ID))
		if _, ok := p.Cluster.byPeerURL(own); ok {
			claimed = true
		}
	}
	if len(others) == 0 {
		return Decision{Action: Start, Reason: "this host has data"}
	}
	alone := len(local.Cluster.Members) <= 1
	if alone || claimed || len(others) > (len(hosts)-1)/2 {
		return Decision{Action: Refuse, Reason: fmt.Sprintf("the data in %s belong to another cluster (%x) than that of %s; if this host is the one that is wrong, move %s away and start it again: it then joins the others. If its data are the right ones, do that on the others",
			local.Dir, local.Cluster.ID, strings.Join(others, ", "), local.Dir)}
	}
	return Decision{Action: Start, Reason: "this host has data; other cluster seen at " + strings.Join(others, ", ")}
}

func memberURLs(c Cluster) []string {
	var urls []string
	for _, m := range c.Members {
		urls = append(urls, m.PeerURLs...)
	}
	return urls
}
