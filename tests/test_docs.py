"""Every command that a reader is shown is real: in the Markdown pages and the docstrings.

In Markdown a command stands in a block fenced as `sh`, in a docstring on a line of its own that
starts with `make` or `python -m`. After an HTML comment `<!-- runs -->` a block, of `sh` or of
`python`, is also executed.
"""

import ast
import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from data.errors import UserError
from lm.config import check_fields, read_config
from tests.sources import parsed

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.exists()]
ROOMS = ("configs", "data", "lm", "experiments")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).glob("*.py"))
MAKE_VARIABLES = ("FROM", "FULL", "OUT", "PIP_EXTRA_INDEX_URL", "PYTHON", "QUICK")
ELSEWHERE = (
    "cd",
    "export",
    "gcloud",
    "git",
    "pip",
    "source",
    "ssh",
    "tensorboard",
)  # programs that are not ours
BLOCK = re.compile(r"(<!-- runs -->\s*)?^```(\w*)\n(.*?)^```", re.M | re.S)
SHELL_LANGUAGES = ("bash", "console", "shell", "zsh")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    runs: bool
    tag: str
    text: str


def blocks() -> list[Block]:
    """The blocks of all pages."""
    found = [(page, *match) for page in PAGES for match in BLOCK.findall(page.read_text())]
    return [Block(page, bool(runs), tag, text) for page, runs, tag, text in found]


def commands(text: str) -> list[str]:
    """A block's commands: continued lines joined, comments and blank lines left out."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def docstring_commands(module: Path) -> list[str]:
    """The commands in a module's docstring, without the remarks in brackets beside them."""
    lines = (ast.get_docstring(parsed(module)) or "").splitlines()
    found = [re.split(r"\s\s+[(#]", line.strip())[0] for line in lines]
    return [c for c in found if re.match(r"(make|python -m) [a-z]", c)]


@functools.cache
def show_help(*command: str) -> str:
    """What a command prints for --help."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"python -m {' '.join(command)} --help failed: {done.stderr}"
    return done.stdout


def check(command: str) -> None:
    """Fails where a command could not be started as it is written."""
    words = shlex.split(command, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    program, *rest = words
    if program == "make":
        check_make(rest)
    elif Path(program).name == "python":
        assert rest[0] == "-m", f"{command}: written as python -m MODULE"
        check_module(rest[1], rest[2:])
    else:
        assert program in ELSEWHERE or (ROOT / program).is_file(), f"{command}: what is {program}?"


def check_make(words: list[str]) -> None:
    targets = [w for w in words if "=" not in w]
    variables = {w.partition("=")[0] for w in words if "=" in w}
    assert variables <= set(MAKE_VARIABLES), f"make reads no {variables - set(MAKE_VARIABLES)}"
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_module(module: str, words: list[str]) -> None:
    assert importlib.util.find_spec(module), f"there is no module {module}"
    if module == "pytest":
        for word in (w for w in words if w.startswith("tests/")):
            assert (ROOT / word.partition("::")[0]).exists(), f"there is no {word}"
    if module.split(".")[0] not in ROOMS:
        return
    text = show_help(module)
    listed = re.search(r"{([\w,-]+)}", text)
    if words and listed and words[0] in listed[1].split(","):
        text += show_help(module, words[0])
    for flag in (w.partition("=")[0] for w in words if w.startswith("--")):
        if not flag.startswith("--config."):
            assert re.search(rf"(?<!\S){flag}\b", text), f"python -m {module} has no {flag}"
    sources = [w.partition("=")[2] for w in words if w.startswith("--config=")]
    for source in sources:
        check_fields(read_config(str(ROOT / source)), [w for w in words if "--config." in w])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_of_a_page_are_real(page: Path) -> None:
    for block in blocks():
        if block.page == page and block.tag == "sh":
            for command in commands(block.text):
                check(command)


def test_commands_of_the_docstrings_are_real() -> None:
    shown = [(m, c) for m in MODULES for c in docstring_commands(m)]
    assert len(shown) > 5
    for module, command in shown:
        assert module.exists()
        check(command)


def test_commands_are_fenced_as_sh() -> None:
    """The other tests read `sh` blocks: a command under another tag would go unchecked."""
    for page, _, tag, text in blocks():
        assert tag not in SHELL_LANGUAGES, f"{page.name}: fence commands as sh, not {tag}"
        if tag in ("", "text"):
            assert not re.search(r"^\s*\$?\s*(make|python -m) ", text, re.M), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"https?:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


RUNNING = [block for block in blocks() if block.runs]
NAMES = [f"{block.page.name}-{i}" for i, block in enumerate(RUNNING)]


@pytest.mark.parametrize("block", RUNNING, ids=NAMES)
def test_quick_blocks_run(block: Block, tmp_path: Path) -> None:
    """The block runs in a folder that has the code and nothing else, so `out/` starts empty."""
    assert not re.search(r"^make", block.text, re.M), "make would set up its own environment"
    for room in ROOMS:
        (tmp_path / room).symlink_to(ROOT / room)
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    del env["XLA_FLAGS"]  # a reader has no simulated devices
    interpreter = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    done = subprocess.run(
        [*interpreter[block.tag], block.text],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    ("wrong", "noticed"),
    [
        ("make sweeep", "No rule to make target"),
        ("make sweep QICK=1", "make reads no {'QICK'}"),
        ("python -m lm.trian --config=configs/gpt.py:tiny", "no module lm.trian"),
        ("python -m lm.train --config=configs/gpt.py:tinny", "no preset 'tinny'"),
        ("python -m lm.train --config=configs/gtp.py:tiny", "no file .*configs/gtp.py"),
        ("python -m lm.train --config=configs/gpt.py:tiny --config.sed=3", 'mean "?seed'),
        ("python -m lm.train --config=configs/gpt.py:tiny --wrkdir=out/x", "has no --wrkdir"),
        ("python -m pytest tests/lm/test_los.py", "there is no tests/lm/test_los.py"),
        ("python lm/train.py", "written as python -m"),
        ("isoflop sweep", "what is isoflop"),
    ],
)
def test_a_wrong_command_is_noticed(wrong: str, noticed: str) -> None:
    with pytest.raises((AssertionError, UserError), match=noticed):
        check(wrong)
