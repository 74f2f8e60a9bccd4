# What can be done with this project; `make help` lists it.
SHELL := /bin/bash
export CGO_ENABLED ?= 0

# Packages whose tests are also cheap under the race detector, which needs cgo.
RACE := ./hub/... ./store/... ./raftlog/... ./delivery/... ./web/... ./auth/... ./configs/...
# Everything else: real processes and third-party programs. Never cached, because go test does not know which binary they
# start.
REST := . ./cli/... ./test/...

FUZZTIME ?= 30s
CHAOS_ROUNDS ?= 25
CHAOS_FAULTS ?= 12

.PHONY: help run demo test lint race fuzz chaos bench deps build

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

run: ## run a hub on this machine until Ctrl-C
	go run . dev

demo: ## show the whole job on three throw-away nodes, including a crash
	go run . demo

build: ## build bin/quorumhub
	go build -trimpath -ldflags '-s -w' -o bin/quorumhub .

deps: ## install what the tests need and this machine lacks
	@test/deps.sh

test: deps build ## run every check; installs what is missing
	go vet ./...
	go run ./test/summary -- -race -p 2 -timeout 10m $(RACE) -- -count=1 -p 2 -timeout 10m $(REST)
	test/fuzz.sh 5s

lint: ## check formatting, run go vet and, if it is installed, golangci-lint
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); if [ -n "$$out" ]; then echo "gofmt would change: $$out"; exit 1; fi
	go vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run ./...; else echo "golangci-lint is not installed: not run"; fi

race: ## run the rooms' tests under the race detector, ten times
	CGO_ENABLED=1 go test -race -count=10 -timeout 60m $(RACE)

fuzz: ## run every fuzz target for FUZZTIME (30s)
	test/fuzz.sh $(FUZZTIME)

chaos: deps ## kill one hub CHAOS_ROUNDS (25) times, put three through CHAOS_FAULTS (12) faults; about 10 minutes
	QUORUMHUB_CHAOS_ROUNDS=$(CHAOS_ROUNDS) QUORUMHUB_CHAOS_FAULTS=$(CHAOS_FAULTS) go test -count=1 -v -timeout 60m ./test/chaos/...

bench: ## measure this machine, as ratios to what it can do without a hub
	go run . bench
