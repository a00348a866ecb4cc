# Thin names for what people type. Each recipe says what it installs, installs it, builds, runs.
# As root or with sudo; needs git, make and a Rust toolchain (1.95 or later).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# One feature set for tests and demo, so that nothing is built twice.
CARGO_FLAGS := --workspace --all-targets --locked
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# Of each fuzz target; `make fuzz SECONDS=60` is shorter.
SECONDS ?= 600

.PHONY: help packages-needed packages build lint test demo demo-policy vm-test vm-bench bench eval eval-shaping fuzz model model-test clean

help: ## Shows this list.
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

packages-needed: ## Installs the Debian packages that building and testing need.
	@tools/install-packages

build: packages-needed ## Builds everything, as tests and demo need it.
	@echo "== building (the first time takes some minutes)"
	@cargo build $(CARGO_FLAGS)

lint: packages-needed ## Checks format and lints, warnings are errors; and that the fuzz targets still build.
	@cargo fmt --all --check
	@cargo clippy $(CARGO_FLAGS) -- -D warnings
	@cargo check --manifest-path fuzz/Cargo.toml --locked --target-dir $(TARGET_DIR)/fuzz/check

test: build ## Runs all tests: unit, property, scenarios with real TPMs (swtpm) and real cgroups (QUOTARY_WITHOUT_CGROUPS=1: where none is writable).
	@echo "== testing"
	@tools/run-tests

demo: build ## Two hosts, one verifier, two tenants, three attacks: the whole way once.
	@echo "== demo"
	@$(TARGET_DIR)/debug/quotary-demo --out target/demo

demo-policy: build ## A policy changes: impact, votes by SSH keys, plans that two agents follow, an attack, and the way back. As root.
	@echo "== demo of a policy's change"
	@$(TARGET_DIR)/debug/quotary-demo policy --out target/demo-policy

packages: ## Builds .deb and .rpm of agent, verifier and command line, optimised; PROFILE=dev packs the debug build.
	@QUOTARY_PACKAGES=1 tools/install-packages
	@PROFILE="$(or $(PROFILE),release)" tools/build-packages $(TARGET_DIR)/packages

vm-test: build ## Virtual machines: measured boot; the packages, from install to purge; limits that plans move, and every fault.
	@QUOTARY_VM=1 QUOTARY_PACKAGES=1 tools/install-packages
	@echo "== virtual machine (the first time its image is built)"
	@VM_CACHE=$(abspath $(TARGET_DIR))/vm QUOTARY_BIN_DIR=$(TARGET_DIR)/debug tests/vm/all $(TARGET_DIR)/vm

vm-bench: packages-needed ## What the agent costs in a virtual machine while plans move two hundred services, built with optimisation.
	@QUOTARY_VM=1 QUOTARY_PACKAGES=1 tools/install-packages
	@FORMATS=deb PACKAGES=quotary-agent tools/build-packages $(TARGET_DIR)/vm/packages
	@VM_CACHE=$(abspath $(TARGET_DIR))/vm QUOTARY_DEB_DIR=$(TARGET_DIR)/vm/packages QUOTARY_BIN_DIR=$(TARGET_DIR)/release tests/vm/targets $(TARGET_DIR)/vm/targets

bench: packages-needed ## Measures verification, appraisal, durable evidence, latency, the agent's cost, quorum decisions and plans, side by side.
	@echo "== building with optimisation (the first time takes ten minutes or more)"
	@cargo build --release --workspace --locked
	@QUOTARY_TRAIN=1 tools/install-packages
	@$(TARGET_DIR)/release/quotary-bench --out target/bench

eval: packages-needed ## Tries the forecasts on the public traces beside the field's rules, and the anomaly detector on its benchmark.
	@cargo build --release --workspace --locked
	@$(TARGET_DIR)/release/quotary-eval --out target/eval
	@echo "== anomalies, by the rules of their benchmark"
	@models/nab/eval.sh $(TARGET_DIR)/release/quotary-offline target/eval/nab --gate

eval-shaping: packages-needed ## Tries shaping plans on the public traces, beside a straight line and a cliff that free as much.
	@cargo build --release --workspace --locked
	@$(TARGET_DIR)/release/quotary-eval --shaping --out target/eval-shaping

fuzz: ## Fuzzes the parsers of hostile bytes, each SECONDS (600) long; keeps the corpus in fuzz/corpus.
	@QUOTARY_FUZZ=1 tools/install-packages
	@SECONDS_EACH="$(SECONDS)" tools/run-fuzz

model: ## Trains the forecast model anew from models/traces, twice with one seed, and compares.
	@QUOTARY_TRAIN=1 tools/install-packages
	@models/train-twice.sh

model-test: ## The same in short: two runs of one seed agree, another seed gives others.
	@QUOTARY_TRAIN=1 tools/install-packages
	@models/train-twice.sh --short

clean: ## Removes what was built.
	@cargo clean
