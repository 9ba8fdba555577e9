# make run    set everything up and show the main job: simulated nodes, the whole gateway, its pages
# make test   set everything up and run all tests; what CI runs
# make check  format, lint, types, tests
# make bench  the benchmarks of docs/performance.md
# make torture  kills, power cuts, disk faults, damage and hostile input, as long as one has time for

SHELL := /bin/bash
VENV := .venv
PYTHON ?= python3
# One more than there are cores: many tests wait for processes, disks and elections of others.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
BIN := $(VENV)/bin
PYRIGHT := tests/node/node_modules/.bin/pyright
APT := $(if $(filter 0,$(shell id -u)),apt-get,sudo apt-get)
export DEBIAN_FRONTEND := noninteractive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The Debian package that brings a command; asked only where the command is missing.
PACKAGE_python3 := python3 python3-venv
PACKAGE_mosquitto := mosquitto
PACKAGE_mosquitto_sub := mosquitto-clients
PACKAGE_node := nodejs
PACKAGE_npm := npm
PACKAGE_chromium := chromium
PACKAGE_shellcheck := shellcheck
PACKAGE_curl := curl
PACKAGE_systemd-analyze := systemd
PACKAGE_gcc := gcc libc6-dev
PACKAGE_coap-client-openssl := libcoap3-bin
PACKAGE_influxd := influxdb
PACKAGE_strace := strace
PACKAGE_nginx := nginx-light libnginx-mod-stream
TEST_COMMANDS := mosquitto mosquitto_sub node npm chromium shellcheck curl systemd-analyze gcc coap-client-openssl influxd strace nginx

# SX127x drivers of others, judged against on the simulated chip; the fakes stand in for what they depend on.
FOREIGN_DRIVERS := LoRaRF adafruit-circuitpython-rfm9x adafruit-circuitpython-busdevice

.PHONY: run test check format lint types bench torture prove-install clean

run: $(VENV)/.run
	$(BIN)/fluxgate demo $(ARGS)

test: $(VENV)/.dev system-packages node-packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYRIGHT)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --no-skips $(ARGS)

check: test

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev node-packages
	$(BIN)/mypy
	$(PYRIGHT)

bench: $(VENV)/.dev system-packages
	$(BIN)/python tests/bench/run.py $(ARGS)

torture: $(VENV)/.dev system-packages
	$(BIN)/python tests/torture/run.py $(ARGS)

prove-install: system-packages
	tests/setup/prove_install.sh

clean:
	rm -rf $(VENV) tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { $(APT) update -q && $(APT) install -yq $(PACKAGE_python3); }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $$($(PYTHON) --version) found. Set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || \
		{ $(APT) update -q && $(APT) install -yq $(PACKAGE_python3) && $(PYTHON) -m venv --clear $(VENV); }

$(VENV)/.run: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install -q -e . -c constraints.txt
	touch $@

$(VENV)/.dev: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install -q -e '.[dev]' -c constraints.txt
	$(BIN)/pip install -q --no-deps -c constraints.txt $(FOREIGN_DRIVERS)
	touch $@ $(VENV)/.run

# Commands of Debian that the tests talk to; installed only where missing.
.PHONY: system-packages node-packages
system-packages:
	@missing=""; \
	$(foreach c,$(TEST_COMMANDS),command -v $(c) >/dev/null || missing="$$missing $(PACKAGE_$(c))";) \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		{ $(APT) update -q && $(APT) install -yq --no-install-recommends $$missing; } >/dev/null; \
	fi

node-packages: tests/node/node_modules/.installed
tests/node/node_modules/.installed: tests/node/package.json
	cd tests/node && npm install --no-package-lock --no-audit --no-fund --silent
	touch $@
