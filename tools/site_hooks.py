"""MkDocs hooks: README.md is the site's first page, and what pages link to outside docs/ is part of the site.

| a link to | becomes |
|---|---|
| README.md | index.md |
| a Markdown file, a figure or data outside docs/ | the same file under repository/ |
| Python source outside docs/ | a page under repository/ that shows it |
| a folder | its README.md, or a page that lists its files |
| reports/index.html, which is not committed | the gallery, which shows it |

Links of Markdown that lead nowhere stay as they are: MkDocs warns of them, and `make site` fails.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OUTSIDE = "repository"
INSTEAD = {ROOT / "reports" / "index.html": DOCS / "gallery.md"}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
SOURCES: dict[str, Path] = {}  # the file that a page of the site was made from, by the page's path in the site


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give each `FOLDER/*` of the navigation the pages of that folder, its README.md first."""
    for entry in config.nav or []:
        for title, value in entry.items():
            if isinstance(value, str) and value.endswith("/*"):
                entry[title] = _pages(value.removesuffix("/*"))
    return config


def _pages(folder: str) -> list[str]:
    names = sorted(file.name for file in (DOCS / folder).glob("*.md"))
    index = "README.md" if "README.md" in names else "index.md"
    return [f"{folder}/{name}" for name in (index, *(n for n in names if n != index))]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add README.md, and all that is reached from it and from docs/ by links."""
    SOURCES.clear()
    pending = [ROOT / "README.md", *(DOCS / file.src_uri for file in files.documentation_pages())]
    seen = set(pending)
    while pending:
        source = pending.pop()
        if files.get_file_from_path(uri := site_path(source)) is None:
            files.append(_file(source, uri, config))
        SOURCES[uri] = source
        found = {target for link, _ in LINK.findall(_markdown(source)) if (target := _target(source, link))}
        pending += sorted(found - seen)
        seen |= found
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Rewrite links to files of the repository into links to pages of the site."""
    here = page.file.src_uri
    source = SOURCES[here]

    def rewritten(match: re.Match[str]) -> str:
        target = _target(source, match[1])
        return match[0] if target is None else _relative(here, site_path(target)) + (match[2] or "")

    return LINK.sub(rewritten, markdown)


def site_path(source: Path) -> str:
    """The path in the site of a file or folder of the repository."""
    if source == ROOT / "README.md":
        return "index.md"
    name = (
        source.relative_to(DOCS).as_posix()
        if source.is_relative_to(DOCS)
        else (f"{OUTSIDE}/{source.relative_to(ROOT).as_posix()}")
    )
    if source.is_dir():
        return f"{name}/index.md"
    return f"{name}.md" if source.suffix == ".py" else name


def _target(source: Path, link: str) -> Path | None:
    """The file or folder of the repository that a link of `source` names; None for an address and for nothing."""
    base = source if source.is_dir() else source.parent
    target = Path(posixpath.normpath((base / link).as_posix()))
    target = INSTEAD.get(target, target)
    if "://" in link or not target.is_relative_to(ROOT) or not target.exists():
        return None
    readme = target / "README.md"
    return readme if readme.exists() and target != ROOT else target


def _relative(here: str, there: str) -> str:
    return posixpath.relpath(there, posixpath.dirname(here) or ".")


def _markdown(source: Path) -> str:
    """The page of a Markdown file, of a folder or of Python source; empty for anything else."""
    name = source.relative_to(ROOT).as_posix()
    if source.is_dir():
        entries = sorted(file.name for file in source.iterdir() if not file.name.startswith((".", "__")))
        return f"# {name}\n\n" + "".join(f"- [{entry}]({entry})\n" for entry in entries)
    if source.suffix == ".py":
        return f"# {name}\n\n````python\n{source.read_text()}````\n"
    return source.read_text() if source.suffix == ".md" else ""


def _file(source: Path, uri: str, config: MkDocsConfig) -> File:
    if text := _markdown(source):
        return File.generated(config, uri, content=text)
    return File.generated(config, uri, abs_src_path=str(source))
