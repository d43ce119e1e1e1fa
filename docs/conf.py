"""The documentation site: the Markdown pages of the repository where they lie, and the API from docstrings.

`bash scripts/docs.sh` builds it. The source folder is the repository itself, so that a relative link means the same on
GitHub and on the site.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

project = "MotionCache"
author = "The MotionCache maintainers"
root_doc = "docs/README"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "benchmarks/README.md",
    "benchmarks/results/**.md",
    "MotionCache4*/README.md",
    "MotionCache4*/motioncache-tiny/README.md",
]
exclude_patterns = [".git", ".venv", "outputs", "runs"]

myst_heading_anchors = 3
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
toc_object_entries = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "MotionCache"
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched, which a browser refuses on disk
html_extra_path = ["site/index.html"]
html_static_path = ["site/site.css"]
html_css_files = ["site.css"]

CONTENTS = """

```{toctree}
:hidden:
:caption: Start

Overview </README>
/docs/usage
/docs/studio
/docs/results
/docs/speed
/docs/troubleshooting
```

```{toctree}
:hidden:
:caption: Methods

/docs/motioncache
/docs/method
/docs/calibration
```

```{toctree}
:hidden:
:caption: Models

SkyReels-V2 </MotionCache4SkyReels-V2/README>
MAGI-1 </MotionCache4MAGI-1/README>
Helios </MotionCache4Helios/README>
Small model, SkyReels-V2 </MotionCache4SkyReels-V2/motioncache-tiny/README>
Small model, MAGI-1 </MotionCache4MAGI-1/motioncache-tiny/README>
/docs/memory
/docs/gpus
```

```{toctree}
:hidden:
:caption: Reference

/docs/commands
/docs/api
/docs/vbench
```

```{toctree}
:hidden:
:caption: Project

/benchmarks/README
/CONTRIBUTING
/CHANGELOG
```
"""
"""The navigation, which GitHub would show as code."""


def adapt(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn a page that GitHub renders into what the site needs."""
    text = source[0]
    if name == root_doc:
        text += CONTENTS
    if name.startswith("benchmarks/results/"):  # written by programs without a title, and linked from other pages
        title = name.removeprefix("benchmarks/results/").replace("/", ", ")
        text = f"---\norphan: true\n---\n\n# {title}\n\n{text}"
    folder = (ROOT / name).parent
    source[0] = re.sub(r"\[([^\]]+)\]\(([^)#\s]+)\)", lambda link: _without_folder(link, folder), text)


def _without_folder(link: re.Match[str], folder: Path) -> str:
    """A link to a folder, which GitHub lists and the site doesn't have, becomes its text."""
    return link[1] if "://" not in link[2] and (folder / link[2]).is_dir() else link[0]


def open_files(app: Sphinx, page: str, template: str, context: dict[str, Any], document: object) -> None:
    """Let the browser show a linked file, such as the page of a benchmark, in place of saving it."""
    if "body" in context:
        context["body"] = context["body"].replace(' download=""', "")


def setup(app: Sphinx) -> None:
    app.connect("source-read", adapt)
    app.connect("html-page-context", open_files)
