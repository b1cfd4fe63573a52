# Every target does all of its own set-up, in .venv: `make demo` and `make test` work in a fresh clone.
#   make demo               predict held-out clips, measure, write papermill_runs/out/demo/report.html
#   make demo CLIPS=folder  the same on your own videos
#   make test               every fast test        make test-slow   the long ones and those that need a GPU
#   make lab                JupyterLab on the apps make docs        the web pages, in _docs/
#   make venv               only the set-up        make clean       back to a fresh clone; runs and results stay
#   make readme             README.md from nbs/index.ipynb
# PYTHON=/path/to/python3.12 chooses the interpreter (3.10-3.13); otherwise the first suitable one is taken.

BIN := .venv/bin
export PYTHON

# One stamp says that .venv matches the files that define it. Its name carries their sha1 (and this folder's path,
# because a virtual environment cannot be moved), so dates and branches do not matter.
KEY := $(shell { cat settings.ini setup.py pyproject.toml .ci/venv; pwd -P; } | { sha1sum 2>/dev/null || shasum; } | cut -c1-12)
STAMP := .venv/.ready-$(KEY)

.PHONY: venv demo test test-slow lab docs readme clean
.DEFAULT_GOAL := venv

venv: $(STAMP)

$(STAMP):
	@.ci/venv $@

demo: $(STAMP)
	$(BIN)/ccvs demo $(if $(CLIPS),--clips "$(CLIPS)")

# The house's own rules first: they take seconds. Then every notebook, on CPU, then the tests. Workers with a thread
# each do not stand in each other's way.
test: $(STAMP)
	$(BIN)/python tests/house/exported.py
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --path nbs
	$(BIN)/python -m pytest -q -m 'not slow and not gpu' tests

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m 'slow or gpu' tests

lab: $(STAMP)
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/nbs/apps $(if $(filter 0,$(shell id -u)),--allow-root)

docs: $(STAMP)
	@.ci/docs

readme: $(STAMP)
	$(BIN)/jupyter nbconvert --to markdown --log-level WARN --output-dir . --output README nbs/index.ipynb

clean:
	rm -rf .venv _docs _proc build dist ccvs.egg-info .pytest_cache
	find ccvs nbs tests papermill_runs data_prep \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} + 2>/dev/null || true
