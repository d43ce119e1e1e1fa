#!/usr/bin/env bash
# The documentation site, into outputs/site; open outputs/site/index.html from disk. Usage: bash scripts/docs.sh
# A warning, such as a link that leads nowhere, is an error.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
find_python requirements-docs.txt sphinx myst_parser furo pytest
cd "$ROOT"
rm -rf outputs/site
"$PYTHON" -m sphinx -c docs --fail-on-warning --keep-going --quiet . outputs/site
echo "outputs/site/index.html"
