# Every target installs by itself what it needs. `make` alone shows them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BUILT_AS := $(shell deploy/release/version)
VERSION  ?= $(word 1,$(BUILT_AS))
COMMIT   ?= $(word 2,$(BUILT_AS))
DATE     ?= $(word 3,$(BUILT_AS))
BUILDINFO := github.com/ankacluster/ankacluster/internal/buildinfo
LDFLAGS  := -s -w -X $(BUILDINFO).Version=$(VERSION) -X $(BUILDINFO).commit=$(COMMIT) -X $(BUILDINFO).date=$(DATE)
GOBUILD  := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
BINARIES := ankacluster anka-controller anka-registry
PLATFORMS := darwin/arm64 darwin/amd64 linux/amd64 linux/arm64

# The race detector needs cgo, and cgo a C compiler.
CC_FOUND := $(shell command -v $${CC:-cc} || command -v gcc || command -v clang)
RACE     := $(if $(CC_FOUND),-race,)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help
help: ## show this list
	@grep -hE '^[a-zA-Z_-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

.PHONY: build
build: ## build ankacluster, anka-controller and anka-registry into bin/
	@mkdir -p bin
	$(GOBUILD) -o bin/ $(addprefix ./cmd/,$(BINARIES))

# Tests in files whose names hold "_process" start real processes, kill them and
# live by the real clock. `make test` leaves them out: nothing in it depends on how
# fast this machine is. They run in `make test-processes`, two packages at a time:
# most of their time they wait.
PROCESS_FILES = $(shell find . -name '*_process*_test.go' -not -path './test/deploy/*')
PROCESS_TESTS = ^($(shell cat $(PROCESS_FILES) | sed -nE '/^func TestMain/d; s/^func (Test[A-Za-z0-9_]+).*/\1/p' | sort -u | paste -sd '|' -))$$
PACKAGES     ?= ./...
GOTEST        = $(if $(CC_FOUND),,echo "no C compiler found: the race detector is off";) go test $(RACE) -shuffle=on
.PHONY: test
test: ## run all tests that need no real time (with the race detector where a C compiler is found)
	@$(GOTEST) -timeout 20m -skip '$(PROCESS_TESTS)' $(PACKAGES)

.PHONY: test-processes
test-processes: ## run the tests that start, kill and hang real processes
	@$(GOTEST) -timeout 30m -p 2 -run '$(PROCESS_TESTS)' $(sort $(dir $(PROCESS_FILES)))

# A pause of 2 s takes the time from under every process of the tests, as a busy
# host takes it from a virtual machine.
RUNS   ?= 3
PAUSED ?= ./...
.PHONY: test-paused
test-paused: ## run PAUSED (./...) RUNS (3) times as make test does, while everything stands still for 2 s now and then (root on Linux)
	@test/paused '$(RUNS)' '$(PROCESS_TESTS)' $(PAUSED)

.PHONY: test-long
test-long: ## the agent's chaos, churn, pulls and upgrades in their long form (some 20 minutes)
	ANKA_LONG=1 go test -v -count=1 -timeout 60m ./agent ./agent/node ./cmd/ankacluster ./test/runtimes \
	  -run 'TestChaosEnds|TestF3|TestKilledAt|TestChurn|TestProcessDoesNotGrow|TestA4|TestEveryPull'

# Every KILLS takes some five seconds.
KILLS ?= 500
.PHONY: test-kills
test-kills: ## kill the hosts of a cluster KILLS (500) times during pushes; nothing acknowledged may be lost
	go test -v -count=1 -timeout 0 ./cmd/anka-controller -run TestKillsDuringPushes -kills $(KILLS)

# LARGE_MIB is the size of the image that goes through nginx and HAProxy. With
# TOPOLOGIES only the tests whose names match run.
LARGE_MIB  ?= 2048
TOPOLOGIES ?= .
PROXIES    ?= nginx haproxy
.PHONY: test-topologies
test-topologies: ## prove the topologies with real processes and containers (about 12 minutes); says what it skips
	@LARGE_MIB=$(LARGE_MIB) PROXIES='$(PROXIES)' TOPOLOGIES='$(TOPOLOGIES)' test/topologies/run

.PHONY: lint
lint: ## gofmt, go vet and staticcheck
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not formatted: $$out"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

# Tools of the release have a module of their own, so that the product's stays small.
# KEY is a minisign key that signs the checksums (password: MINISIGN_PASSWORD).
.PHONY: release
release: ## make archives, packages, images, formula, bills of materials and checksums into dist/
	@cd deploy/release && CGO_ENABLED=0 go run . -platforms '$(PLATFORMS)' $(if $(KEY),-key '$(abspath $(KEY))') $(if $(filter command line,$(origin VERSION)),-version '$(VERSION)')

