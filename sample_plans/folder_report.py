"""The functions of folder_report.yaml. They only use what comes with Python."""

import ast
import csv
import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path

KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".md": "markdown",
    ".markdown": "markdown",
    ".py": "python",
    ".txt": "text",
    ".log": "text",
    ".rst": "text",
}
LEFT_OUT = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", "venv", ".mypy_cache", ".ruff_cache"}
BATCH_FILES = 25
READ_AT_MOST = 5_000_000
"""Bytes of one file that are looked at."""
WORD = re.compile(r"[^\W\d_]{4,30}")


def scan(folder, most=2000, leave_out=None):
    """Return the files below a folder in batches: `{"batches": [[path, ...], ...], "count", "left_out"}`."""
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    found, left_out = [], 0
    for place, folders, names in os.walk(root, onerror=lambda error: print(f"not looked into: {error}")):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        for name in sorted(names):
            path = Path(place, name)
            # Only plain files: a pipe or a device would never end.
            if path.is_symlink() or not path.is_file() or str(path) == leave_out:
                continue
            if len(found) < most:
                found.append(str(path.relative_to(root)).encode("utf-8", "replace").decode())
            else:
                left_out += 1
    print(f"{len(found)} files, {left_out} left out")
    batches = [found[start : start + BATCH_FILES] for start in range(0, len(found), BATCH_FILES)]
    return {"batches": batches, "count": len(found), "left_out": left_out}


def look(files, folder, ctx=None):
    """Return what is in some files: `{"files": [row, ...], "top_words": [[word, count], ...]}`."""
    words = Counter()
    rows = []
    for number, name in enumerate(files, 1):
        rows.append(look_at(Path(folder), name, words))
        if ctx is not None:
            ctx.progress(number, len(files))
    return {"files": rows, "top_words": [list(pair) for pair in words.most_common(200)]}


def look_at(folder, name, words):
    """Return a row about one file and count its words; what is wrong with it is told, not raised."""
    path = folder / name
    kind = KINDS.get(path.suffix.lower(), "other")
    row = {"file": name, "kind": kind, "bytes": 0, "lines": 0, "words": 0, "columns": 0, "note": "", "problem": ""}
    try:
        row["bytes"] = path.stat().st_size
        with path.open("rb") as file:
            data = file.read(READ_AT_MOST)
    except OSError as error:
        row["problem"] = error.strerror or type(error).__name__
        return row
    if b"\0" in data[:8000]:
        row["kind"] = "binary"
        return row
    text = data.decode("utf-8", "replace")
    row["lines"] = len(text.splitlines())
    found = WORD.findall(text.lower())
    row["words"] = len(text.split())
    if kind != "other":
        words.update(found)
    if row["bytes"] > READ_AT_MOST:
        row["note"] = f"only the first {READ_AT_MOST} bytes were looked at"
        return row
    try:
        describe(kind, text, row)
    except (ValueError, SyntaxError, csv.Error, RecursionError, MemoryError) as error:
        row["problem"] = f"{type(error).__name__}: {str(error)[:100]}"
    return row


def describe(kind, text, row):
    """Add what only a parser of that kind of file can tell."""
    if kind == "csv":
        lines = text.splitlines()
        dialect = "excel-tab" if lines and lines[0].count("\t") > lines[0].count(",") else "excel"
        rows = list(csv.reader(lines, dialect))
        row["columns"] = len(rows[0]) if rows else 0
        row["note"] = ", ".join(rows[0])[:120] if rows else ""
    elif kind == "json":
        value = json.loads(text)
        row["note"] = f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list) else "one value"
    elif kind == "python":
        body = ast.parse(text).body
        functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in body)
        classes = sum(isinstance(node, ast.ClassDef) for node in body)
        row["note"] = f"{functions} functions, {classes} classes"
    elif kind == "markdown":
        headings = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
        row["note"] = headings[0][:120] if headings else ""


def write(folder, path, facts, left_out=0, summary=None):
    """Write the report, whole or not at all, and return `{"path", "lines"}`."""
    lines = [f"# {Path(folder).resolve().name or folder}", ""]
    if summary:
        lines += [str(summary).strip(), ""]
    lines += [
        f"{facts['count']} files, {size(facts['bytes'])}." + (f" {left_out} more were left out." * bool(left_out))
    ]
    lines += section("Kinds", ("kind", "files", "size", "lines", "words"), kind_rows(facts["kinds"]))
    largest = [(row["file"], row["kind"], size(row["bytes"]), row["note"]) for row in facts["largest"]]
    lines += section("Largest files", ("file", "kind", "size", "what"), largest)
    tables = [(row["file"], row["columns"], row["lines"], row["note"]) for row in facts["tables"]]
    lines += section("Tables", ("file", "columns", "lines", "header"), tables)
    lines += section("Words", ("word", "times"), facts["top_words"])
    lines += section("Problems", ("file", "problem"), [(row["file"], row["problem"]) for row in facts["problems"]])
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=".report-", dir=target.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    Path(name).replace(target)
    print(f"wrote {target}")
    return {"path": str(target), "lines": len(lines)}


def kind_rows(kinds):
    """Return a row for each kind of file, the largest first."""
    ordered = sorted(kinds.items(), key=lambda pair: pair[1]["bytes"], reverse=True)
    return [(name, kind["files"], size(kind["bytes"]), kind["lines"], kind["words"]) for name, kind in ordered]


def section(title, head, rows):
    """Return a Markdown table under a heading, or nothing where there are no rows."""
    if not rows:
        return []
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    body = ["| " + " | ".join(row) + " |" for row in cells]
    return ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *body]


def size(count):
    """Return a number of bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""
