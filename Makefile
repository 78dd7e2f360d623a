# Everything a newcomer needs: `make demo` and `make test` set up .venv on first use and reuse it afterwards.
PYTHON ?= python3
VENV := .venv
C3 := $(VENV)/bin/c3

.PHONY: demo demo-table1 test lint clean

demo: $(VENV)/ready
	$(C3) demo

# every method of Table 1, one seed each
demo-table1: $(VENV)/ready
	$(C3) demo --method table1 --seeds 1

test: $(VENV)/ready
	$(VENV)/bin/ruff check .
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

lint: $(VENV)/ready
	$(VENV)/bin/ruff check --fix .

# constraints.txt pins versions that were tried together; pyproject.toml says what is needed.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
