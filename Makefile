# Everything starts from a bare clone: make and Python 3.11+ with venv are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

FUZZ_TESTS := $(wildcard tests/unit/*/test_*fuzz*.py) tests/unit/stream_features/test_damaged_values.py

.PHONY: help test demo check proof fuzz mutants passwords lock sbom clean

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(STAMP): requirements.lock requirements-installer.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv does not work: install your system's venv package (Debian: python3-venv)"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q
	$(BIN)/python -m pip install -q --require-hashes -r requirements-installer.lock
	$(BIN)/uv pip install -q --compile-bytecode --no-build --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --build-constraint requirements.lock -e .
	$(BIN)/python -m compileall -q schemas runtime database stream_features scorer gateway dashboard monitor trainer simulation loadtest devstack
	$(BIN)/python -m devstack fetch
	$(BIN)/python -m stream_features compile
	$(BIN)/python -m scorer compile
	$(BIN)/python -m database compile
	$(BIN)/python -m loadtest compile
	@touch $(STAMP)

# Three files at a time, on two cores, too: most tests wait for processes that start.
test: $(STAMP) ## run every test
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

demo: $(STAMP) ## show it all at work until Ctrl-C, or for DEMO_SECONDS=30
	@$(BIN)/python -m loadtest demo

proof: $(STAMP) ## run the long proofs: alerts by real faults, exactly once under kill -9, the learning loop
	@$(BIN)/python -m pytest tests/proof/*.py

# Each fuzz test as long as FUZZ_SECONDS says; compiled kernels check every index meanwhile.
fuzz: $(STAMP) ## feed loaders, decoders and readers with odd input: FUZZ_SECONDS=1800 for each test
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-1800} NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=var/fuzz-kernels $(BIN)/python -m pytest -s $(FUZZ_TESTS)

mutants: $(STAMP) ## break one line at a time and see whether the tests notice
	@$(BIN)/python tests/mutants/run.py

check: $(STAMP) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy schemas runtime database stream_features scorer gateway dashboard monitor trainer simulation loadtest devstack tests
	$(BIN)/lint-imports

passwords: ## write .env with a password for each service of docker-compose.yml
	@test ! -e .env || { echo ".env is there already: add what .env.example has more, or delete it, which changes every password"; exit 1; }
	@umask 077 && while IFS= read -r line; do case $$line in \
	  *=) echo "$$line$$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')";; \
	  *) echo "$$line";; esac; done < .env.example > .env

# Versions that are locked stay unless pyproject.toml rules them out; delete a line of the lock to raise that one.
lock: $(STAMP) ## write requirements.lock anew after a change of pyproject.toml
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock

sbom: $(STAMP) ## list everything that is installed, with its hashes, in var/sbom.cdx.json (CycloneDX)
	@$(BIN)/python -m devstack sbom --output var/sbom.cdx.json

clean: ## remove the environment and everything generated
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
