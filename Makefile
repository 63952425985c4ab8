# Every command sets up what it needs; nothing has to be installed beforehand but Python 3.11+, its venv package and git.
PYTHON ?= python3
BIN := .venv/bin

VERSION = $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' translators/version.py)
DOCKER_BUILD = docker build --file deploy/Dockerfile $(if $(BASE),--build-arg BASE=$(BASE)) \
	--build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD)

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: .venv/run  ## Show a Tetragon recording and, as root, live process events as OTLP; uses a Collector on localhost:4317
	@PYTHONPATH=. $(BIN)/python examples/demo.py

test: check peers  ## Run linters, types, contracts and all tests but those of test-deploy and load, the real Collector included
	$(BIN)/pytest --ignore tests/deploy -m "not alone and not load" --numprocesses auto --maxprocesses 4 --dist worksteal
	$(BIN)/pytest --ignore tests/deploy -m alone

check: .venv/dev  ## Run linters, the type checker, the import contracts, and compare generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check

peers: .venv/dev  ## Build the real programs that tests run against, tests/peers
	$(BIN)/python tests/peers/build.py

proto: .venv/dev  ## Generate translators/pb from proto/
	$(BIN)/python proto/generate.py

dist: .venv/dev  ## Build what a release consists of into dist/: wheel, bill of materials, chart, images, checksums
	$(BIN)/python deploy/dist.py

load: peers  ## Send as much as agents can, on a machine that does nothing else
	$(BIN)/pytest --ignore tests/deploy -m load

faults: peers  ## Break everything around otelbee and show what became of every record; a full disk needs root
	$(BIN)/pytest tests/faults

image:  ## Build the images otelbee and otelbee-bpf; BASE=... names another Debian than debian:bookworm-slim
	for target in otelbee otelbee-bpf; do $(DOCKER_BUILD) --target $$target --tag $$target:$(VERSION) . || exit; done

test-deploy: .venv/dev  ## As root: build the images and run what is shipped, on a Docker Engine
	$(BIN)/python tests/peers/build.py --deploy
	$(BIN)/pytest tests/deploy

bench: peers  ## Measure the translators and the way through, side by side with others
	PYTHONPATH=.:tests $(BIN)/python benchmarks

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "otelbee needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

# The stamps are as new as the lock they were installed from.
.venv/run: requirements.lock .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r $<
	@touch $@

.venv/dev: requirements-dev.lock .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r $<
	@touch $@

.PHONY: help run test check peers proto load faults image test-deploy bench dist
