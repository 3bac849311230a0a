"""Source code of a folder tree, with its language and the licence that covers it."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from data.charset import decode
from data.documents import Document, Skip, Skipped
from data.streams import contents

MAX_FILE = 1 << 20  # bytes; larger ones are data or generated
LANGUAGES = {
    "Ada": ".adb .ads", "Assembly": ".s .asm", "C": ".c .h", "C#": ".cs",
    "C++": ".cc .cpp .cxx .hpp .hh", "CMake": ".cmake", "CSS": ".css .scss", "Clojure": ".clj",
    "Dart": ".dart", "Elixir": ".ex .exs", "Erlang": ".erl .hrl", "Fortran": ".f .f90 .f95",
    "Go": ".go", "HTML": ".html", "Haskell": ".hs", "Java": ".java", "JavaScript": ".js .mjs .jsx",
    "Julia": ".jl", "Kotlin": ".kt .kts", "Lua": ".lua", "Markdown": ".md", "OCaml": ".ml .mli",
    "Objective-C": ".m .mm", "PHP": ".php", "Perl": ".pl .pm", "Python": ".py .pyi", "R": ".r",
    "Ruby": ".rb", "Rust": ".rs", "SQL": ".sql", "Scala": ".scala", "Shell": ".sh .bash",
    "Swift": ".swift", "TCL": ".tcl", "TOML": ".toml", "TypeScript": ".ts .tsx",
    "YAML": ".yml .yaml", "reStructuredText": ".rst",
}  # fmt: skip
BY_SUFFIX = {suffix: name for name, suffixes in LANGUAGES.items() for suffix in suffixes.split()}
BY_NAME = {"makefile": "Makefile", "dockerfile": "Dockerfile", "cmakelists.txt": "CMake"}
LICENCE_FILE = re.compile(r"^(?:(?:un)?licen[cs]e|copying)(?:[-_.].*)?$", re.I)
TAG = re.compile(r"SPDX-License-Identifier:\s*([\w.+() -]+?)\s*(?:\*/|-->|$)", re.M)
# Words of a licence's text -> its SPDX name; the first whose words are all there.
WORDS = (
    ("AGPL-3.0", "gnu affero general public license"),
    ("LGPL", "gnu lesser general public license"),
    ("GPL-3.0", "gnu general public license|version 3"),
    ("GPL-2.0", "gnu general public license|version 2"),
    ("MPL-2.0", "mozilla public license|2.0"),
    ("EPL-2.0", "eclipse public license"),
    ("Apache-2.0", "apache license|version 2.0"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("CC-BY-SA-4.0", "attribution-sharealike 4.0"),
    ("CC-BY-4.0", "attribution 4.0 international"),
    ("Unlicense", "free and unencumbered software released into the public domain"),
    ("BSL-1.0", "boost software license"),
    ("MIT", "permission is hereby granted, free of charge|the software is provided \"as is\""),
    ("ISC", "permission to use, copy, modify, and"),
    ("Zlib", "this software is provided 'as-is'|altered source versions"),
    ("BSD-3-Clause", "redistribution and use in source and binary forms|neither the name"),
    ("BSD-3-Clause", "redistribution and use in source and binary forms|names of its contributors"),
    ("BSD-2-Clause", "redistribution and use in source and binary forms"),
)  # fmt: skip


def sources(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield a source file; other files, licences among them, go to `skip`.

    Its licence is what its SPDX tag says, else the nearest licence file's, upwards to the
    folder that is read; '' where there is none: nobody gave leave to use it.
    """
    language = BY_NAME.get(file.name.lower()) or BY_SUFFIX.get(file.suffix.lower())
    if LICENCE_FILE.match(file.name):
        skip(Skipped("licence file", str(file)))
        return
    if not language:
        skip(Skipped("unknown type", str(file)))
        return
    data = contents(file, skip, MAX_FILE)
    if data is None:
        return
    if b"\0" in data[:8192] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        skip(Skipped("binary", str(file)))
        return
    text, charset = decode(data)
    tag = TAG.search(text[:5000])
    root = file.parents[len(Path(name).parts) - 1]
    licence = tag[1] if tag else _of_folder(file.parent, root)
    metadata = {"language": language, "charset": charset}
    yield Document(text, name, licence=licence, kind="code", lang="", url=name, metadata=metadata)


@lru_cache(maxsize=4096)
def _of_folder(folder: Path, root: Path) -> str:
    """Return the licence of a folder: of the licence files in it, or of the folder above."""
    try:
        files = sorted(f for f in folder.iterdir() if LICENCE_FILE.match(f.name) and f.is_file())
    except OSError:
        files = []
    names = []
    for file in files:
        try:
            with open(file, "rb") as stream:
                names.append(identify(stream.read(1 << 16).decode("utf-8", "replace")))
        except OSError:
            continue
    if names:
        return " OR ".join(sorted(set(names)))
    return "" if folder == root or folder == folder.parent else _of_folder(folder.parent, root)


def identify(text: str) -> str:
    """Return the SPDX name of a licence's text, 'unknown' if it is none of the common ones."""
    if tag := TAG.search(text):
        return tag[1]
    plain = " ".join(text.lower().replace("\u201c", '"').replace("\u201d", '"').split())
    for name, words in WORDS:
        if all(word in plain for word in words.split("|")):
            return name
    return "unknown"
