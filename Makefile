# One command each. Everything is set up in .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: sandbox test lint format types bench check

sandbox: $(VENV)/ready          ## LNPay with a simulated Strike, a demo shop and a wallet; no account, no key
	$(BIN)/python main.py --sandbox

test: $(VENV)/ready-dev         ## every test, with coverage
	$(BIN)/python -m pytest -n auto --cov --cov-report=term $(ARGS)
	$(BIN)/coverage report --fail-under=95 > /dev/null || { $(BIN)/coverage report; exit 1; }
	$(BIN)/coverage report --include="lnpay/money.py,lnpay/states.py,lnpay/settlement.py" --fail-under=100

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .

format: $(VENV)/ready-dev       ## rewrites; CHECK=1 only looks
	$(BIN)/ruff format $(if $(CHECK),--check) .

types: $(VENV)/ready-dev
	$(BIN)/mypy

bench: $(VENV)/ready-dev        ## every figure, each against a floor of the same run
	$(BIN)/python -m bench

$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/ready-dev: requirements-dev.txt $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
