# Two commands matter: `make bench` (measure this machine) and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
PYTHON_OLDEST ?= python3.11
BIN := .venv/bin
INPUTS ?= 10000
FOLDERS ?= 1000
FAULTS ?= 300
SEED ?= 0
RUNS := $(wildcard reports/runs/*)
DEVICE ?= cuda
# A process per core; the tests that are left are shared out again when one has none.
PARALLEL := -n logical --dist worksteal

.PHONY: install bench test test-oldest report charts lint types check docs docs-check exports site overhead speed fuzz \
  faults selftest gpu-proof gpu-reference clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Every registered mechanism at 224 px on the CPU, and on CUDA where there is one; then the table and the page.
bench: install
	$(BIN)/attnbench run --device all --res 224 --protocol quick --fresh --out reports/local/run || test $$? -eq 3
	$(BIN)/attnbench report reports/local/run --out reports/local

test: install
	$(BIN)/python -m pytest $(PARALLEL)

# The tests with the oldest Python and the oldest packages that pyproject.toml allows.
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest $(PARALLEL)

.venv-oldest/.installed: pyproject.toml constraints-oldest.txt
	test -x .venv-oldest/bin/python || $(PYTHON_OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt \
	  -e '.[test,gpu,parquet]'
	touch $@

# Tables, figures and the page from the stored runs alone.
report: install
	$(BIN)/attnbench report $(RUNS) --out reports

# The page's charts and the scripts that draw them, by Altair and vl-convert.
charts: install
	$(BIN)/python tools/charts.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

check: lint types docs-check site test

docs: install
	$(BIN)/python docs/generate.py

docs-check: install
	$(BIN)/python docs/generate.py --check

# What ONNX Runtime and OpenVINO make of every layer, for the mechanisms' pages (docs/exports.json); some minutes.
exports: install
	$(BIN)/python docs/exports.py
	$(BIN)/python docs/generate.py

# The documentation as a site in site/; a warning, a broken link among them, is an error.
site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The share of a standard run's time that is not spent in the layers' calls.
overhead: install
	$(BIN)/python benchmarks/overhead.py

# Every mechanism's kernels against each other, with the tool itself; writes docs/speed.md.
speed: install
	$(BIN)/python benchmarks/speed.py

# 10,000 wrong and nearly right inputs, and damaged run folders, through the command line; about an hour.
fuzz: install
	nice $(BIN)/python benchmarks/fuzz.py --inputs $(INPUTS) --folders $(FOLDERS)

# Faults injected into real runs until each has finished, added to those of earlier campaigns; writes docs/reliability.md.
faults: install
	$(BIN)/python benchmarks/faults.py --count $(FAULTS) --seed $(SEED) --jobs 2 --add benchmarks/faults.json \
	  --out docs/reliability.md

selftest: install
	$(BIN)/attnbench selftest

# What a GPU proves of the CUDA paths, step by step: a table in reports/local/. DEVICE=cpu runs the steps without one.
gpu-proof: install
	$(BIN)/python benchmarks/gpu_proof.py --device $(DEVICE) $(PROOF)

# The same, then the cells of the published tables on this device, and their report.
gpu-reference: install
	$(BIN)/python benchmarks/gpu_proof.py --device $(DEVICE) --reference --hours 24 $(PROOF)

clean:
	rm -rf .venv .venv-oldest build dist site .pytest_cache .mypy_cache .ruff_cache
