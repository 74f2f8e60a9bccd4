# What can be done with this project; `make help` lists it.
SHELL := /bin/bash
export CGO_ENABLED ?= 0

# Packages whose tests are also cheap under the race detector, which needs cgo.
RACE := ./hub/... ./figures/... ./store/... ./raftlog/... ./delivery/... ./web/... ./auth/... ./configs/... ./durable/...
# Everything else: real processes and third-party programs. Never cached, because go test does not know which binary they
# start. The memory of the gateway can only be measured without the race detector.
REST := . ./cli/... ./test/... ./web/gateway/upstream
# Likewise what it takes to show a page, and what 100,000 sessions take.
PAGES := -run '^TestConsoleOfALargeHub$$' ./web
SESSIONS := -run '^TestSessionsOnThreeNodes$$' ./raftlog -args -sessions 100000

# Pinned: a newer golangci-lint may find more.
LINT := v2.15.0

# What quorumhub version says; the toolchain does not see a work tree whose .git is a file or belongs to somebody else.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)

FUZZTIME ?= 30s
CHAOS_ROUNDS ?= 25
CHAOS_FAULTS ?= 12
SIM_FOR ?= 10m

.PHONY: help run demo test lint race fuzz chaos sim bench deps build cross

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

run: ## run a hub on this machine until Ctrl-C
	go run . dev

demo: ## show the whole job on three throw-away nodes, including a crash
	go run . demo

build: ## build bin/quorumhub
	go build -trimpath -ldflags '-s -w -X quorumhub/cli/node.linkedVersion=$(VERSION) -X quorumhub/cli/node.linkedCommit=$(COMMIT)' -o bin/quorumhub .

PLATFORMS := linux/amd64 linux/arm64 linux/arm linux/386 darwin/arm64 freebsd/amd64 windows/amd64

cross: ## compile for every supported platform
	@for p in $(PLATFORMS); do echo "$$p"; GOOS=$${p%/*} GOARCH=$${p#*/} GOARM=7 go build -o /dev/null . || exit 1; done

deps: ## install what the tests need and this machine lacks
	@test/deps.sh

test: deps build lint cross ## run every check; installs what is missing
	go run ./test/summary -- -race -p 2 -timeout 10m $(RACE) -- -count=1 -p 2 -timeout 10m $(REST) -- -count=1 $(PAGES) -- -count=1 $(SESSIONS)
	test/fuzz.sh 3s

lint: bin/golangci-lint-$(LINT) ## check formatting, import order, go vet and golangci-lint, installed into bin/
	@out=$$($< fmt --diff); if [ -n "$$out" ]; then echo "$$out"; echo "formatting differs: run $< fmt"; exit 1; fi
	$< run ./...

bin/golangci-lint-$(LINT):
	@mkdir -p bin
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT)
	@mv bin/golangci-lint $@

race: ## run the rooms' tests under the race detector, ten times
	CGO_ENABLED=1 go test -race -count=10 -timeout 60m $(RACE)

fuzz: ## run every fuzz target for FUZZTIME (30s)
	test/fuzz.sh $(FUZZTIME)

chaos: deps ## kill one hub CHAOS_ROUNDS (25) times, put three through CHAOS_FAULTS (12) faults, attack and upgrade them; about 15 minutes
	QUORUMHUB_CHAOS_ROUNDS=$(CHAOS_ROUNDS) QUORUMHUB_CHAOS_FAULTS=$(CHAOS_FAULTS) go test -count=1 -v -timeout 60m ./test/chaos/...
	go test -count=1 -v -timeout 20m ./test/hostile -run '^TestHostileTenant$$' -attack 60s
	go test -count=1 -v -timeout 20m ./test/compat -run '^TestUpgradeOfARunningCluster$$' -subscriptions 100000

sim: ## simulate faults in virtual time for SIM_FOR (10m), on one processor; traces of failures go to sim-traces
	mkdir -p sim-traces
	GOMAXPROCS=1 GOGC=400 go test -count=1 -v -timeout 24h ./test/sim -run Simulation -for $(SIM_FOR) -trace $(CURDIR)/sim-traces

bench: ## measure this machine, as ratios to what it can do without a hub
	go run . bench
