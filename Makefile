# Everything a newcomer needs: `make demo` and `make test` set up .venv on first use and reuse it afterwards.
PYTHON ?= python3
VENV := .venv
C3 := $(VENV)/bin/c3

.PHONY: demo test lint clean

demo: $(VENV)/ready
	$(C3) demo

test: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python -m pytest

lint: $(VENV)/ready
	$(VENV)/bin/ruff check --fix .

# constraints.txt pins versions that were tried together; pyproject.toml says what is needed.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
