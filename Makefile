# Two commands do everything: `make run` trains the tiny demo, `make test` runs the whole suite.
# Both set the machine up first (once; afterwards that takes no time).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-long gpu unit lint docs setup clean

run: setup
	$(BIN)/sailrl run configs/rlvr_tiny.yaml

test: setup lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	@echo "coverage: $$($(BIN)/coverage report --format=total)% of all lines, without what runs in Ray's processes"

test-long: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long

gpu:
	$(BIN)/python -m benchmarks.gpu_hour

unit: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m docs.generate
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/mkdocs build --quiet

setup:
	@PYTHON=$(PYTHON) bash scripts/setup_cpu.sh

clean:
	rm -rf .venv build dist site *.egg-info
