package pages

// Whole are pages whose blocks are typed by a test of its own.
var Whole = map[string]string{
	"README.md":                    "TestReadme",
	"docs/operators/installing.md": "TestInstallingPage",
	"docs/operators/https.md":      "TestHTTPSPage",
}

// Elsewhere are commands that another test types, or does what they do, because they
// need more than three hosts and a Mac have.
var Elsewhere = map[string]string{
	// Packages in a Debian system.
	"sudo apt install ./anka-controller_0.2.0_amd64.deb":                                     "TestDebian",
	"curl -X PUT http://10.0.1.4:8090/api/v1/node/update":                                    "TestDebian",
	"man anka-controller":                                                                    "TestDebian",
	"journalctl -u anka-controller":                                                          "TestDebian",
	"sudo tar -xzf ankacluster_0.2.0_darwin_arm64.tar.gz -C /usr/local --strip-components 1": "TestInstallingPage",

	// Containers.
	"TAG=v2 docker compose -f deploy/compose/three-hosts.yaml up -d": "TestComposeThreeHosts",
	"docker compose -f OLD-FILE down":                                "TestComposeThreeHosts",

	// The chart: what --set says is rendered.
	"helm install": "TestCommandsOfTheChartsPage",
	"helm upgrade": "TestPodsRunAsRenderedAndRollWithoutLoss",
	"helm install cloud deploy/helm/ankacluster -n ci --create-namespace": "TestCommandsOfTheChartsPage",
	"helm test cloud -n ci": "TestEveryCombinationOfValuesIsValidKubernetes",
	"helm install cloud deploy/helm/ankacluster --set images.controller=REGISTRY/anka-controller,images.registry=REGISTRY/anka-registry":                        "TestCommandsOfTheChartsPage",
	"--set controller.exposure=perPod,controller.perPod.type=NodePort,controller.perPod.nodePort=30090 --set controller.perPod.url=http://10.0.1.4:3009{index}": "TestCommandsOfTheChartsPage",

	// More members than three hosts have, and what takes its time.
	"anka-controller etcd run":                 "TestEtcdClusterKeepsEveryAcknowledgedWrite",
	"anka-controller etcd run --cluster a,b,c": "TestEtcdClusterKeepsEveryAcknowledgedWrite",
	"sudo ankacluster mac-report --vm NAME":    "TestMacReport",
	"ankacluster --help":                       "TestScripts",
	"ankacluster proxy":                        "TestEveryPullIsGoodWhileRegistriesAreKilled",
	"ankacluster drill":                        "TestDrillCommandKeepsRequestsThroughAKill",
	"ankacluster drill --scenario download-kill,download-hang,download-kills": "TestDrillListsEveryScenario",

	// From a person's machine: testdata/script/people.txtar types these, or does what they do.
	"ankacluster context add lab --controllers http://10.0.1.4:8090,http://10.0.1.5:8090,http://10.0.1.6:8090": "TestScripts",
	"ankacluster context list":                                          "TestScripts",
	"ankacluster context use lab":                                       "TestScripts",
	"ankacluster vm start sonoma --wait --name nightly":                 "TestScripts",
	"ankacluster vm list":                                               "TestScripts",
	"ankacluster vm list --watch":                                       "TestScripts",
	"ankacluster vm show nightly":                                       "TestScripts",
	"ankacluster vm stop nightly --wait":                                "TestScripts",
	"ankacluster vm start sonoma --group ios":                           "TestScripts",
	"ankacluster vm start sonoma --script setup.sh --wait":              "TestScripts",
	"ankacluster vm logs VM":                                            "TestScripts",
	"ankacluster vm wait VM --timeout 10m":                              "TestScripts",
	"ankacluster vm why VM":                                             "TestScripts",
	"ankacluster node list --watch":                                     "TestScripts",
	"ankacluster node drain mac-7 --wait":                               "TestScripts",
	"ankacluster node undrain mac-7":                                    "TestScripts",
	"ankacluster node config mac-7 --max-vm-count 1":                    "TestScripts",
	"ankacluster group create ios":                                      "TestScripts",
	"ankacluster group add ios mac-7":                                   "TestScripts",
	"ankacluster vm start sonoma --wait -q | xargs ankacluster vm stop": "TestScripts",

	// A release, verified with minisign's own library.
	"minisign -V -p ankacluster.pub -m SHA256SUMS":  "TestRelease",
	"sha256sum --check --ignore-missing SHA256SUMS": "TestRelease",

	"minisign -G -p ankacluster.pub -s minisign.key":                                               "TestKeys",
	`minisign -S -s minisign.key -m AnkaAgentArm.pkg -t "ankacluster 0.2.0 darwin/arm64 20123456"`: "TestOnlySignedProgramsRun",
	"sudo ankacluster join http://10.0.1.4:8090 --upgrade-key ankacluster.pub":                     "TestA3UpgradeEndsInTheNewVersionOrTheOld",

	// The agent drives these all the time. Their options are held to the vendor's
	// help texts, in the tests of the stand-ins.
	"anka -o2":           "TestPullByIdGoesThroughTheTemplateList",
	"anka pull -o2":      "TestPullByIdGoesThroughTheTemplateList",
	"anka show NAME":     "TestLifeOnEveryAnka",
	"anka show UUID tag": "TestLifeOnEveryAnka",
	"anka list -a":       "TestLifeOnEveryAnka",
	"tart run":           "TestCloudStartsVMsWithTart",
	"tart exec":          "TestVMLivesAsPromised",
	"tart delete NAME":   "TestLifeOnEveryTart",

	// Another user, and one who is logged in, as far as it can be played here.
	"launchctl asuser":                                                         "TestCommandRunsAsAnotherUser",
	"sudo ankacluster mac-report --service":                                    "TestMacReportOfTheService",
	"sudo ankacluster join":                                                    "TestJoinUnderLaunchd",
	"launchctl print system/ankacluster":                                       "TestServiceUnderLaunchd",
	"launchctl disable":                                                        "TestServiceThatIsSwitchedOff",
	"sudo launchctl enable system/ankacluster":                                 "TestServiceThatIsSwitchedOff",
	"launchctl asuser UID":                                                     "TestCommandRunsAsAnotherUser",
	"sudo ankacluster mac-report --tart-vm NAME":                               "TestMacReportOfTart",
	"sudo TART_HOME=/Volumes/VMs ankacluster join …":                           "TestWhomTartRunsAs",
	"sudo ankacluster join http://10.0.1.4:8090 --runtime tart --tart-user ci": "TestWhomTartRunsAs",
}

