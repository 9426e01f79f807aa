"""Complete the site of mkdocs.yml: pages that lie beside docs, and a page for each other file that a page links to.

Links of a page lead to files of the repository, so that they work on its host. On the site they lead to pages.
"""

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {  # file of the repository -> page of the site; docs/NAME is the page NAME
    "README.md": "index.md",
    "docs/README.md": "pages.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "MODEL_ZOO.md": "model_zoo.md",
    "datasets/README.md": "datasets.md",
    "weights/README.md": "weights.md",
    "notebooks/demo.ipynb": "demo.md",
}
FENCE_OR_LINK = re.compile(r"^```.*?^```|\]\(([^)\s#]+)(#[^)\s]*)?\)", re.MULTILINE | re.DOTALL)
ROLE = re.compile(r":(?:attr|class|func|meth|mod):<code>[~.]*")  # of Sphinx, in docstrings
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml"}
UNSEARCHED = "---\nsearch: {exclude: true}\n---\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name headings as the repository's host names them."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside docs, and a page for each file or folder that a page links to."""
    files.remove(files.src_uris["README.md"])
    for source, page in BESIDE.items():
        files.append(File.generated(config, page, content=_markdown(ROOT / source)))
    unread = [_source(file.src_uri) for file in files.documentation_pages()]
    while unread:
        source = unread.pop()
        for target in _targets(source):
            if (ROOT / target).exists() and (page := _page(target)) not in files.src_uris:
                files.append(File.generated(config, page, content=_markdown(ROOT / target)))
                unread.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to pages of the site."""
    here = page.file.src_uri
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # the tabs above are enough

    def lead(match: re.Match) -> str:
        if not match[1] or ":" in match[1]:
            return match[0]
        target = _page(_resolve(_source(here), match[1]))
        return f"]({os.path.relpath(target, PurePosixPath(here).parent)}{match[2] or ''})"

    return FENCE_OR_LINK.sub(lead, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Drop the names of Sphinx's roles."""
    return ROLE.sub("<code>", html)


def _source(page: str) -> str:
    """Return the path in the repository of a page of the site."""
    if page.startswith("source/"):
        return page.removeprefix("source/").removesuffix(".md")
    return next((source for source, beside in BESIDE.items() if beside == page), f"docs/{page}")


def _page(source: str) -> str:
    """Return the page, or the picture in docs, of a path in the repository."""
    if source in BESIDE:
        return BESIDE[source]
    return source.removeprefix("docs/") if source.startswith("docs/") else f"source/{source}.md"


def _resolve(source: str, target: str) -> str:
    return os.path.normpath(PurePosixPath(source).parent / target)


def _targets(source: str) -> list[str]:
    path = ROOT / source
    if path.suffix not in (".md", ".ipynb") and not path.is_dir():
        return []
    found = [match[1] for match in FENCE_OR_LINK.finditer(_markdown(path))]
    return [_resolve(source, target) for target in found if target and ":" not in target]


def _markdown(path: Path) -> str:
    """Return what the site shows of a file or folder of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        links = [f"- [{file.name}]({path.name}/{file.name})" for file in sorted(path.iterdir()) if file.is_file()]
        return "\n".join([f"{UNSEARCHED}# {name}\n", *links])
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        return "\n\n".join(_cell(cell) for cell in json.loads(text)["cells"])
    return f"{UNSEARCHED}# {name}\n\n{_fence(text, LANGUAGES.get(path.suffix, ''))}"


def _cell(cell: dict[str, Any]) -> str:
    """Return a cell of a notebook with its stored outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [_fence(source, "bash" if source.startswith("%%bash") else "python")]
    for output in cell["outputs"]:
        if output.get("name") == "stdout":
            parts.append(_fence("".join(output["text"])))
        if jpeg := output.get("data", {}).get("image/jpeg"):
            parts.append(f'<img alt="" src="data:image/jpeg;base64,{"".join(jpeg.split())}">')
    return "\n\n".join(parts)


def _fence(text: str, language: str = "") -> str:
    return f"```{language}\n{text.rstrip()}\n```"
