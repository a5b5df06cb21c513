PYTHON ?= python3
BIN := .venv/bin
OLDEST := .venv-oldest/bin
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: train test lint check test-oldest wheel clean

# The main job on the embedded data: install, train, evaluate. Run it again to resume.
train: .venv/.train
	$(BIN)/python scripts/train.py --config configs/synthetic.toml

# Lint, types, import contracts and all tests but the slow ones.
test: lint check

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A worker has a compilation cache of its own: whole stretches of the tests, not every other one.
check: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# The oldest supported versions, and that they and the newest use each other's checkpoints.
test-oldest: .venv-oldest/.test .venv/.test
	$(OLDEST)/python -m pytest -n 2 --dist worksteal -m "not slow"
	$(OLDEST)/python -m pytest -m slow tests/test_versions.py

# Build dist/*.whl, and use it in a fresh environment without this checkout.
wheel: .venv/.test
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

.venv/.train: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) --editable ".[tfdata]"
	touch $@

.venv/.test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) --editable ".[test]"
	touch $@ .venv/.train

.venv-oldest/.test: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python $(PIP) --constraint tests/oldest.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv .venv-oldest build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
