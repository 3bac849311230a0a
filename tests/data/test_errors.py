"""Errors that end a command: one line and exit code 2, a traceback only for a bug."""

import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import Parser, UserError, optional, suggest

ROOT = Path(__file__).parents[2]


def command(body: str, **options) -> subprocess.CompletedProcess:
    code = f"import errno\nfrom data.errors import *\ndef main():\n    {body}\nrun(main)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, **options
    )


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("raise UserError('bad\\nthing')", 2, "error: bad thing"),
        ("raise OSError(errno.ENOSPC, 'x', '/out/a')", 2, "error: no space left on the device"),
        ("raise PermissionError(errno.EACCES, 'x', '/out/a')", 2, "error: /out/a: permission"),
        ("raise OSError(errno.EROFS, 'x', '/out/a')", 2, "error: /out/a: read-only file system"),
        ("import no_such_package_here", 2, 'error: the package "no_such_package_here"'),
        ("optional('no_such', 'requirements-x.txt')", 2, "error: the optional package"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_an_expected_failure_is_one_line(body, code, line):
    done = command(body)
    assert done.returncode == code
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_success_and_exit_codes():
    assert command("return None").returncode == 0
    assert command("return 3").returncode == 3


@pytest.mark.parametrize("body", ["1 / 0", "import data.no_such_module", "open('/no/such/file')"])
def test_a_bug_keeps_its_traceback(body):
    done = command(body)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_closed_pipe_is_quiet():
    done = subprocess.run(
        f'{sys.executable} -c "from data.errors import run\n'
        "run(lambda: [print('x' * 1000) for _ in range(5000)] and 0)\" | head -1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_optional_names_the_requirements_file():
    assert optional("json", "requirements-x.txt").loads("1") == 1
    with pytest.raises(UserError, match="requirements-x.txt"):
        optional("no_such_package_here", "requirements-x.txt")


def test_suggest():
    assert suggest("learning_rat", ["seed", "learning_rate"]) == ' (did you mean "learning_rate"?)'
    assert suggest("zzz", ["seed"]) == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--worksdir=x"], r'no option --worksdir \(did you mean "--workdir"\?\); tool --help'),
        (["--workdir=x", "--qqq"], "no option --qqq; tool --help"),
        (["--work=x"], "no option --work "),  # whole names only
        (["--workdir=x", "make", "--chnk=3"], 'did you mean "--chunk"'),
        (["--workdir=x", "made"], "invalid choice: 'made' .*'make'"),
        (["make"], "required: --workdir"),
    ],
)
def test_options_that_a_command_does_not_have(words, line):
    parser = Parser(prog="tool")
    parser.add_argument("--workdir", required=True)
    parser.add_subparsers(dest="command").add_parser("make").add_argument("--chunk")
    with pytest.raises(UserError, match=line):
        parser.parse_args(words)


def test_options_that_it_has():
    parser = Parser(prog="tool")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--workdir")
    assert vars(parser.parse_args(["--workdir", "a b", "--", "--workdirs"])) == {
        "workdir": "a b",
        "words": ["--workdirs"],
    }
