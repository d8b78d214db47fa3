# Ingot. `make bake` bakes examples/web-prod in the cloud on this machine;
# `make test` runs every test.

GO      ?= go
VERSION ?= 0.1.0-dev+$(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)
PREFIX  ?= /usr/local

# Debian packages, as command:package or file:package. What a bake needs, and what only the
# tests need besides.
BAKE_NEEDS = qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap \
  mke2fs:e2fsprogs debugfs:e2fsprogs mcopy:mtools newuidmap:uidmap ssh:openssh-client curl:curl
TEST_NEEDS = $(BAKE_NEEDS) sshd:openssh-server /usr/lib/openssh/sftp-server:openssh-sftp-server \
  xorriso:xorriso swtpm:swtpm pgrep:procps gcc:gcc /usr/share/ovmf/OVMF.fd:ovmf /usr/bin/aws:awscli ansible-playbook:ansible-core

BASE    = .ingot/base/debian-12-amd64.qcow2
SOURCES = $(shell find builder cmd hcl internal postprocessor provisioner -name '*.go' -not -name '*_test.go' 2>/dev/null) go.mod go.sum

export PATH := $(PATH):/usr/sbin:/sbin
export CGO_ENABLED = 0

.PHONY: build bake bake-qemu base test unit bench lint install clean setup-bake setup-test

build: bin/ingot

bin/ingot: $(SOURCES)
	@echo "build   $@ ($(VERSION))"
	@$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/ingot

# Into the cloud on this machine: an AMI in one region, copies in two more; then
# a machine from a copy is asked over the network.
bake: export INGOT_LOCAL_DIR = $(CURDIR)/.ingot/local
bake: setup-bake bin/ingot $(BASE)
	bin/ingot local import $(BASE)
	bin/ingot build -local -force -only='web-prod.amazon-ebs.web' examples/web-prod
	examples/web-prod/check.sh

# Into a disk image.
bake-qemu: setup-bake bin/ingot $(BASE)
	bin/ingot build -force -only='web-prod.qemu.web' examples/web-prod

base: setup-bake $(BASE)

# Made once; `make clean` removes it.
$(BASE): | bin/ingot
	bin/ingot build examples/base

test: setup-test bin/ingot $(BASE)
	$(GO) vet ./...
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m ./...
	$(GO) test -count=1 -timeout 30m -p 1 ./...

unit:
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m ./...

bench: setup-test bin/ingot $(BASE)
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./...

lint:
	@out=$$($(GO) run mvdan.cc/gofumpt@v0.12.0 -l .); [ -z "$$out" ] || { echo "not gofumpt-clean:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

install: bin/ingot
	install -D -m 0755 bin/ingot $(DESTDIR)$(PREFIX)/bin/ingot

clean:
	rm -rf bin .ingot output-*

setup-bake setup-test: setup-%:
	@need=""; for n in $(if $(filter bake,$*),$(BAKE_NEEDS),$(TEST_NEEDS)); do \
	  command -v "$${n%%:*}" >/dev/null 2>&1 || [ -e "$${n%%:*}" ] || need="$$need $${n##*:}"; done; \
	[ -z "$$need" ] && exit 0; \
	line="apt-get install -y --no-install-recommends$$need"; \
	if [ "$$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run=sudo; else \
	  echo "Missing programs. Run this and try again:"; echo "  sudo $$line"; exit 1; fi; \
	echo "setup   $$line"; \
	{ $$run apt-get update -qq && $$run env DEBIAN_FRONTEND=noninteractive $$line -qq >/dev/null; } || \
	  { echo "apt failed. Mend it, or run:"; echo "  sudo $$line"; exit 1; }
