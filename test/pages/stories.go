package pages

// The hosts of the pages.
var (
	servers = []int{4, 5, 6}
	first   = []int{4}
	mac     = []int{10}
	apart   = []int{7} // a machine beside the three
)

// ok is the answer of the REST API when all is well.
const ok = `"status":"OK"`

// Stories are typed by TestPages of test/topologies.
var Stories = []Story{
	{Name: "three machines", Hosts: []int{4, 5, 6, 7, 10}, Mac: 10, Steps: threeMachines},
	{Name: "a push registry and replicas", Hosts: []int{4, 5, 6}, Mac: 6, Steps: replicas},
	{Name: "one machine", Hosts: []int{4, 10}, Mac: 10, Steps: oneMachine},
}

var threeMachines = []Step{
	{Command: "sudo anka-controller service install --standalone --cluster 10.0.1.4,10.0.1.5,10.0.1.6", On: servers, Prints: "ready|not ready yet",
		Also: []string{"anka-controller service install", "anka-controller --standalone --cluster 10.0.1.4,10.0.1.5,10.0.1.6",
			"anka-controller --standalone --cluster a,b,c", "ANKA_CLUSTER=10.0.1.4,10.0.1.5,10.0.1.6"}},
	{Command: "curl http://localhost:8090/readyz?verbose", On: servers, Awaits: `^ok\n\[\+\] registries answer`},
	{Command: "anka-controller etcd status", On: first, Awaits: `(?s)leader.*voter.*voter|voter.*leader.*voter|voter.*voter.*leader`},
	{Command: "curl http://10.0.1.4:8090/api/v1/status", On: mac, Prints: `"status":"Running"`},
	{Command: "curl http://localhost:8090/api/v1/status", On: first, Prints: `"status":"Running"`},
	{Command: "anka-controller --version", On: first, Prints: "^anka-controller .*commit"},
	{Unwritten: true, Command: "anka-controller service status", On: servers, Prints: "running, process .* starts at boot: true"},

	// Templates.
	{Command: "ankacluster template push ./sonoma sonoma:v1 --url http://10.0.1.4:8090", On: mac, Before: "mkdir sonoma && head -c 1M /dev/zero >sonoma/00000000000000000000000000000001.ank"},
	{Command: "ankacluster template list --copies --url http://10.0.1.5:8090", On: mac, Awaits: `sonoma +v1 .* 3 +10\.0\.1\.4, 10\.0\.1\.5, 10\.0\.1\.6`},
	{Command: "curl -s http://10.0.1.4:8089/registry/v1/cluster", On: mac, Prints: ok},
	{Command: "curl -s http://10.0.1.4:8089/registry/v1/copies", On: mac, Prints: `"sonoma"`},
	{Command: "curl http://10.0.1.4:8090/api/v1/registry/vm", On: mac, Prints: `"name":"sonoma"`},

	// A Mac of Anka's cloud comes over.
	{Command: "anka registry -o2 -r http://10.0.1.4:8089 push TEMPLATE -t TAG", On: mac, Before: "anka create moved --size 1M", Names: []string{"TEMPLATE", "moved", "TAG", "v1"}},
	{Command: "anka registry -r http://OLD-REGISTRY:8089 pull TEMPLATE -t TAG", On: mac, Before: "anka delete --yes moved", Names: []string{"OLD-REGISTRY", "10.0.1.5", "TEMPLATE", "moved", "TAG", "v1"}},
	{Command: "anka registry -r http://10.0.1.4:8089 push <template> -t v1", On: mac, Before: "anka create ventura --size 1M", Names: []string{"<template>", "ventura"}},
	{Command: "curl http://OLD-CONTROLLER:8090/api/v1/group", On: mac, Names: []string{"OLD-CONTROLLER", "10.0.1.5"}, Prints: ok},
	{Command: `curl -d '{"name":"ios","description":"Macs for iOS"}' http://10.0.1.4:8090/api/v1/group`, On: mac, Prints: ok},
	{Command: "sudo ankacluster join http://10.0.1.4:8090,http://10.0.1.5:8090,http://10.0.1.6:8090", On: mac, Prints: "joined as node",
		Also: []string{"ankacluster join"}},
	{Command: "sudo ankacluster disjoin", On: mac, Prints: "left|removed|disjoined"},
	{Command: "sudo ankacluster join http://10.0.1.4:8090,http://10.0.1.5:8090,http://10.0.1.6:8090 --groups ios", On: mac, Prints: "joined as node"},

	// Looking at it.
	{Command: "sudo ankacluster status", On: mac, Awaits: `(?s)10\.0\.1\.4:8090 +healthy.*10\.0\.1\.6:8089 +healthy`, Also: []string{"ankacluster status"}},
	{Command: "sudo ankacluster doctor", On: mac, Prints: "ok +controllers|ok +agent", Also: []string{"ankacluster doctor"}},
	{Command: "sudo ankacluster doctor --json", On: mac, Prints: `^[\[{]`},
	{Command: "sudo ankacluster endpoints --why", On: mac, Prints: `next pick may choose it: yes`},
	{Command: "sudo ankacluster endpoints --why --json", On: mac, Prints: `^[\[{]`},
	{Command: "sudo ankacluster endpoints drain http://10.0.1.5:8090", On: mac, Prints: "is drained: no new request"},
	{Unwritten: true, Command: "sudo ankacluster endpoints", On: mac, Prints: `10\.0\.1\.5:8090 +drained by hand since`},
	{Command: "sudo ankacluster endpoints undrain http://10.0.1.5:8090", On: mac, Prints: "is used again"},
	{Command: "sudo ankacluster logs", On: mac, Prints: "joined|registered|agent"},
	{Command: "ankacluster template list --copies", On: mac, Prints: `ventura +v1`},
	{Command: "ankacluster mac-report", On: mac, Prints: "commands? recorded in"},

	// A VM.
	{Command: "curl http://10.0.1.4:8090/api/v1/registry/vm", On: mac, Prints: `"id":"([^"]+)","name":"ventura"|"name":"ventura"[^}]*"id":"([^"]+)"`, Learn: "template id"},
	{Command: `curl -d '{"vmid":"<template id>"}' http://10.0.1.4:8090/api/v1/vm`, On: mac, Prints: `"body":\["([^"]+)"`, Learn: "instance id"},
	{Command: "curl 'http://10.0.1.4:8090/api/v1/vm?id=<instance id>'", On: mac, Awaits: `"instance_state":"Started"`},
	{Unwritten: true, Command: "curl http://10.0.1.4:8090/api/v1/vm", On: mac, Prints: `"instance_state":"Started"`},
	{Command: "curl 'http://10.0.1.4:8090/api/v1/vm/why?id=<instance id>'", On: mac, Prints: `"cause":"placed"`},
	{Command: `curl -d '{"vmid":"<template id>"}' http://10.0.1.4:8090/api/v1/vm/why`, On: mac, Prints: `"cause":"(fits|room)"`},
	{Command: "curl -iG http://10.0.1.4:8090/api/v1/vm --data-urlencode 'q=state:Started age<1d' -d sort=-age -d limit=100", On: mac, Prints: "X-Total-Count: [1-9]"},
	{Command: "curl -G http://10.0.1.4:8090/api/v1/node --data-urlencode 'q=ram>1G -state:Offline'", On: mac, Prints: `"node_id"`},
	{Command: "curl http://10.0.1.4:8090/api/v1/node", On: mac, Prints: `"state":"Active"`},
	{Command: `curl -X DELETE -d '{"id":"<instance id>"}' http://10.0.1.4:8090/api/v1/vm`, On: mac, Prints: ok},

	// A controller beside them, with their etcd and registry.
	{Command: "anka-controller --etcd-endpoints http://a:2379,http://b:2379,http://c:2379 --anka-registry http://r:8089", On: apart, Serves: true,
		Names: []string{"//a", "//10.0.1.4", "//b", "//10.0.1.5", "//c", "//10.0.1.6", "//r", "//10.0.1.4"}},
	{Unwritten: true, Command: "curl http://10.0.1.7/readyz", On: mac, Awaits: "^ok"},

	// Backup: a snapshot, and back to it. The group that was made after it is gone.
	{Command: "anka-controller etcd snapshot /backup/cloud-$(date +%F).db", On: first, Prints: "revision", Also: []string{"anka-controller etcd snapshot FILE"}},
	{Command: "anka-controller etcd defrag", On: first},
	{Unwritten: true, Command: `curl -d '{"name":"later"}' http://10.0.1.4:8090/api/v1/group`, On: mac, Prints: ok},
	{Unwritten: true, Command: "systemctl stop anka-controller", On: servers},
	{Command: "anka-controller etcd restore --cluster 10.0.1.4,10.0.1.5,10.0.1.6 /backup/cloud.db", On: first, Before: "cp /backup/cloud-*.db /backup/cloud.db", Prints: "restored into"},
	{Unwritten: true, Command: "mv /var/lib/anka-controller/etcd /var/lib/anka-controller/etcd.before", On: []int{5, 6}},
	{Unwritten: true, Command: "sudo systemctl start anka-controller", On: servers},
	{Command: "anka-controller etcd status", On: first, Awaits: `(?s)leader.*voter.*voter|voter.*leader.*voter|voter.*voter.*leader`},
	{Unwritten: true, Command: "curl http://10.0.1.4:8090/api/v1/group", On: mac, Awaits: `^{"status":"OK","message":"","body":\[{[^}]*"ios"[^}]*}\]}`},
	{Command: "sudo install -m 755 anka-controller /usr/local/bin/anka-controller", On: []int{5}, Before: "cp /usr/local/bin/anka-controller ."},
	{Command: "sudo systemctl restart anka-controller", On: []int{5}},
	{Command: "sudo ankacluster status", On: mac, Awaits: `10\.0\.1\.4:8090 +healthy`},

	// A host that is gone for good.
	{Command: "anka-controller etcd status", On: first, Awaits: `(?s)leader.*voter.*voter|voter.*leader.*voter|voter.*voter.*leader`},
	{Unwritten: true, Command: "systemctl stop anka-controller", On: []int{6}},
	{Command: "anka-controller etcd remove HOST", On: first, Names: []string{"HOST", "10.0.1.6"}, Prints: "^removed"},
}

