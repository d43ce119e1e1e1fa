# make check runs what CI runs.
.PHONY: check test docs format
check:
	bash .ci/run
test:
	bash scripts/test.sh
docs:
	bash scripts/docs.sh
format:
	ruff check --fix . && ruff format .
