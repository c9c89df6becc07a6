# Baryon: see README.md.  The two targets a newcomer needs are `make demo` and `make test`; both install what they need.

SHELL   := /bin/bash
GO      ?= go
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
PKGS    := ./cmd/... ./internal/... ./test/...

# What a fresh Debian 12 machine needs beside Go: the switch, the real clients that the tests drive, and tools to look at packets.
APT := openvswitch-switch iproute2 iptables ipset ethtool bridge-utils net-tools tcpdump busybox udhcpc isc-dhcp-client \
       python3-openstackclient iputils-ping curl procps util-linux dnsutils jq openssl protobuf-compiler iperf3 qemu-system-x86 kmod

.PHONY: build demo test check e2e e2e-kernel bench setup generate clean

build: ## The binary, bin/baryon
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/baryon ./cmd/baryon

demo: setup build ## The main job on this machine, checked
	test/demo/run.sh

test: setup check ## Everything that must pass: unit, kernel and end-to-end tests
	BARYON_ROOT=required $(GO) test -count=1 -p 2 -timeout 20m ./cmd/... ./internal/... ./test/conformance/...
	$(MAKE) e2e
	$(MAKE) e2e-kernel

check: ## Format, vet, lint, layout; no root needed
	@out=$$(gofmt -l cmd internal test); if [ -n "$$out" ]; then echo "gofmt would change: $$out"; exit 1; fi
	$(GO) vet $(PKGS)
	$(GO) tool staticcheck $(PKGS)
	$(GO) test -count=1 ./internal

e2e: setup build ## End-to-end tests on the lab
	test/kernel/guest.sh $(CURDIR)/bin/kernel
	BARYON_ROOT=required BARYON_BIN=$(CURDIR)/bin/baryon BARYON_GUEST=$(CURDIR)/bin/kernel $(GO) test -count=1 -timeout 30m ./test/e2e/...

e2e-kernel: setup ## End-to-end tests on the kernel's datapath, in an emulated machine: docs/kernel-lane.md
	GO=$(GO) test/kernel/run.sh

bench: setup build ## Measurements against the committed baseline, docs/bench.md
	BARYON_BIN=$(CURDIR)/bin/baryon $(GO) run ./test/bench

setup: ## Debian packages, only if some are missing
	@missing=; for p in $(APT); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q '^install ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

generate: ## Generated code and documents
	$(GO) generate ./...

clean:
	rm -rf bin