var replicas = []Step{
	{Command: "sudo anka-registry service install --base-path /data", On: first, Prints: "ready"},
	{Command: "sudo anka-registry service install --base-path /data --replica-of http://10.0.1.4:8089", On: []int{5, 6}, Prints: "ready"},
	{Command: "sudo anka-controller service install --standalone --cluster 10.0.1.4,10.0.1.5,10.0.1.6 --anka-registry http://10.0.1.5:8089 --push-registry http://10.0.1.4:8089", On: servers, Prints: "ready|not ready yet"},
	{Command: "curl http://localhost:8090/readyz?verbose", On: servers, Awaits: `^ok`},
	{Command: "anka registry -r http://10.0.1.4:8089 push <template> -t v1", On: []int{6}, Before: "anka create sonoma --size 1M", Names: []string{"<template>", "sonoma"}},
	{Command: "curl http://10.0.1.4:8090/api/v1/registry/vm", On: []int{6}, Awaits: `"name":"sonoma"`},
	{Command: "curl -s http://10.0.1.5:8089/registry/v1/replication", On: []int{6}, Prints: `"sources"`},
	{Unwritten: true, Command: "curl -s http://10.0.1.5:8089/registry/v2/vm", On: []int{6}, Awaits: `"name":"sonoma"`},

	// Copies of what is on the disk.
	{Command: "rsync -a SOURCE/blobs COPY/", On: []int{5}, Before: "mkdir copy", Names: []string{"SOURCE", "/data", "COPY", "copy"}},
	{Command: "rsync -a --delete SOURCE/repos COPY/", On: []int{5}, Names: []string{"SOURCE", "/data", "COPY", "copy"}},
	{Command: "rsync -a --delete SOURCE/blobs COPY/", On: []int{5}, Names: []string{"SOURCE", "/data", "COPY", "copy"}},
	{Command: "anka-registry --base-path COPY verify", On: []int{5}, Names: []string{"COPY", "copy"}},
	{Command: "anka-registry --base-path DIR export REPOSITORY TARGET", On: []int{5}, Names: []string{"DIR", "/data", "REPOSITORY", "$(ls /data/repos | head -1)", "TARGET", "layout"}},

	// A registry's disk is damaged, and repaired.
	{Command: "anka-registry --base-path /data verify", On: []int{5}},
	{Command: "anka-registry --base-path /data verify --repair --from http://10.0.1.4:8089", On: []int{5},
		Before: `for f in $(find /data/blobs -type f -size +100k | head -1); do printf x | dd of=$f conv=notrunc status=none; done; ! anka-registry --base-path /data verify`,
		Also:   []string{"anka-registry --base-path DIR verify --repair --from URL"}},
	{Command: "anka-registry --base-path /data verify", On: []int{5}},

	// The same without a service manager.
	{Unwritten: true, Command: "anka-registry service uninstall", On: []int{4, 5}},
	{Command: "anka-registry --listen-addr :8089 --base-path /data", On: first, Serves: true},
	{Command: "anka-registry --listen-addr :8089 --base-path /data --replica-of http://10.0.1.4:8089", On: []int{5}, Serves: true},
	{Unwritten: true, Command: "curl -s http://10.0.1.5:8089/registry/v2/vm", On: []int{6}, Awaits: `"name":"sonoma"`},
}

