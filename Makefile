# Two commands for everybody: `make demo` and `make test`. Each sets up .venv by itself, from the
# pinned requirements, with nothing but Python 3.11 or newer, make and a package index.

VENV := .venv
PYTHON := $(VENV)/bin/python
SOURCES := daemon ingest client_stub tests benchmarks shell

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

SECONDS ?= 60

.PHONY: help demo test test-system crash autostart race thorough fuzz bench bench-peers bench-docs bench-autostart incident check format lint types layers shell fix requirements units test-release clean

help:
	@echo "make demo          walk one counter from a real MCP server to a gateway's store"
	@echo "make test          run the tests"
	@echo "make test-system   the tests that install packages or run a service manager (3 minutes; root)"
	@echo "make test-pythons  the quick tests on the other Pythons installed"
	@echo "make crash         kill a flush, a daemon and hosts KILLS times (10000), from SEED (1) on"
	@echo "make autostart     HOSTS (10000) short hosts that may each start the daemon: never two, none left"
	@echo "make race          say no before every single step of a flush and of a drop"
	@echo "make thorough      try every property with all its examples"
	@echo "make fuzz          look for inputs that break a reader, SECONDS=60 each (Linux on x86-64)"
	@echo "make units         write the service files of systemd/ anew"
	@echo "make test-release  the service under another Debian's systemd (RELEASE=trixie; bullseye; bookworm-backports; root)"
	@echo "make bench         every promise about cost, beside its floor: one table (4 minutes)"
	@echo "make bench-peers   the same, with other libraries installed beside"
	@echo "make bench-docs    bench-peers and incident, written into the documents with their pictures"
	@echo "make bench-autostart  what an exit costs a host that may start the daemon"
	@echo "make incident      10,000 processes on one machine, and 100,000 machines by sampling (4 minutes)"
	@echo "make check         format, lint, types and import layers, as CI does"
	@echo "make shell         write completions, the manual page and README's exit codes from the code"
	@echo "make fix           format, and mend what the linter can"
	@echo "make requirements  pin the newest versions (needs uv)"
	@echo "make clean         remove .venv and caches"

demo: $(VENV)/.demo
	@$(PYTHON) -m tallyd demo

test: $(VENV)/.dev
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m "not system"

# What takes packages to be installed, or a service manager to be run: see RELEASE below for another systemd.
test-system: $(VENV)/.dev $(VENV)-install/.done
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m system

# Every injector, for KILLS kills; each kill is a line of $(VENV)/crash.jsonl, the figures come last.
SEED := 1
KILLS := 10000
crash: $(VENV)/.dev
	@PYTHONPATH=tests $(PYTHON) -m crash.sweep --seed $(SEED) --kills $(KILLS) > $(VENV)/crash.jsonl

# Short hosts that may each start the daemon; one line of figures, and 1 when anything is not as promised.
HOSTS := 10000
autostart: $(VENV)/.dev
	@PYTHONPATH=tests $(PYTHON) -m support.crowd --hosts $(HOSTS)

# `tallyd off` before every single step; the suite tries every fourth.
race: $(VENV)/.dev
	@TALLYD_EVERY_STEP=1 $(PYTHON) -m pytest tests/crash/test_a_no_between_any_two_steps.py

# Every property with all its examples; the suite tries a sixth of them.
thorough: $(VENV)/.dev
	@TALLYD_THOROUGH=1 $(PYTHON) -m pytest tests/stations tests/promises

# The service files of systemd/, as the code renders them.
units: $(VENV)/.dev
	@PYTHONPATH=tests $(PYTHON) -m support.service_files

# The service under the systemd of another Debian release (root, mmdebstrap). A newer release is put into .systems/ as
# a whole; of an older one, whose C library our Python cannot use, the user manager alone, with its libraries.
RELEASE := trixie
OLDER := bullseye bookworm-backports
MANAGER_IS := $(if $(filter $(RELEASE),$(OLDER)),OF,ROOT)
test-release: $(VENV)/.dev .systems/$(RELEASE)/.done
	@TALLYD_MANAGER_$(MANAGER_IS)=$(CURDIR)/.systems/$(RELEASE) $(PYTHON) -m pytest -n 2 tests/promises/test_user_service.py $(ARGS)

MIRROR = $(shell awk '/^URIs:/ { print $$2; exit }' /etc/apt/sources.list.d/debian.sources)
BASE = $(RELEASE:-backports=)
# A newer release's Python brings along what ours links with.
INCLUDE_ROOT := systemd,dbus,dbus-user-session,procps,util-linux,python3
INCLUDE_OF = $(if $(filter $(BASE),$(RELEASE)),systemd,$(subst $() ,$(COMMA),$(patsubst %,%/$(RELEASE),systemd libsystemd0 libsystemd-shared)))
COMMA := ,
.systems/$(RELEASE)/.done:
	@mkdir -p .systems && rm -rf $(@D)
	@echo "putting the systemd of $(RELEASE) into $(@D) (half a minute, once)"
	@mmdebstrap --mode=root --variant=$(if $(filter OF,$(MANAGER_IS)),extract,minbase) --include=$(INCLUDE_$(MANAGER_IS)) \
	  $(BASE) $(@D) "deb $(MIRROR) $(BASE) main" $(if $(filter $(BASE),$(RELEASE)),,"deb $(MIRROR) $(RELEASE) main") \
	  > .systems/$(RELEASE).log 2>&1 || { tail -3 .systems/$(RELEASE).log >&2; exit 1; }
	@touch $@

# Every reader of what others may write, guided by what each input reached; .fuzz keeps what was found.
fuzz: $(VENV)/.fuzz
	@PYTHONPATH=tests $(PYTHON) -m fuzz.run --seconds $(SECONDS)

