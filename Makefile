# Two commands matter: `make run` and `make test`. Works with GNU make 3.81 (macOS) and newer.
#
#   make run  [PORT=8000] [HOST=127.0.0.1] [EMPTY=1]   the whole product on this machine, Ctrl-C stops it
#   make test [ARGS="-k ledger"]                       everything CI runs, on SQLite and PostgreSQL
#   make bench [SIZES="10000 100000"]                  timings as ratios to a plain scan, on both databases
#   make chaos [SEED=1 ROUNDS=25 DATABASES=sqlite]     the proofs under faults, long; WRITE=docs/chaos.md keeps the table
#   make lint                                          only the gates: lint, format, imports, templates, types
#   make format                                        let ruff and djade mend what they can
#   make clean                                         remove what was built (your data in var/ stays)

SHELL := /bin/bash
PORT ?= 8000
HOST ?= 127.0.0.1
VENV ?= .venv
PY := $(VENV)/bin/python

# PYTHON=… wins; otherwise the first Python of at least 3.11 that answers.
FIND_PYTHON = for each in $(PYTHON) python3.11 python3.12 python3.13 python3 python3.14 python; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$each"; break; }; done

define environment
	@if [ -x $(PY) ] && $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$(PY); \
	else found=$$($(FIND_PYTHON)); fi; \
	if [ -z "$$found" ]; then echo "Python 3.11 or newer is needed and none was found. Name one: make PYTHON=/path/to/python3.11"; exit 1; fi; \
	"$$found" lifecycle_crm/environment.py $(VENV) $(1)
endef

.PHONY: run test bench chaos lint format clean

run:
	$(call environment,requirements.txt)
	@exec $(PY) manage.py run --host "$(HOST)" --port "$(PORT)" $(if $(EMPTY),--empty,)

# One pytest for everything: each database has a process of its own and the closing summary counts both. Tests of the
# browser and the gates have a third one, because once is enough for them.
test:
	$(call environment,tests/requirements.txt)
	@export TEST_EXPECT=sqlite,postgresql,browser,worker,gate; \
	exec $(PY) -m pytest --dist=each \
		--tx popen//id=sqlite//env:TEST_DATABASE=sqlite//env:TEST_ELSEWHERE=browser,gate \
		--tx popen//id=postgresql//env:TEST_DATABASE=postgresql//env:TEST_ELSEWHERE=browser,gate \
		--tx popen//id=browser//env:TEST_DATABASE=sqlite//env:TEST_ONLY=browser,gate \
		$(ARGS)

lint:
	$(call environment,tests/requirements.txt)
	@exec $(PY) -m pytest -q -m gate

format:
	$(call environment,tests/requirements.txt)
	@$(VENV)/bin/ruff check --fix --quiet .; $(VENV)/bin/ruff format --quiet .
	@find templates -name '*.html' -exec $(VENV)/bin/djade --target-version 5.2 {} + || true

clean:
	rm -rf $(VENV) staticfiles .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# The benchmark suite: make bench SIZES="10000 100000" DATABASES="sqlite postgresql", or one part of it: ONLY=points SIZES=1000000
bench:
	$(call environment,tests/requirements.txt)
	@exec $(PY) -m tests.bench $(if $(SIZES),--sizes $(SIZES)) $(if $(DATABASES),--databases $(DATABASES)) $(if $(ONLY),--only $(ONLY))

# The proofs under faults, long: make chaos SEED=7 ROUNDS=100 DATABASES=postgresql ONLY=test_kills WRITE=docs/chaos.md
chaos:
	$(call environment,tests/requirements.txt)
	@exec $(PY) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(DATABASES),--databases $(DATABASES)) $(if $(ONLY),--only "$(ONLY)") $(if $(WRITE),--write $(WRITE))
