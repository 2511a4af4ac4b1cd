# One command each. Everything is set up in .venv on first use.
PYTHON ?= $(shell for one in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$one && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what it imports by itself; to compile all of every package takes longer than the rest.
# It must keep the result, which images of containers often forbid: every worker of the tests would compile it again.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
MONEY := lnpay/domain/money.py,lnpay/domain/states.py,lnpay/invoices/settle.py,lnpay/invoices/receives.py,lnpay/invoices/receive_sweep.py,lnpay/invoices/issue_request.py,lnpay/refunds/overpaid.py,lnpay/domain/receives.py,lnpay/invoices/late.py,lnpay/invoices/cancel.py,lnpay/invoices/mark_invalid.py,lnpay/web/greenfield/status.py,lnpay/invoices/sweep.py,lnpay/refunds/send.py,lnpay/refunds/received.py,lnpay/refunds/by_hand.py,lnpay/refunds/merchant.py,lnpay/refunds/operator_request.py,lnpay/refunds/destinations.py,lnpay/repository/queries/refund_requests.py,lnpay/refunds/keys.py,lnpay/refunds/outcomes.py,lnpay/refunds/paid_elsewhere.py,lnpay/refunds/policy.py,lnpay/deliveries/send.py

.DEFAULT_GOAL := help
.PHONY: help sandbox test simulate soak chaos mutate lint format types check docs bench stale

help:                           ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-13s %s\n' "$$name" "$$text"; done

sandbox: $(VENV)/ready          ## LNPay with a simulated Strike, a demo shop and a wallet: no account, no key (PORT=5000)
	$(BIN)/python main.py --sandbox

test: $(VENV)/ready-dev         ## every test, with coverage; ARGS="-k word" for some, without its floor
	$(BIN)/python -m pytest -n auto $(if $(ARGS),$(ARGS),--cov --cov-report=term)
ifndef ARGS
	@$(BIN)/coverage report --fail-under=95 > /dev/null || { echo "coverage is below 95 %"; exit 1; }
	@$(BIN)/coverage report --include="$(MONEY)" --fail-under=100 > /dev/null || \
		{ $(BIN)/coverage report --include="$(MONEY)"; echo "where money is counted, every branch must be tested"; exit 1; }
endif

simulate: $(VENV)/ready-dev     ## whole small worlds with every fault, one seed each (SEEDS=10000; others each day unless FIRST=0; SEED=123 again)
	$(BIN)/python -m tests.simulation --jobs 2 $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) \
		$(if $(FIRST),--first $(FIRST))

soak: $(VENV)/ready-dev         ## a day of real processes whose clocks are hours apart, in a quarter of an hour (HOURS=24)
	$(BIN)/python -m tests.soak --hours $(or $(HOURS),24)

chaos: $(VENV)/ready-dev        ## two servers, PgBouncer and a failover of PostgreSQL, with customers all the time (ORDERS=2000 SEED=1 FAILOVERS=1)
	$(BIN)/python -m tests.chaos --orders $(or $(ORDERS),2000) --seed $(or $(SEED),1) --failovers $(or $(FAILOVERS),1)

mutate: $(VENV)/ready-dev       ## break states, money and refunds in a thousand ways and see the tests notice (docs/mutation.md)
	$(PIP) mutmut==3.8.1
	$(BIN)/mutmut run
	$(BIN)/mutmut results

lint: $(VENV)/ready-dev         ## ruff's checks, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

format: $(VENV)/ready-dev       ## rewrite to the common format; CHECK=1 only looks
	$(BIN)/ruff format $(if $(CHECK),--check) .

types: $(VENV)/ready-dev        ## mypy, strict
	$(BIN)/mypy

check: lint types test          ## all of these, as before a commit
	$(MAKE) format CHECK=1

docs: $(VENV)/ready-dev         ## the documentation as a site in site/; a broken link fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/ready-dev        ## every figure, each against a floor of the same run
	$(BIN)/python -m bench

# A .venv whose Python is gone, too old or without pip is created again.
ifneq ($(shell $(BIN)/python -c 'import pip, sys; print(sys.version_info >= (3, 11))' 2>/dev/null),True)
$(BIN)/python: stale
endif

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "LNPay needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/ready: requirements.txt | $(BIN)/python
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/ready-dev: requirements-dev.txt $(VENV)/ready
	$(PIP) -r requirements-dev.txt
	@touch $@
