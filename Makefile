# The two commands of the README: `make demo` and `make test`. Each installs what it needs into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most of what takes long waits for something, so there are more workers than cores.
WORKERS ?= 6
# flake8-async finds what ruff does not: the optional rules about checkpoints are left out, because a handler without
# one is fine; ASYNC109, because a timeout here is a deadline of the operation, not of the task; and ASYNC124, because
# functions of one type may be async for the sake of the others.
ASYNC_RULES := --enable=ASYNC1,ASYNC2,ASYNC3,ASYNC900,ASYNC913 --disable=ASYNC109,ASYNC124

# What coverage of the kernel and the policies is measured with: to trace all tests would take half as long again. What is
# about large numbers says nothing more when it is traced.
COVERED := tests/unit/kernel tests/unit/policy $(filter-out %/test_otp_scale.py,$(wildcard tests/conformance/test_*.py)) \
	$(filter-out %/test_simulation.py %/test_fleet.py,$(wildcard tests/property/test_*.py))
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

.PHONY: demo test coverage lint types floors simulate benchmarks reliability mcp-conformance soak mcp-soak plant-bugs fmt clean

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/newsroom/demo.py

test: $(VENV)/dev.stamp lint types floors
	$(PYTEST) $(COVERED) --cov=agentrt.kernel --cov=agentrt.policy --cov-report= $(PYTEST_ARGS)
	$(BIN)/python -m coverage report --fail-under=90
	$(PYTEST) $(addprefix --ignore=,$(COVERED)) $(PYTEST_ARGS)

# All tests, and the branches of all modules.
coverage: $(VENV)/dev.stamp
	$(PYTEST) --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/python -m coverage report --fail-under=85

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8-async $(ASYNC_RULES) $(shell find agentrt actors examples -name '*.py')

types: $(VENV)/dev.stamp
	$(BIN)/mypy

floors: $(VENV)/dev.stamp
	$(BIN)/lint-imports --no-cache

# A minute; SIMULATE_ARGS="--seeds 100000 --jobs 2" for a night.
simulate: $(VENV)/dev.stamp
	$(BIN)/python -m agentrt.testing.simulate $(or $(SIMULATE_ARGS),--seconds 60 --jobs 2)

# Takes half an hour, wants a quiet machine, and is no part of the tests. Peers get environments of their own.
benchmarks: $(VENV)/dev.stamp
	$(BIN)/python tests/benchmarks/run.py --peers all --install $(BENCHMARK_ARGS)

# Plays the failure matrix with the peers beside, some minutes, and writes docs/reliability.md.
reliability: $(VENV)/dev.stamp
	$(BIN)/python tests/reliability/run.py --install --write $(RELIABILITY_ARGS)

# The protocol's official suite, some minutes, with a Node of its own; writes docs/mcp-conformance.md.
mcp-conformance: $(VENV)/dev.stamp
	$(BIN)/python tests/mcp_conformance/run.py --write $(MCP_CONFORMANCE_ARGS)

# An hour of random faults; SOAK_ARGS="--hours 8 --seed 7" for a night that can be repeated.
soak: $(VENV)/dev.stamp
	$(BIN)/python tests/chaos/soak_nats.py $(SOAK_ARGS)

# Kills real MCP servers two hundred times each, in a fleet and behind the guard, for an hour; needs npm.
mcp-soak: $(VENV)/dev.stamp
	$(BIN)/python tests/chaos/soak_mcp.py $(MCP_SOAK_ARGS)

# Proves that the tests find mistakes; takes some minutes, and is no part of the tests either.
plant-bugs: $(VENV)/dev.stamp
	$(BIN)/python tests/plant_bugs.py $(PLANT_ARGS)

fmt: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

# pip reads dependency groups from 25.1 on.
$(VENV)/pip.stamp:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "agentrt needs Python 3.11 to 3.13: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	touch $@

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/pip.stamp
	$(BIN)/python -m pip install -q -e '.[server]' --group demo
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/pip.stamp
	$(BIN)/python -m pip install -q -e '.[server]' --group dev
	touch $@
