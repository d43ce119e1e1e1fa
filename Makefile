# make check runs what CI runs.
.PHONY: check test format
check:
	bash .ci/run
test:
	bash scripts/test.sh
format:
	ruff check --fix . && ruff format .
