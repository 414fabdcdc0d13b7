# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv when it is missing.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNTIME := $(VENV)/.runtime
EXTRAS := .venv-extras
EXTRAS_STAMP := $(EXTRAS)/.installed
DOCS := .venv-docs
DOCS_STAMP := $(DOCS)/.installed
# Beside tests/extras, the tests that `make test` skips where these libraries are not installed.
EXTRAS_TESTS := tests/extras tests/models/test_huggingface.py tests/models/test_torchvision_model.py \
	tests/data/test_hf_dataset.py tests/data/test_tokens.py tests/data/test_torchvision_set.py

.PHONY: demo test test-extras docs lint fuzz clean

# What the package itself needs, without the tools of the tests.
demo: $(RUNTIME)
	$(BIN)/eigenforget demo --out demo --overwrite

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Models and data of torchvision, timm, transformers, datasets, Lightning and PEFT, in an environment of its own (2 GB).
test-extras: $(EXTRAS_STAMP)
	$(EXTRAS)/bin/python -m pytest --extras $(EXTRAS_TESTS)

# The documentation site, in site/; every warning is an error. In an environment of its own.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict

lint: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks examples fuzz docs/hooks.py
	$(BIN)/ruff check src tests benchmarks examples fuzz docs/hooks.py
	$(BIN)/mypy

# Hostile inputs, and kills at every step of every command that writes; some minutes each.
fuzz: $(STAMP)
	mkdir -p build
	$(BIN)/python -m fuzz.inputs --workers $(WORKERS) --json build/inputs.json
	$(BIN)/python -m fuzz.kills --json build/kills.json
	$(BIN)/python -m fuzz.page build/inputs.json build/kills.json

$(RUNTIME): pyproject.toml constraints-ci.txt
	@echo "Installing eigenforget and torch into $(VENV): some minutes the first time."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar on -c constraints-ci.txt -e .
	touch $(RUNTIME)

$(STAMP): pyproject.toml constraints-ci.txt
	@echo "Installing eigenforget, torch and the tools of the tests into $(VENV): some minutes the first time."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints-ci.txt -e '.[dev]'
	touch $(STAMP)

$(EXTRAS_STAMP): pyproject.toml constraints-ci.txt
	test -x $(EXTRAS)/bin/python || $(PYTHON) -m venv $(EXTRAS)
	$(EXTRAS)/bin/python -m pip install --quiet -c constraints-ci.txt -e '.[test-extras]'
	touch $(EXTRAS_STAMP)

$(DOCS_STAMP): pyproject.toml constraints-ci.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet -c constraints-ci.txt -e '.[docs]'
	touch $(DOCS_STAMP)

clean:
	rm -rf $(VENV) $(EXTRAS) $(DOCS) demo build site
