# Every target makes what it needs; nothing but Python 3.11+ and make has to be there.
PYTHON ?= python3
BIN := .venv/bin

SECONDS ?= 1200

# Tests run in a process for each core; WORKERS=0 ARGS="-k turns --pdb" in one, for a debugger.
WORKERS ?= auto
# They start hundreds of interpreters, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal

.PHONY: demo test test-lowest test-adapters torture torture-tests bench lint types check wheel clean

demo: .venv/ready  ## the main job on real input: an agent server, killed and resumed
	$(BIN)/python examples/agent_server.py

test: .venv/ready  ## all tests
	$(BIN)/python $(PYTEST) $(ARGS)

bench: .venv/ready .venv-bench/ready  ## the figures of the README, beside other stores
	.venv-bench/bin/python -m benchmarks

test-adapters: .venv-adapters/ready  ## the adapters, with the real frameworks and their own tests; strict types
	.venv-adapters/bin/python -m pytest tests/adapters
	.venv-adapters/bin/python tests/adapters/openai_agents_own.py .venv-adapters/own
	.venv-adapters/bin/mypy sessionactor/adapters/*.py

.venv-adapters/ready: pyproject.toml tests/adapters/requirements.txt
	$(PYTHON) -m venv .venv-adapters
	.venv-adapters/bin/python -m pip install --quiet --no-binary claude-agent-sdk \
		--editable ".[adapters,dev]" -r tests/adapters/requirements.txt
	touch $@

torture: .venv/ready  ## kills, power loss, full disks, races: SECONDS=1200 ARGS="--seed 7"
	$(BIN)/python -m torture --seconds $(SECONDS) $(ARGS)

torture-tests: .venv/ready  ## that it catches planted faults
	$(BIN)/python -m pytest torture/tests

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

check: lint types test

wheel: .venv/ready  ## build the wheel and import it in a clean environment
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	cd dist && ../.venv-wheel/bin/python -c "import sessionactor; print(sessionactor.__version__)"

clean:
	rm -rf .venv .venv-adapters .venv-bench .venv-lowest .venv-wheel dist build

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "Python's venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.venv-bench/ready: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --editable . -r benchmarks/requirements.txt
	touch $@

test-lowest: .venv-lowest/ready  ## all tests, with the lowest supported dependencies
	.venv-lowest/bin/python -m pytest $(ARGS)

.venv-lowest/ready: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --editable ".[cli,testing]" \
		"pytest-xdist>=3.6,<4" aiosqlite==0.21.0 anyio==4.4.0 msgpack==1.2.1 click==8.2.0 rich==13.9.0
	touch $@
