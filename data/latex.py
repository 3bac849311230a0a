"""Papers in LaTeX, as text with its formulas: commands that only set type or refer are dropped."""

import re
from collections.abc import Iterator
from pathlib import Path

from data.charset import decode
from data.documents import Document, Skip, Skipped
from data.streams import contents

COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*\n?")
# Environments whose content is no prose.
DROPPED = re.compile(
    r"\\begin\{(figure|table|tabular|tikzpicture|comment|thebibliography|lstlisting|picture|algorithm)"
    r"(\*?)\}.*?\\end\{\1\2\}",
    re.S,
)
LEVELS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4}
HEADING = re.compile(r"\\(part|chapter|section|subsection|subsubsection)\*?(?:\[[^\]]*\])?\{")
# Commands dropped with their arguments, and those of which the argument stays.
SILENT = re.compile(
    r"~?\\(?:cite[a-z]*|ref|eqref|cref|Cref|autoref|pageref|label|index|bibliography(?:style)?|input|include"
    r"|includegraphics|vspace|hspace|thispagestyle|pagestyle|footnotemark|thanks|usepackage|setcounter"
    r"|addtocounter|newcommand|renewcommand|def|let|PMlinkescapeword|pmcanonicalname|bibitem)\*?"
    r"(?:\[[^\]]*\]|\{[^{}]*\})+"
)
STYLED = re.compile(
    r"\\(?:emph|textbf|textit|texttt|textsc|textrm|textsf|text|underline|mbox|footnote|caption|url|bf|it)"
    r"\*?\{([^{}]*)\}"
)
LINKED = re.compile(r"\\(?:href|PMlinkname|PMlinktofile|hyperref\[[^\]]*\])\{[^{}]*\}\{([^{}]*)\}")
BARE = re.compile(
    r"\\(?:noindent|medskip|smallskip|bigskip|newpage|clearpage|centering|maketitle|tableofcontents"
    r"|small|large|Large|normalsize|protect|hfill|newline|linebreak|pagebreak|appendix|par)\b ?"
)
MATH = re.compile(
    r"\$\$.*?\$\$|(?<!\\)\$(?:[^$\\]|\\.)*\$|\\\[.*?\\\]|\\\(.*?\\\)"
    r"|\\begin\{(equation|align|gather|multline|eqnarray|displaymath|math)(\*?)\}.*?\\end\{\1\2\}",
    re.S,
)
ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "c": "\u0327"}
ACCENT = re.compile(r"\\(['`^\"~])\{?\\?([a-zA-Z])\}?|\\c\{([a-zA-Z])\}")
LETTERS = {r"\ss": "\u00df", r"\o": "\u00f8", r"\O": "\u00d8", r"\ae": "\u00e6", r"\l": "\u0142"}


def tex(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield a .tex file as a paper; one that has no prose (a style, macros) goes to `skip`.

    Files that it includes are not followed: they are read as files of their own.
    """
    data = contents(file, skip)
    if data is None:
        return
    source, charset = decode(data)
    title = argument(source, "title")
    text = to_text(source)
    if len(re.findall(r"\w{2,}", text)) < 20:
        skip(Skipped("no prose", str(file)))
        return
    if title and not text.startswith("# "):
        text = f"# {title}\n\n{text}"
    metadata = {"charset": charset} | ({"title": title} if title else {})
    yield Document(text, name, kind="papers", url=name, metadata=metadata)


def argument(source: str, command: str) -> str:
    """Return the plain argument of a command's first use, braces matched, or ''."""
    found = re.search(rf"\\{command}\*?(?:\[[^\]]*\])?\{{", source)
    if not found:
        return ""
    return " ".join(prose(source[found.end() : closing(source, found.end())]).split())


def closing(source: str, start: int) -> int:
    """Return where the brace opened before `start` closes, or the end of the source."""
    depth = 1
    for mark in re.finditer(r"\\.|[{}]", source[start : start + 100_000], re.S):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if not depth:
            return start + mark.start()
    return len(source)


def to_text(source: str) -> str:
    """Return the prose of a LaTeX source; formulas stay as they are written."""
    source = COMMENT.sub(r"\1", source.replace("\r\n", "\n"))
    begin = source.find(r"\begin{document}")
    if begin >= 0:
        source = source[begin + len(r"\begin{document}") :].split(r"\end{document}")[0]
    source = DROPPED.sub("", source)
    source = re.sub(r"\\begin\{abstract\}", "\n## Abstract\n\n", source)
    parts, place = [], 0
    for formula in MATH.finditer(source):  # of formulas nothing is changed but their labels
        parts += [
            prose(source[place : formula.start()]),
            re.sub(r"\\label\{[^}]*\}", "", formula[0]),
        ]
        place = formula.end()
    parts.append(prose(source[place:]))
    text = re.sub(r"[ \t]+\n", "\n", "".join(parts))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def prose(source: str) -> str:
    """Return LaTeX without formulas as plain text."""
    text = ACCENT.sub(_accent, SILENT.sub("", source))
    for _ in range(5):  # commands inside commands, from the inside out
        text = LINKED.sub(r"\1", STYLED.sub(r"\1", text))
    text = _headings(text)
    text = re.sub(r"\\item(?:\[([^\]]*)\])? ?", lambda m: f"- {m[1]} " if m[1] else "- ", text)
    text = re.sub(r"\\(?:begin|end)\{(\w+)\*?\}(?:\[([^\]]*)\])?", _environment, text)
    text = BARE.sub("", text)
    for command, letter in LETTERS.items():
        text = re.sub(re.escape(command) + r"(?:\{\}|\b ?)", letter, text)
    text = re.sub(r"\\\\(?:\[[^\]]*\])?", "\n", text)
    text = text.replace("~", " ").replace("``", "\u201c").replace("''", "\u201d")
    text = text.replace("---", "\u2014").replace("--", "\u2013")
    text = re.sub(r"\\([%&#_${}])", r"\1", re.sub(r"(?<!\\)[{}]", "", text))
    return re.sub(r"\\[ ,;!]", " ", text)


def _headings(text: str) -> str:
    parts, place = [], 0
    for found in HEADING.finditer(text):
        end = closing(text, found.end())
        title = " ".join(text[found.end() : end].split())
        parts += [text[place : found.start()], f"\n\n{'#' * LEVELS[found[1]]} {title}\n\n"]
        place = end + 1
    return "".join([*parts, text[place:]])


def _accent(match: re.Match[str]) -> str:
    import unicodedata

    mark, letter = (match[1], match[2]) if match[1] else ("c", match[3])
    return unicodedata.normalize("NFC", letter + ACCENTS[mark])


def _environment(match: re.Match[str]) -> str:
    """Name the beginning of a theorem or a proof; of other environments leave nothing."""
    names = {
        "theorem",
        "lemma",
        "proof",
        "definition",
        "corollary",
        "proposition",
        "example",
        "remark",
    }
    if match[0].startswith(r"\begin") and match[1] in names:
        return f"{match[1].capitalize()}{f' ({match[2]})' if match[2] else ''}. "
    return ""