const (
	onlyOnAMac = "only macOS has it, or the vendor's own command"
	ofOthers   = "a command of another product, for comparison"
)

// NotHere are commands that cannot be typed where the tests run, and why.
var NotHere = map[string]string{
	"sudo launchctl bootout system/com.veertu.anka.cluster.agent":        onlyOnAMac,
	"sudo rm /Library/LaunchDaemons/com.veertu.anka.cluster.agent.plist": onlyOnAMac,
	"sudo launchctl print system | grep -i orchard":                      onlyOnAMac,
	"sudo launchctl bootout system/LABEL":                                onlyOnAMac,
	"sudo rm /var/db/dhcpd_leases":                                       onlyOnAMac,
	"sudo pmset -a sleep 0 disksleep 0 autorestart 1 womp 1":             onlyOnAMac,
	"sudo fdesetup authrestart":                                          onlyOnAMac,
	"sudo anka …":                                                        onlyOnAMac,
	"sudo anka license accept-eula":                                      onlyOnAMac,
	"sudo anka config img_lib_dir":                                       onlyOnAMac,
	"anka log -s TIME":                                                   onlyOnAMac,
	"tart pull ghcr.io/ORG/IMAGE:TAG":                                    "it reads from a registry of the internet",
	"orchard worker run":                                                 ofOthers,
	"orchard create vm --image …":                                        ofOthers,
	"orchard list vms":                                                   ofOthers,
	"orchard ssh vm":                                                     ofOthers,
	"orchard delete vm":                                                  ofOthers,
	"benchstat -col /via":                                                "a tool of Go's authors that reads what a benchmark printed",
	"git commit -s":                                                      "it is about a contributor's own commit",
	"git tag $(cat VERSION)":                                             "it makes a release",
	"sudo anka-controller service install …":                             "the dots are the page's own settings: the stories type such a line",
}
