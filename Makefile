# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv when it is missing.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint fuzz clean

demo: $(STAMP)
	$(BIN)/eigenforget demo --out demo --overwrite

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks examples fuzz
	$(BIN)/ruff check src tests benchmarks examples fuzz
	$(BIN)/mypy

# Hostile inputs, and kills at every step of every command that writes; some minutes each.
fuzz: $(STAMP)
	mkdir -p build
	$(BIN)/python -m fuzz.inputs --workers $(WORKERS) --json build/inputs.json
	$(BIN)/python -m fuzz.kills --json build/kills.json
	$(BIN)/python -m fuzz.page build/inputs.json build/kills.json

$(STAMP): pyproject.toml constraints-ci.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints-ci.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build
