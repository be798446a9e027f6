# Every target does its own set-up; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOS := $(wildcard protos/videoexport/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help setup protos demo demo-edit bench bench-scale faults conformance test test-long check clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "videoexport needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu the package python3-venv adds that"; \
	  rm -rf $(VENV); exit 1; }
	@echo "installing from constraints.txt (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP) ## Build .venv from constraints.txt

demo: $(STAMP) ## Watch one export run through a local cluster (SOURCE=path for your own video)
	@$(BIN)/python -m services.local.demo $(if $(SOURCE),--source "$(SOURCE)")

demo-edit: $(STAMP) ## Export, move one cut, export again: see what is reused, and both times
	@$(BIN)/python -m services.local.demo --edit $(if $(SOURCE),--source "$(SOURCE)")

bench: $(STAMP) ## Measure speed against named alternatives (B=name runs one); about 45 minutes
	@$(BIN)/python -m bench $(B)

bench-scale: $(STAMP) ## Measure the cluster with up to 200 simulated encoders; about 10 minutes
	@$(BIN)/python -m bench.scale $(ARGS)

faults: $(STAMP) ## Inject faults into a cluster under load, then check it; about 8 minutes (ARGS=--help: more)
	@$(BIN)/python -m faults $(ARGS)

conformance: $(STAMP) ## Export every kind of source and read back what came out; about 2 minutes
	@$(BIN)/python -m conformance $(ARGS)

# Much of the suite waits: for a restart, for a limit. In the order of the folders, so that the two
# that hold the long tests begin at once.
SIDE_BY_SIDE := -n 3 --no-loadscope-reorder

test: $(STAMP) ## Run the tests against real NATS, S3, Postgres and FFmpeg (ARGS="-k name" for some)
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not long" $(ARGS)

test-long: $(STAMP) ## Run the few tests that `test` leaves out, of a quarter of a minute and more each
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m long $(ARGS)

check: $(STAMP) ## Check style, types, imports, contract, stubs, images and manifests
	@$(BIN)/python -m pytest checks $(ARGS)

clean: ## Remove .venv, build and every cache; what people made (.local, demo-output) stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Where generated code goes; the check for drift has it made elsewhere.
STUBS ?= .

protos: $(STAMP) ## Generate videoexport/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(STUBS) --grpc_python_out=$(STUBS) \
	  --mypy_out=quiet:$(STUBS) --mypy_grpc_out=quiet:$(STUBS) $(PROTOS)