# PEERS=1 installs other libraries in an environment of their own and measures them too; without it they are
# measured where they are there. ARGS: see `python -m benchmarks --help`, such as ARGS="--quick --only stub".
bench: $(VENV)/.dev $(if $(PEERS),$(VENV)-peers/.done)
	@PYTHONPATH=tests $(PYTHON) -m benchmarks $(ARGS)

bench-peers: $(VENV)-peers/.done bench

# One command for everything that documents show of a run.
bench-docs: $(VENV)/.dev $(VENV)-peers/.done $(VENV)-plot/.done
	@PYTHONPATH=tests $(PYTHON) -m benchmarks --json benchmarks/results/figures.json
	@PYTHONPATH=tests $(PYTHON) -m benchmarks.incident --json benchmarks/results/incident.json
	@PYTHONPATH=tests $(PYTHON) -m benchmarks --docs
	@PYTHONPATH=tests $(PYTHON) -m benchmarks.incident --docs
	@$(VENV)-plot/bin/python -m benchmarks.pictures benchmarks/results/figures.json docs/pictures

bench-autostart: $(VENV)/.dev
	@PYTHONPATH=tests $(PYTHON) -m benchmarks.autostart

incident: $(VENV)/.dev
	@PYTHONPATH=tests $(PYTHON) -m benchmarks.incident $(ARGS)

check: format lint types layers

format: $(VENV)/.dev
	@$(VENV)/bin/ruff format --check $(SOURCES)

lint: $(VENV)/.dev
	@$(VENV)/bin/ruff check $(SOURCES)

types: $(VENV)/.dev
	@$(VENV)/bin/mypy

layers: $(VENV)/.dev
	@$(PYTHON) -m pytest -q tests/promises/test_layers.py

# The completions and the manual page of the command line as it is; a test keeps them so.
shell: $(VENV)/.dev
	@$(PYTHON) -m shell

fix: $(VENV)/.dev
	@$(VENV)/bin/ruff check --fix $(SOURCES)
	@$(VENV)/bin/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) $(VENV)-3.* $(VENV)-peers $(VENV)-plot $(VENV)-install .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz .systems dist build

# The pins: exact versions with hashes, for every platform and Python from 3.11 on.
requirements:
	@for one in runtime demo dev install fuzz peers bench; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
	    --no-header --no-annotate --no-emit-index-url requirements/$$one.in -o requirements/$$one.txt || exit 1; \
	done

$(PYTHON):
	@for one in python3 python3.13 python3.12 python3.11 python; do \
	  if "$$one" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$one"; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "tallyd needs Python 3.11 or newer; none was found on the PATH" >&2; exit 1; fi; \
	echo "setting up $(VENV) with $$($$found --version)"; \
	"$$found" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }

# $(call install,NAME): the pinned packages of requirements/NAME.txt, then both distributions of this
# checkout as they are. pip's lines are shortened to one per package: that is the progress.
define install
	@echo "installing the pinned packages of requirements/$(1).txt (about a minute, once)"
	@{ $(PYTHON) -m pip install --require-hashes -r requirements/$(1).txt 2>&1; echo $$? > $(VENV)/.status; } \
	  | tee $(VENV)/pip.log | sed -n 's/^Collecting \([^ ]*\).*/  \1/p'
	@[ "$$(cat $(VENV)/.status)" = 0 ] || { tail -5 $(VENV)/pip.log >&2; exit 1; }
	@$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps -e . -e client_stub/python
	@touch $@
endef

$(VENV)/.demo: requirements/demo.txt pyproject.toml client_stub/python/pyproject.toml | $(PYTHON)
	$(call install,demo)

$(VENV)/.dev: requirements/dev.txt pyproject.toml client_stub/python/pyproject.toml | $(PYTHON)
	$(call install,dev)
	@touch $(VENV)/.demo

$(VENV)/.fuzz: requirements/fuzz.txt $(VENV)/.dev
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@

# What is measured beside tallyd, and what draws: neither is ever in the environment that is measured.
$(VENV)-peers/.done: requirements/peers.txt | $(PYTHON)
	$(call apart,peers)

# The tools by which people install: the suite installs both wheels with each of them.
$(VENV)-install/.done: requirements/install.txt | $(PYTHON)
	$(call apart,install)

$(VENV)-plot/.done: requirements/bench.txt | $(PYTHON)
	$(call apart,bench)

# $(call apart,NAME): an environment of its own with the pinned packages of requirements/NAME.txt.
define apart
	@echo "installing the pinned packages of requirements/$(1).txt into $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --require-hashes -r requirements/$(1).txt
	@touch $@
endef

# The quick tests on the other Pythons that are installed; CI does the same.
.PHONY: test-pythons
test-pythons: $(VENV)/.dev
	@for minor in 12 13; do \
	  for one in "python3.$$minor" "$$HOME"/.pyenv/versions/3.$$minor.*/bin/python; do \
	    if "$$one" -c "import sys; sys.exit(sys.version_info[:2] != (3, $$minor))" 2>/dev/null; then \
	      echo "testing on $$($$one --version)"; \
	      [ -x "$(VENV)-3.$$minor/bin/pytest" ] || { "$$one" -m venv "$(VENV)-3.$$minor" && \
	        "$(VENV)-3.$$minor/bin/python" -m pip install --quiet --require-hashes -r requirements/dev.txt && \
	        "$(VENV)-3.$$minor/bin/python" -m pip install --quiet --no-build-isolation --no-deps -e . -e client_stub/python; } || exit 1; \
	      "$(VENV)-3.$$minor/bin/python" -m pytest -q -m "not slow" || exit 1; \
	      continue 2; \
	    fi; \
	  done; \
	  echo "Python 3.$$minor is not installed: not tested on it"; \
	done