.PHONY: licences
licences: ## list the licences of all modules that are linked, and fail on one that is not allowed
	@cd deploy/release && CGO_ENABLED=0 go run . -licences

.PHONY: test-release
test-release: ## make a release of the last commit twice, compare the bytes, and look into it
	@cd deploy/release && CGO_ENABLED=0 go test -v -count=1 -timeout 40m .

# With PACKAGES=dist those that `make release` has made, else new ones of this tree.
.PHONY: test-packages
test-packages: ## install, upgrade, remove and purge the Linux packages in a Debian system (needs root)
	@RUN='$(RUN)' PACKAGES='$(if $(filter-out ./...,$(PACKAGES)),$(PACKAGES))' test/packages/run

.PHONY: modules
modules: ## fail when go.mod or go.sum of one of the modules is not tidy
	@for m in . test/deploy deploy/release deploy/manual; do (cd $$m && go mod tidy -diff) || { echo "$$m is not tidy: go mod tidy"; exit 1; }; done

GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
.PHONY: vulnerabilities
vulnerabilities: ## look for known vulnerabilities in the code that is called; says so when the database is out of reach
	@deploy/release/vulnerabilities $(GOVULNCHECK)

# A failure prints its seed: run it again with make soak SEED=N.
DURATION ?= 30m
SEED     ?= 0
.PHONY: soak
soak: ## kill, stop and cut controllers and etcd members for DURATION (30m) under load, and check the history
	go test ./test/chaos -run '^TestChaos$$' -v -timeout 0 -chaos.duration $(DURATION) -chaos.seed $(SEED)

# The rate is low: each request is judged, not what this machine can carry.
.PHONY: drill
drill: build ## break local fakes behind the balancer, in a short form (under 4 minutes); each scenario is held once
	bin/ankacluster drill --duration 2s --heal 3s --rate 100

.PHONY: compare
compare: build ## the same drills through haproxy, nginx and caddy, into docs/balancing-comparison.md
	@test/compare/install.sh bin
	PATH="$(CURDIR)/bin:$$PATH:/usr/sbin" go run ./test/compare -program bin/ankacluster -out docs/balancing-comparison.md

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin dist .demo .up

# The demo's node runs a fake `anka`.
.PHONY: fakes
fakes:
	@mkdir -p bin
	@echo "building into bin/ (some minutes the first time, seconds later)"
	@$(GOBUILD) -o bin/ $(addprefix ./cmd/,$(BINARIES))
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./test/fakeanka

.PHONY: etcd
etcd: ## build etcd's own server into bin/, for test/nodesim --cloud bin
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/etcd go.etcd.io/etcd/server/v3

.PHONY: demo
demo: fakes ## tell the failover story on this machine: real processes, killed and hung
	@go run ./test/demo demo

.PHONY: up
up: fakes ## start a whole cloud on this machine and leave it running
	@go run ./test/demo up

.PHONY: down
down: ## end what `make up` started
	@go run ./test/demo down

.PHONY: bench
bench: ## run the benchmarks (nothing else should run on the machine)
	go test -run '^$$' -bench . -benchmem ./balancer/... ./controllerapi/... ./registryapi/...

.PHONY: registrybench
registrybench: ## the registry beside nginx and dd, and its memory at ten transfers of 2 GiB each (needs 45 GiB of disk)
	./test/registrybench/run --long

KILLS ?= 500
.PHONY: registrykills
registrykills: ## kill registry servers KILLS (500) times on one directory while clients push, and check what is left
	go test ./registryapi/server -run TestR3 -v -timeout 0 -kills $(KILLS)

FUZZTIME ?= 60s
.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (60s)
	@set -e; for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

.PHONY: manual
manual: ## make the manual of docs/ as static pages in dist/manual; fails on a link that leads nowhere
	@cd deploy/manual && go vet . && go test . && go run . -root ../.. -out ../../dist/manual

.PHONY: images
images: ## build the container images that deploy/compose and the Helm chart use (needs a Docker engine)
	@mkdir -p dist/images/data
	GOOS=linux $(GOBUILD) -o dist/images/ ./cmd/anka-controller ./cmd/anka-registry
	@# The chart asks for the tag of the release that it belongs to, compose for latest.
	@set -e; for part in controller registry; do \
	  echo "building ankacluster/anka-$$part"; \
	  docker build -q -f deploy/compose/Dockerfile --target $$part -t ankacluster/anka-$$part:latest -t ankacluster/anka-$$part:$(patsubst v%,%,$(shell cat VERSION)) dist/images; done
