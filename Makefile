# Everything a newcomer needs: `make demo` and `make test` set up .venv on first use and reuse it afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# one thread per pytest process; more would compete for the cores
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

.PHONY: demo demo-table1 test lint types coverage format hooks pictures gpu-check clean

demo: $(VENV)/ready
	$(BIN)/c3 demo

# every method of Table 1, one seed each
demo-table1: $(VENV)/ready
	$(BIN)/c3 demo --method table1 --seeds 1

# what CI runs
test: lint types $(VENV)/ready
	$(PYTEST)

# style and the rules of imports: seconds
lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# about a minute at first, seconds afterwards
types: $(VENV)/ready
	$(BIN)/mypy

# which lines of the package no test runs; prints the share of those that one does
coverage: $(VENV)/ready
	$(PYTEST) --cov --cov-report term:skip-covered

# rewrite what ruff can rewrite
format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# run the checks before every commit
hooks: $(VENV)/ready
	$(BIN)/pre-commit install

# the pictures in docs/img: charts from the tables of docs/benchmarks.md, the others from the demo in DEMO, and from runs
# on real photographs in REAL where it is given
DEMO ?= c3-demo
pictures: $(VENV)/ready
	$(BIN)/python benchmarks/charts.py
	$(BIN)/python docs/pictures.py --demo $(DEMO) $(if $(REAL),--real $(REAL))

# what has to run on a GPU: figures and failures in gpu-check/, a few minutes
gpu-check: $(VENV)/ready
	$(BIN)/python benchmarks/gpu_check.py --out gpu-check

# constraints.txt pins versions that were tried together; pyproject.toml says what is needed.
# mypy finds the package by its folder, and the checkout may have any name: the link gives it the package's.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	mkdir -p $(VENV)/src
	ln -sfn "$(CURDIR)" $(VENV)/src/c3
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage
