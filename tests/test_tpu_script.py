"""scripts/tpu.sh against a stand-in for gcloud that records what it is asked."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.test_docs import check

ROOT = Path(__file__).parent.parent
# Answers describe from a file of states, one for each question; does ssh's command as it is told.
STUB = """#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(sys.argv[0])
with open(folder + "/asked.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
words = sys.argv[4:]
answers = json.load(open(folder + "/answers.json"))
left = answers.get(words[0], [])
answer = left.pop(0) if len(left) > 1 else (left[0] if left else [0, ""])
json.dump(answers, open(folder + "/answers.json", "w"))
print(answer[1])
sys.exit(answer[0])
"""


class Slice:
    """The script in a folder of its own, and what it asked of gcloud."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "gcloud").write_text(STUB)
        (folder / "gcloud").chmod(0o755)
        self.answer()

    def answer(self, **answers: list) -> None:
        """What gcloud answers to a word, in turn: [exit code, output]; the last for ever."""
        (self.folder / "answers.json").write_text(json.dumps(answers))

    def __call__(self, *words: str, **settings: str) -> subprocess.CompletedProcess:
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        env = {"PATH": path, "TPU": "mine", "ZONE": "z", "PAUSE": "0", "HOME": "/"} | settings
        script = ROOT / "scripts" / "tpu.sh"
        return subprocess.run([script, *words], env=env, capture_output=True, text=True, timeout=60)

    @property
    def asked(self) -> list[list[str]]:
        """The words given to gcloud, from 'create' and so on."""
        lines = (self.folder / "asked.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        assert all(words[:3] == ["compute", "tpus", "tpu-vm"] for words in found)
        return [words[3:] for words in found]


@pytest.fixture
def tpu(tmp_path):
    return Slice(tmp_path)


def remote(words: list[str]) -> str:
    """The command that an ssh was to start."""
    (command,) = [w.partition("=")[2] for w in words if w.startswith("--command=")]
    return command


def test_create_and_delete(tpu):
    assert tpu("create").returncode == tpu("create", SPOT="1", TYPE="v5p-32").returncode == 0
    assert tpu("delete").returncode == 0
    version = "--version=v2-alpha-tpuv5-lite"
    assert tpu.asked == [
        ["create", "mine", "--zone=z", "--accelerator-type=v5litepod-16", version],
        ["create", "mine", "--zone=z", "--accelerator-type=v5p-32", version, "--spot"],
        ["delete", "mine", "--zone=z", "--quiet"],
    ]


def test_install_brings_the_commit_and_its_packages(tpu):
    assert tpu("install").returncode == 0
    copy, ssh = tpu.asked
    assert copy[0] == "scp" and copy[2:] == ["mine:", "--zone=z", "--worker=all"]
    assert "--worker=all" in ssh and remote(ssh).endswith("make setup-tpu")
    check("make setup-tpu")
    check("make setup-tpu-cluster")


def test_run_starts_the_very_words_on_every_host(tpu):
    words = ["python", "-m", "lm.train", "--config=configs/gpt.py:tiny", "--workdir=a b/$c"]
    assert tpu("run", *words).returncode == 0
    (ssh,) = tpu.asked
    assert "--worker=all" in ssh
    command = remote(ssh)
    assert command.startswith("cd isoflop && ")
    said = shlex.split(command.partition("&& ")[2])
    assert said[1:] == words and said[0].startswith("PATH=.venv/bin:")


def test_run_starts_what_runs_here(tpu, tmp_path):
    """What ssh is told, done by a shell in a folder that has the code."""
    tpu("run", "python", "-m", "lm.goodput", "--help")
    (tmp_path / "isoflop").mkdir()
    for name in ("lm", "data", ".venv"):
        (tmp_path / "isoflop" / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["bash", "-c", remote(tpu.asked[0])], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "goodput" in done.stdout, done.stderr


def test_a_preempted_slice_is_made_again_until_the_command_is_done(tpu):
    tpu.answer(
        describe=[[0, "READY"], [0, "PREEMPTED"], [0, "PREEMPTED"], [0, "READY"]],
        ssh=[[255, ""], [0, ""], [0, ""]],  # the run dies; installing; the run again
    )
    done = tpu("keep", "python", "-m", "lm.train", SPOT="1")
    assert done.returncode == 0, done.stderr
    assert "preempted; making it again" in done.stderr
    verbs = [words[0] for words in tpu.asked]
    assert verbs == [
        "describe", "ssh", "describe", "describe", "delete", "create", "scp", "ssh", "ssh",
    ]  # fmt: skip
    assert "--spot" in tpu.asked[5]
    assert remote(tpu.asked[1]) == remote(tpu.asked[-1])


@pytest.mark.parametrize(("code", "says"), [(1, "still there"), (2, "")])
def test_a_command_that_fails_by_itself_is_not_repeated(tpu, code, says):
    tpu.answer(describe=[[0, "READY"]], ssh=[[code, ""]])
    done = tpu("keep", "python", "-m", "lm.train")
    assert done.returncode == 2 and says in done.stderr
    assert [words[0] for words in tpu.asked].count("ssh") == 1


def test_a_sweep_is_a_command_of_this_project_on_the_first_host(tpu):
    tpu.answer(describe=[[0, "10.0.0.1"], [0, "4"]])
    words = ["--config=configs/sweep.py:gpu", "--workdir=/mnt/shared/sweep"]
    assert tpu("sweep", *words).returncode == 0
    _, _, start, sweep = tpu.asked
    assert "--worker=all" in start and "ray start --head" in remote(start)
    assert "ray start --address=10.0.0.1:6379" in remote(start)
    keys = [
        re.search(r"RAY_AUTH_TOKEN=([0-9a-f]{64}) ", remote(words))[1] for words in (start, sweep)
    ]
    assert "--worker=0" in sweep and keys[0] == keys[1]
    command = re.search(r"python -m .*", remote(sweep))[0].strip()
    check(command)
    assert "--config.hosts=4" in command and command.endswith(" ".join(words))


@pytest.mark.parametrize(
    ("words", "settings", "says"),
    [
        (["create"], {"TPU": ""}, "TPU is not set"),
        (["create"], {"ZONE": ""}, "ZONE is not set"),
        (["run"], {}, "give a command"),
        (["stop"], {}, "there is no 'stop'"),
    ],
)
def test_mistakes_are_one_line(tpu, words, settings, says):
    done = tpu(*words, **settings)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
