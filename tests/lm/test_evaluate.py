"""Scores of tokens by every family against their definition, and the tasks and commands on them."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.base import base
from data.errors import UserError
from data.tokenizer import EOT, MASK, PAD, train
from lm import evaluate, generate
from lm import params as P
from lm.config import model_config, resolve, to_json
from lm.load import Run, load
from lm.objective import make_objective
from lm.score import Request, Score, score

BEFORE, TARGET, AFTER = [310, 311, 312, 313], [301, 302, 303], [320, 321]


@pytest.fixture(scope="module")
def tokenizer():
    return train(["the cat sat on the mat and the dog ran off with the hat " * 20], 320)


def run_of(tokenizer, objective, arch=""):
    c = base()
    c.objective, c.seq_len = objective, 32
    c.data.vocab_size = 320
    c.model.update(layers=1, width=16, heads=2, arch=arch)
    c = resolve(c)
    model = P.build(model_config(c))
    params = jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, P.init(model, 0))
    return Run(c, tokenizer, make_objective(c, tokenizer), model, params, 0)


def log_p(run, inputs, encoder=None):
    """Log-probabilities [L, V] of the whole model for one unpadded sequence."""

    def row(x):
        return np.array([x], np.int32)

    args = {}
    if encoder:
        args = {"enc_inputs": row(encoder), "enc_positions": row(range(len(encoder)))}
        args["enc_segments"] = row([1] * len(encoder))
    rows = row(inputs), row(range(len(inputs))), row([1] * len(inputs))
    model = jax.jit(lambda params, rows, args: run.model(params, *rows, **args))
    logits = model(run.params, rows, args)
    logits = np.asarray(logits[0], np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_a_decoder_reads_what_stands_before(tokenizer):
    run = run_of(tokenizer, "causal")
    target = [t % 320 for t in TARGET]
    before = [t % 320 for t in BEFORE]
    p = log_p(run, [EOT, *before, *target[:-1]])
    expected = sum(p[len(before) + i, t] for i, t in enumerate(target))
    found = score(run, [Request(before, target, AFTER[:1]), Request([], before)])
    assert found[0].nats == pytest.approx(expected, rel=1e-5) and found[0].tokens == 3
    likeliest = int(p[len(before)].argmax())
    assert score(run, [Request(before, [likeliest])])[0].greedy
    assert not score(run, [Request(before, [(likeliest + 1) % 320])])[0].greedy


def test_an_encoder_sees_both_sides(tokenizer):
    run = run_of(tokenizer, "masked")
    before, target, after = BEFORE[:2], TARGET, [305, 306]
    whole = [EOT, *before, *target, *after]
    pseudo = chain = 0.0
    for i in range(3):
        place = 3 + i
        alone = [*whole[:place], MASK, *whole[place + 1 :]]
        rest = [*whole[:place], *[MASK] * (3 - i), *after]
        pseudo += log_p(run, alone)[place, target[i]]
        chain += log_p(run, rest)[place, target[i]]
    request = Request(before, target, after)
    assert score(run, [request], pseudo=True)[0].nats == pytest.approx(pseudo, rel=1e-5)
    assert score(run, [request])[0].nats == pytest.approx(chain, rel=1e-5)


def test_an_encoder_decoder_is_asked_as_it_was_trained(tokenizer):
    before, after = BEFORE[:2], [305, 306]
    first = tokenizer.sentinels[0]
    span = run_of(tokenizer, "span")
    for rest in (after, []):
        p = log_p(span, [PAD, first, *TARGET[:-1]], [*before, first, *rest, EOT])
        expected = sum(p[1 + i, t] for i, t in enumerate(TARGET))
        found = score(span, [Request(before, TARGET, rest)])[0]
        assert found.nats == pytest.approx(expected, rel=1e-5)
    prefix = run_of(tokenizer, "prefix")
    p = log_p(prefix, [PAD, *TARGET[:-1]], before)
    expected = sum(p[i, t] for i, t in enumerate(TARGET))
    assert score(prefix, [Request(before, TARGET)])[0].nats == pytest.approx(expected, rel=1e-5)


def test_tasks_count_what_is_right(tokenizer, monkeypatch):
    run = Run({}, tokenizer, None, None, None, 0)
    answers = iter([])
    monkeypatch.setattr(
        evaluate, "score", lambda run, requests, pseudo=False: [next(answers) for _ in requests]
    )
    answers = iter([Score(-n, 1, False) for n in (1, 2, 5, 4, 2, 3)])
    items = [{"good": "a", "bad": "b"}] * 3
    found = evaluate.pairs(run, items)
    assert found.score == pytest.approx(2 / 3) and found.items == 3
    # -6 nats over " aaaaa" is 1 a byte, -3 over " b" is 1.5.
    answers = iter([Score(-n, 1, False) for n in (6, 3)])
    some = [{"query": "q", "choices": ["aaaaa", "b"], "gold": 0}]
    assert evaluate.choices(run, some)[:2] == ("accuracy, likelihood a byte", 1.0)
    answers = iter([Score(-1, 1, True), Score(-1, 1, False)])
    assert evaluate.cloze(run, [{"prefix": "a", "target": "b"}] * 2).score == 0.5


def test_the_tasks_that_come_with_the_code_are_whole():
    sizes = {name: len(evaluate.read_task(name)) for name in evaluate.TASKS}
    assert sizes == {"blimp": 402, "copa": 100, "openbook_qa": 200, "lambada": 200}
    sources = (evaluate.FOLDER / "SOURCES.md").read_text()
    assert all(f"`{name}.jsonl` | {count} |" in sources for name, count in sizes.items())


@pytest.mark.parametrize(
    ("module", "argv", "says"),
    [
        (evaluate, ["--workdir=x"], "nothing to score"),
        (evaluate, ["--workdir=x", "--tasks=blinp"], 'did you mean "blimp"'),
        (evaluate, ["--workdir=x", "--tasks=odd.jsonl"], "odd.jsonl: items of a task need"),
        (evaluate, ["--workdir=x", "--tasks=none.jsonl"], "none.jsonl: cannot be read"),
        (evaluate, ["--workdir=x", "--tasks=blimp"], "x/config.json is not there"),
        (generate, ["--workdir=x"], "nothing to go on from"),
        (generate, ["--workdir=x", "--file=none.txt"], "none.txt cannot be read"),
        (evaluate, ["--workdir=x", "--tasks=blimp", "--limit=-1"], "--limit=-1 must not be"),
        (evaluate, ["--workdir=bad", "--tasks=blimp"], "bad/config.json is not of a run"),
        (generate, ["--workdir=x", "--prompt=a", "--top-p=0"], "--top-p=0 must be above 0"),
        (generate, ["--workdir=x", "--prompt=a", "--top-p=2"], "--top-p=2 must be above 0"),
        (generate, ["--workdir=x", "--prompt=a", "--top-k=-1"], "--top-k=-1 must not be"),
        (generate, ["--workdir=x", "--prompt=a", "--temperature=-1"], "--temperature=-1 must be"),
        (generate, ["--workdir=x", "--prompt=a", "--temperature=nan"], "--temperature=nan must"),
        (generate, ["--workdir=x", "--prompt=a", "--seed=-1"], "--seed=-1 must be from 0"),
        (generate, ["--workdir=x", "--file=bytes.txt"], "bytes.txt cannot be read as text"),
    ],
)
def test_what_cannot_be_asked_is_refused(module, argv, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd.jsonl").write_text('{"good": "a"}\n')
    Path("bytes.txt").write_bytes(b"\xff\xfe\xfa\n")
    Path("bad").mkdir()
    Path("bad/config.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["command", *argv])
    with pytest.raises(UserError, match=says):
        module.main()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"good": "a"', "line 2 is not a JSON object"),
        (b"[1]", "line 2 is not a JSON object"),
        (b'{"good": 1, "bad": "b"}', "line 2: 'good' must be a text"),
        (b'{"good": "a", "bad": ""}', "line 2: 'bad' must be a text that is not empty"),
        (b'{"query": "", "choices": [], "gold": 0}', "line 2: 'choices' must be a list of texts"),
        (b'{"query": "", "choices": "ab", "gold": 0}', "line 2: 'choices' must be a list of texts"),
        (b'{"query": "", "choices": ["a"], "gold": 1}', "line 2: 'gold' must be the number"),
        (b'{"prefix": "a", "target": "b"}', "items of a task need the fields"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_wrong_item_is_named_by_its_line(line, says, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"good": "a", "bad": "b"}\n' + line + b"\n")
    with pytest.raises(UserError, match=says):
        evaluate.read_task(str(path))


def test_a_folder_without_checkpoints_is_named(tmp_path):
    (tmp_path / "config.json").write_text(to_json(resolve(base())))
    with pytest.raises(UserError, match="no checkpoints yet"):
        load(tmp_path)


def test_what_a_family_cannot_do_is_said(tokenizer):
    greedy = generate.Sampling()
    with pytest.raises(UserError, match="reads from the left only"):
        generate.complete(run_of(tokenizer, "causal"), ["a [MASK] b"], 4, greedy)
    with pytest.raises(UserError, match="an encoder cannot go on"):
        generate.complete(run_of(tokenizer, "masked"), ["a"], 4, greedy)
    with pytest.raises(UserError, match="has no .MASK."):
        generate.fill(run_of(tokenizer, "masked"), "a")
    with pytest.raises(UserError, match="must be from 1 to 31"):
        generate.complete(run_of(tokenizer, "causal"), ["a"], 32, greedy)


def test_commands_on_a_loaded_run(tokenizer, tmp_path, monkeypatch, capsys):
    text = tmp_path / "some.txt"
    text.write_text("the cat sat on the mat and the dog ran off. " * 30)
    decoder = run_of(tokenizer, "causal")
    monkeypatch.setattr(evaluate, "load", lambda _: decoder)
    monkeypatch.setattr(generate, "load", lambda _: decoder)
    argv = ["command", "--workdir=x", f"--text={text}", f"--json={tmp_path / 'e.json'}"]
    monkeypatch.setattr(sys, "argv", argv)
    evaluate.main()
    found = json.loads((tmp_path / "e.json").read_text())
    ids = [EOT, *tokenizer.encode(text.read_text()), EOT]
    assert found["tokens"] == len(ids) - 1
    bits = found["nats_per_token"] * found["tokens"] / text.stat().st_size / np.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits)
    argv = ["command", "--workdir=x", "--prompt=the cat", "--tokens=5", f"--json={tmp_path / 'g'}"]
    monkeypatch.setattr(sys, "argv", argv)
    generate.main()
    written = json.loads((tmp_path / "g").read_text())
    assert written["texts"][0].startswith("the cat") and len(written["ids"][0]) == written["tokens"]
    assert "tokens/s" in capsys.readouterr().out
