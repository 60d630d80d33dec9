"""Hooks of mkdocs.yml. The Markdown reads on its own, in an editor or on a page that shows a repository; here its links to
files outside docs/ become links to pages of the site that show those files, and the marks of scripts/docs-snippets go.
"""

import logging
import pathlib
import posixpath
import re

from mkdocs.structure.files import File, InclusionLevel

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOG = logging.getLogger("mkdocs.hooks.lpf")  # a warning ends a strict build
LINK = re.compile(r"(\]\()([^)\s]+)((?: \"[^\"]*\")?\))")
# Pages of the repository's root that are pages of the site, by their path in the repository.
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
API = ROOT / "build/api"
LANGUAGES = {".hpp": "cpp", ".cpp": "cpp", ".inc": "cpp", ".cu": "cpp", ".py": "python", ".md": "markdown", ".json": "json",
             ".sh": "bash", ".txt": "text", ".cmake": "cmake"}


def parts_of(text):
    """(is code, text) of the pieces of a page: fenced and indented blocks, and spans of code, are code."""
    fenced = re.compile(r"^( *)(`{3,}|~{3,}).*?^ *\2`*[^\S\n]*$|`[^`\n]+`|^(?:(?<=\n\n)(?:    [^\n]*\n)+)", re.M | re.S)
    end = 0
    for match in fenced.finditer(text):
        yield False, text[end:match.start()]
        yield True, match.group()
        end = match.end()
    yield False, text[end:]


def repository_path(target, folder):
    """Path in the repository of a link from a page in `folder`, or None if it leads elsewhere or to a heading."""
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z]+:", path):
        return None
    return posixpath.normpath(posixpath.join(folder, path))


def site_path(path):
    """The page of the site (below docs/) that stands for a file outside docs/, or None if the file is inside."""
    if path.startswith("docs/"):
        # Files that are no pages of the site are shown as source.
        return None if pathlib.PurePosixPath(path).suffix in (".md", ".svg", ".png", ".css", ".html") else f"source/{path}.md"
    return ROOT_PAGES.get(path, "index.md" if path == "README.md" else f"source/{path}.md")


def rewritten(text, folder, page):
    """The text with its links as they are on the site. folder: of the page in the repository; page: its path on the site."""
    def link(match):
        path = repository_path(match.group(2), folder)
        if path is None:
            return match.group()
        if not (ROOT / path).exists():
            LOG.warning("%s: the link to %s leads nowhere", page, match.group(2))
            return match.group()
        anchor = match.group(2).partition("#")[1:]
        there = site_path(path) or path.removeprefix("docs/")
        return match.group(1) + posixpath.relpath(there, posixpath.dirname(page) or ".") + "".join(anchor) + match.group(3)

    return "".join(part if code else LINK.sub(link, part) for code, part in parts_of(text))


def linked_files(text, folder):
    """Paths in the repository of the files that the text links to and that are shown as source."""
    for code, part in parts_of(text):
        for match in () if code else LINK.finditer(part):
            path = repository_path(match.group(2), folder)
            if path and (ROOT / path).is_file() and (site_path(path) or "").startswith("source/"):
                yield path


def source_page(path):
    text = (ROOT / path).read_text(errors="replace").rstrip("\n")
    fence = "`" * max([3] + [len(ticks) + 1 for ticks in re.findall(r"^ *(`{3,})", text, re.M)])
    language = LANGUAGES.get(pathlib.PurePosixPath(path).suffix, "bash" if text.startswith("#!") else "text")
    return (f"---\nhide: [toc]\nsearch: {{exclude: true}}\ntitle: {posixpath.basename(path)}\n---\n# {path}\n\n"
            f'{fence} {{.{language} linenums="1"}}\n{text}\n{fence}\n')


def titles_of(entry):
    """A folder in the navigation becomes its pages."""
    if isinstance(entry, dict):
        return [{title: expanded(items)} for title, items in entry.items()]
    if isinstance(entry, str) and entry.endswith("/"):
        pages = sorted(p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs" / entry).glob("*.md"))
        return sorted(pages, key=lambda path: not path.endswith("/index.md"))
    return [entry]


def expanded(items):
    if isinstance(items, str):
        return titles_of(items) if items.endswith("/") else items
    return [entry for item in items for entry in titles_of(item)]


def on_config(config):
    # A folder that has no page yet has no title either.
    config.nav = [item for item in expanded(config.nav) if not (isinstance(item, dict) and list(item.values()) == [[]])]
    return config


def on_files(files, config):
    shown = set()
    for file in list(files.documentation_pages()):
        folder = posixpath.dirname(posixpath.join("docs", file.src_uri))
        shown.update(linked_files(file.content_string, folder))
    for path, page in ROOT_PAGES.items():
        text = (ROOT / path).read_text()
        shown.update(linked_files(text, ""))
        files.append(File.generated(config, page, content=rewritten(text, "", page)))
    for path in sorted(shown):
        files.append(File.generated(config, f"source/{path}.md", content=source_page(path),
                                    inclusion=InclusionLevel.NOT_IN_NAV))
    for path in sorted(API.rglob("*")):
        if path.is_file():
            files.append(File.generated(config, f"api/{path.relative_to(API).as_posix()}", abs_src_path=str(path),
                                        inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown, page, config, files):
    uri = page.file.src_uri
    if uri.startswith("source/") or uri in ROOT_PAGES.values():
        return markdown
    # The snippets' marks go; an output gets a title instead.
    markdown = re.sub(r"^<!-- output -->\n```text$", '\n```text title="prints"', markdown, flags=re.M)
    markdown = re.sub(r"^<!-- (?:snippet|shell|lines of|not compiled)\b.*-->\n(?=```)", "", markdown, flags=re.M)
    return rewritten(markdown, posixpath.dirname(posixpath.join("docs", uri)), uri)
