# make help lists the targets. `make demo` and `make test` do all of their own set-up on a fresh Debian machine.

SHELL := /bin/bash
# node_modules/.bin stays out of it: a package there has a program named nft, which is not nftables.
export PATH := $(CURDIR)/.tools/bin:$(PATH)
BIN := node_modules/.bin
# Node's headers lie beside its binary; without this node-gyp would look for them on the network.
export npm_config_nodedir ?= $(shell PATH='$(PATH)'; d=$$(dirname $$(dirname $$(readlink -f $$(command -v node || echo /usr/bin/node)))); [ -e $$d/include/node/node_api.h ] && echo $$d)

ADDON := build/Release/waymark.node
FUZZED_ADDON := build/fuzz/waymark.node
SOURCES := $(shell find lib test bench -name '*.ts' 2>/dev/null)

.PHONY: build demo test check bench golden fuzz sanitize clean help setup-build setup-test setup-bench

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

build: setup-build $(ADDON) dist/.built ## compile the addon and the TypeScript

demo: setup-test $(ADDON) dist/.built ## two routers in network namespaces carry HTTP, UDP and ping (root)
	@node dist/test/lab/demo.js

test: setup-test $(ADDON) $(FUZZED_ADDON) dist/.built ## every test; those that need root skip without it
	@node dist/test/run.js

check: node_modules/.installed ## types, lint and format
	$(BIN)/tsc --noEmit -p .
	$(BIN)/biome check .

bench: setup-bench $(ADDON) dist/.built ## benchmarks; live ones need root
	@node dist/bench/run.js

golden: setup-test $(ADDON) dist/.built ## the golden tests; REGEN=1 writes their outputs anew
	@WAYMARK_REGEN=$(REGEN) $(BIN)/ava dist/test/golden/*.test.js

fuzz: setup-test $(ADDON) $(FUZZED_ADDON) dist/.built ## long runs of the fuzzers, from a new seed; MINUTES=5 sets how long, FRAMES=10000000 how many hostile ones
	@WAYMARK_FUZZ_MINUTES=$(or $(MINUTES),5) WAYMARK_HOSTILE_FRAMES=$(or $(FRAMES),10000000) $(BIN)/ava --timeout 24h dist/test/fuzz/*.test.js

sanitize: setup-test node_modules/.installed dist/.built ## the addon's tests under AddressSanitizer and UBSan
	@test/sanitize/run.sh

clean: ## remove what building made
	rm -rf build dist .tools node_modules

setup-build:
	@.ci/setup build

setup-test:
	@.ci/setup test

setup-bench:
	@.ci/setup bench

# Not npm ci: it refuses a lock without every platform's package of an optional dependency, and registries lack some.
node_modules/.installed: package.json package-lock.json
	npm install --no-save --no-audit --no-fund --ignore-scripts --loglevel=error
	npm rebuild --loglevel=error cap pcap raw-socket
	@touch $@

$(ADDON): node_modules/.installed binding.gyp $(wildcard native/*)
	@$(BIN)/node-gyp rebuild --silent
	@touch $@

# node-gyp empties build/, so after it.
$(FUZZED_ADDON): $(ADDON) $(wildcard test/fuzz/native/*) test/sanitize/build.sh
	@test/sanitize/build.sh build/fuzz fuzz

dist/.built: node_modules/.installed tsconfig.json $(SOURCES)
	@rm -rf dist
	$(BIN)/tsc -p .
	@chmod +x dist/lib/cli/main.js
	@touch $@