var oneMachine = []Step{
	{Command: "sudo anka-controller service install --standalone", On: first, Prints: "ankacluster join http://10.0.1.4:8090",
		Also: []string{"anka-controller --standalone"}},
	{Command: "sudo ankacluster join http://10.0.1.4:8090 --runtime tart", On: mac, Prints: "joined as node",
		Also: []string{"sudo ankacluster join URL,URL,URL --runtime tart"}},
	{Command: "tart push --insecure sonoma 10.0.1.4:8089/team/sonoma:v1", On: mac, Before: "tart create --from-ipsw latest sonoma",
		Also: []string{"tart push --insecure IMAGE 10.0.1.4:8089/team/IMAGE:TAG"}},
	{Command: "curl http://10.0.1.4:8090/api/v1/registry/vm", On: mac, Awaits: `"id":"([^"]+)","name":"sonoma"|"name":"sonoma"[^}]*"id":"([^"]+)"`, Learn: "template id"},
	{Command: `curl -d '{"vmid":"<template id>"}' http://10.0.1.4:8090/api/v1/vm`, On: mac, Prints: `"body":\["([^"]+)"`, Learn: "instance id"},
	{Command: "curl 'http://10.0.1.4:8090/api/v1/vm?id=<instance id>'", On: mac, Awaits: `"instance_state":"Started"`},
	{Command: "tart list", On: mac, Prints: "running"},
	{Command: "sudo ankacluster disjoin", On: mac, Prints: "removed 1 VM"},
}
