#!/usr/bin/env python3
"""Tests that the tables of docs/reference are true: each option struct of the library has one, with the fields of its header
and their defaults. A table stands below `<!-- options: NAME in FILE -->`; its first columns are option, default, unit.

    python3 reference_test.py
"""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "include/lpf"
PAGES = sorted((ROOT / "docs/reference").rglob("*.md"))
# The folders and files whose option structs are documented there.
COVERED = ["optim", "filter", "nn", "data", "sharpness", "train"] + [
    f"ops/{name}.hpp" for name in ("conv", "conv1d", "pool", "pool1d", "embedding", "attention_parts", "loss", "kl_div")]
REQUIRED = "—"  # in the place of a default
MARK = r"^<!-- (snippet(: (continues|with \w+|not run: .+))?|(lines of|not compiled): .+) -->$"  # of scripts/docs-snippets


def split_top(text, separator):
    """The parts of a text between separators that no bracket encloses."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{<") - (c in ")]}>")
        if c == separator and depth == 0:
            parts.append(text[begin:i])
            begin = i + 1
    return parts + [text[begin:]]


def body_of(text, name):
    """What is between the braces of a struct; None if the text does not define it."""
    found = re.search(rf"\bstruct {name}\b[^;{{(]*{{", text)
    if not found:
        return None
    depth, at = 1, found.end()
    while depth:
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
    return text[found.end():at - 1]


def statements(body):
    """The declarations in a struct's body, without functions that are defined there."""
    out, depth, begin, function = [], 0, 0, False
    for i, c in enumerate(body):
        if c == "{" and depth == 0:
            function = re.search(r"\)\s*(const|noexcept|override|\s)*$", body[begin:i]) is not None
        depth += (c in "({") - (c in ")}")
        if c == ";" and depth == 0:
            out.append(body[begin:i])
            begin = i + 1
        elif c == "}" and depth == 0 and function:
            begin, function = i + 1, False
    return [" ".join(s.split()) for s in out]


def fields_of(header, name):
    """{field: default} of a struct in a header, in order."""
    body = body_of(re.sub(r"//[^\n]*", "", header), name)
    if body is None:
        return None
    fields = {}
    for statement in statements(body):
        if re.match(r"(public|private|using|friend|static|enum|struct|explicit|template)\b", statement):
            continue
        for declarator in split_top(statement, ","):
            left, equals, default = declarator.partition("=")
            braced = re.match(r"(.*\w)\s*({.*})$", left.strip())
            if not equals and braced:
                left, default = braced.groups()
            if re.search(r"\)\s*(const)?\s*$", re.sub(r"<.*>", "", left)):
                continue  # a function that is declared
            fields[re.search(r"(\w+)\s*$", left).group(1)] = default.strip() or REQUIRED
    return fields


def tables_of(page):
    """(struct, file, {option: default}, units) of each table of options of a page."""
    for name, file, table in re.findall(r"<!-- options: (\w+) in (\S+) -->\n((?:\|[^\n]*\n)+)", page):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        yield name, file, rows


def structs():
    """(name, file) of the option structs that the reference must have."""
    for path in sorted(LIBRARY.rglob("*.hpp")):
        file = str(path.relative_to(LIBRARY))
        if any(file == c or file.startswith(c + "/") for c in COVERED):
            for name in re.findall(r"^struct (\w+Options) {", path.read_text(), flags=re.M):
                yield name, file


class Reference(unittest.TestCase):
    def test_parser(self):
        header = """struct A { // no = 1;
          double lr = 0.1, b = 2; ///< x; y
          std::function<bool(const P&, int)> include = {};
          std::optional<std::int64_t>
              z = {};
          C c{};
          Size2d kernel;
          operator B() const { return {lr, b}; }
          double at(int t) const;
          Tensor operator()(const Tensor& x) const { return f(x, {1}); }
          std::vector<double> p = {0, 0.1};
        };"""
        self.assertEqual(fields_of(header, "A"), {"lr": "0.1", "b": "2", "include": "{}", "z": "{}", "c": "{}",
                                                  "kernel": REQUIRED, "p": "{0, 0.1}"})

    def test_tables_are_those_of_the_headers(self):
        for path in PAGES:
            for name, file, rows in tables_of(path.read_text()):
                with self.subTest(page=path.name, struct=name):
                    self.assertEqual(rows[0][:3], ["option", "default", "unit"])
                    fields = fields_of((LIBRARY / file).read_text(), name)
                    self.assertIsNotNone(fields, f"{file} has no struct {name}")
                    self.assertEqual({row[0].strip("`"): row[1].strip("`") for row in rows[2:]}, fields)
                    self.assertEqual([row[0].strip("`") for row in rows[2:]], list(fields), "order")
                    for row in rows[2:]:
                        self.assertEqual(len(row), len(rows[0]), row)
                        self.assertTrue(all(row), f"an empty cell: {row}")

    def test_every_option_struct_has_a_table(self):
        found = {(name, file) for path in PAGES for name, file, _ in tables_of(path.read_text())}
        wanted = set(structs())
        self.assertGreater(len(wanted), 50)
        self.assertEqual(sorted(wanted - found), [], "docs/reference has no table of these option structs")

    def test_pages_have_a_snippet_and_their_source(self):
        for path in PAGES:
            if path.name == "index.md":
                continue
            with self.subTest(page=path.name):
                text = path.read_text()
                self.assertIn("<!-- snippet -->", text)
                self.assertIn("\n## Throws\n", text)
                self.assertRegex(text, r"(?m)^Source: \[")

    def test_links_lead_to_files(self):
        for path in PAGES:
            for link in re.findall(r"\]\(([^)\s#:]+)(?:#[\w-]*)?\)", path.read_text()):
                self.assertTrue((path.parent / link).resolve().exists(), f"{path.name}: {link}")

    def test_index_has_every_page(self):
        linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / "docs/reference/index.md").read_text()))
        pages = {str(p.relative_to(ROOT / "docs/reference")) for p in PAGES} - {"index.md"}
        self.assertEqual(linked, pages)

    def test_every_cpp_block_has_a_mark(self):
        for path in PAGES:
            lines = path.read_text().splitlines()
            for i, line in enumerate(lines):
                if line == "```cpp":
                    self.assertRegex(lines[i - 1], MARK, f"{path.name}:{i + 1}")


if __name__ == "__main__":
    unittest.main()
