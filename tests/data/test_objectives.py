"""Objectives: what each hides, that nothing is lost, and that (seed, example) decides it all."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from data import objectives, spans
from data.batch import Batches, eval_batches
from data.errors import UserError
from data.objectives import Vocabulary, Windows, make
from data.store import Store
from data.tokenizer import EOT, FIRST_SENTINEL, MASK, PAD, SEP, sentinel_count

SIZE = 1024
LETTERS = np.arange(SIZE) % 3 > 0  # in this made-up vocabulary two thirds of ids are letters


def vocabulary(size: int = SIZE) -> Vocabulary:
    sentinels = range(FIRST_SENTINEL, FIRST_SENTINEL + sentinel_count(size))
    letters = np.resize(LETTERS, size) & (np.arange(size) >= sentinels.stop)
    return Vocabulary(size, sentinels, letters, letters)


WORDS, MANY = vocabulary(), vocabulary(16_384)
# Every objective: name, on an encoder and decoder?, vocabulary, settings.
ALL = [
    ("causal", False, WORDS, {}),
    ("masked", False, WORDS, {}),
    ("masked", False, WORDS, {"masked": {"rate": 0.3, "whole_words": True}}),
    ("prefix", False, WORDS, {}),
    ("prefix", True, WORDS, {}),
    ("span", True, WORDS, {}),
    ("span", True, MANY, {"span": {"density": 0.5, "mean_length": 8.0}}),
    ("ul2", True, MANY, {}),
]
each = pytest.mark.parametrize(("name", "pair", "words", "settings"), ALL)


def windows(
    rows: int, length: int, seed: int = 0, words: Vocabulary = WORDS, ends: float = 0.01
) -> Windows:
    """Random ids of text, an end of text here and there."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(words.sentinels.stop, words.size, (rows, length)).astype(np.uint16)
    tokens[rng.random(tokens.shape) < ends] = EOT
    return Windows(tokens, None, np.arange(rows, dtype=np.int64), seed)


def documents_of(tokens: np.ndarray) -> list[list[int]]:
    """The documents of a window; each has the end-of-text that closes it."""
    ends = np.flatnonzero(tokens == EOT) + 1
    return [part.tolist() for part in np.split(tokens, ends) if len(part)]


def parts(batch, row: int, document: int, mode: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What is read and written of a document, numbered from 1."""
    read = batch.enc_inputs[row][batch.enc_segments[row] == document]
    return read[int(mode) :], batch.targets[row][batch.segments[row] == document]


def store(length: int, words: Vocabulary) -> Store:
    tokens = windows(1, length, words=words).tokens[0]
    return Store(Path("memory"), {}, tokens, np.flatnonzero(tokens == EOT))


def assert_same(a, b) -> None:
    for name, x, y in zip(a._fields, a, b, strict=True):
        np.testing.assert_equal(x, y, err_msg=name)


# For all of them.


@each
def test_shapes_are_static(name, pair, words, settings):
    objective = make(name, 64, words, settings, pair)
    for seed in range(3):
        batch = objective.transform(windows(7, objective.raw_length, seed, words))
        for field in ("inputs", "targets", "weights", "positions", "segments"):
            array = getattr(batch, field)
            assert array.shape == (7, objective.length), field
            assert array.dtype == (np.float32 if field == "weights" else np.int32), field
        for field in ("enc_inputs", "enc_positions", "enc_segments"):
            array = getattr(batch, field)
            assert array is None if not pair else array.shape == (7, 64), field
        assert objective.encoder_length == (64 if pair else 0)


@each
def test_an_example_hangs_on_seed_and_number_alone(name, pair, words, settings):
    objective = make(name, 64, words, settings, pair)
    some = windows(12, objective.raw_length, words=words)
    batch = objective.transform(some)
    for rows in (np.arange(12)[::-1], np.array([5]), np.array([3, 11, 0])):
        assert_same(objective.transform(some.rows(rows)), batch.each(lambda x, r=rows: x[r]))
    if name != "causal":
        for other in (some._replace(seed=1), some._replace(examples=some.examples + 100)):
            changed = objective.transform(other)
            assert any((x != y).any() for x, y in zip(batch, changed, strict=True) if x is not None)


@each
@pytest.mark.parametrize("hosts", [2, 4])
def test_any_number_of_hosts_makes_the_same_rows(name, pair, words, settings, hosts):
    objective = make(name, 32, words, settings, pair)
    data = store(3000, words)
    whole = Batches(data, 8, objective, seed=3)(7)
    rows = np.arange(8).reshape(hosts, -1)
    shares = [Batches(data, 8, objective, seed=3, rows=mine)(7) for mine in rows]
    for field, x, *parts in zip(whole._fields, whole, *shares, strict=True):
        if x is not None:
            np.testing.assert_array_equal(x, np.concatenate(parts), err_msg=field)


@each
def test_an_evaluation_is_the_same_for_every_run(name, pair, words, settings):
    objective = make(name, 32, words, settings, pair)
    data = store(1000, words)
    first, again = (list(eval_batches(data, 4, objective)) for _ in range(2))
    shares = [list(eval_batches(data, 4, objective, rows=r)) for r in np.arange(4).reshape(2, 2)]
    for i, batch in enumerate(first):
        assert_same(batch, again[i])
        np.testing.assert_array_equal(batch.inputs, np.concatenate([s[i].inputs for s in shares]))
    rows = np.concatenate([b.weights.any(1) for b in first])
    assert rows.sum() == (len(data) - objective.raw_length) // objective.stride + 1 + (
        name == "causal"
    )
    limited = sum(b.weights.any(1).sum() for b in eval_batches(data, 4, objective, 100))
    assert limited == -(-100 // objective.stride)


@each
def test_targets_expected_are_those_made(name, pair, words, settings):
    objective = make(name, 64, words, settings, pair)
    rows = windows(2000, objective.raw_length, words=words, ends=0.0)
    made = objective.transform(rows).weights.sum(1)
    slack = 0.02 * objective.targets if settings.get("masked") is None else 3.0
    assert made.max() <= (objective.scored or objective.length)
    assert made.mean() == pytest.approx(objective.targets, abs=max(slack, 1e-6))


@each
def test_weights_of_the_store_weigh_the_targets(name, pair, words, settings):
    objective = make(name, 64, words, settings, pair)
    some = windows(5, objective.raw_length, words=words)
    none = objective.transform(some._replace(weights=np.zeros(some.tokens.shape, np.uint8)))
    assert set(np.unique(none.targets[none.weights > 0])) <= {EOT, *words.sentinels}
    full = objective.transform(some._replace(weights=np.ones(some.tokens.shape, np.uint8)))
    assert_same(full, objective.transform(some))


def fastest(work, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


@each
def test_four_million_tokens_a_second(name, pair, words, settings):
    objective = make(name, 512, MANY, settings, pair)
    some = windows(256, objective.raw_length, words=MANY)
    seconds = fastest(lambda: objective.transform(some))
    assert some.tokens.size / seconds > 4e6


# Masked.


def masked_by(batch) -> np.ndarray:
    return batch.weights > 0


@pytest.mark.parametrize("rate", [0.15, 0.3])
def test_masking_has_its_rate_and_80_10_10(rate):
    some = windows(4000, 128)
    batch = make("masked", 128, WORDS, {"masked": {"rate": rate}}).transform(some)
    chosen = masked_by(batch)
    text = some.tokens >= WORDS.sentinels.stop
    counts, sizes = chosen.sum(1), text.sum(1)
    assert np.abs(counts - rate * sizes).max() < 1  # every row, not only on average
    assert (counts - rate * sizes).mean() == pytest.approx(0, abs=0.03)
    inputs, targets = batch.inputs[chosen], batch.targets[chosen]
    as_mask = inputs == MASK
    kept = inputs == targets
    observed = [as_mask.sum(), kept.sum(), (~as_mask & ~kept).sum()]
    same = 0.1 / (SIZE - WORDS.sentinels.stop)  # a random id may be the old one
    expected = np.array([0.8, 0.1 + same, 0.1 - same]) * len(inputs)
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    drawn = inputs[~as_mask & ~kept]
    per_id = np.bincount(drawn, minlength=SIZE)[WORDS.sentinels.stop :]
    assert (drawn >= WORDS.sentinels.stop).all()
    assert stats.chisquare(per_id).pvalue > 1e-3
    per_place = chosen.sum(0)
    assert stats.chisquare(per_place, per_place.mean()).statistic < 128 + 5 * 16 * (1 - rate)


@pytest.mark.parametrize("whole_words", [False, True])
def test_masking_leaves_what_it_should(whole_words):
    some = windows(500, 128)
    some.tokens[:, ::17] = SEP
    some.tokens[:, 5::31] = WORDS.sentinels.start
    settings = {"masked": {"whole_words": whole_words}}
    batch = make("masked", 128, WORDS, settings).transform(some)
    np.testing.assert_array_equal(batch.targets, some.tokens)
    chosen = masked_by(batch)
    assert (some.tokens[chosen] >= WORDS.sentinels.stop).all() and chosen.any()
    np.testing.assert_array_equal(batch.inputs[~chosen], some.tokens[~chosen])


def words_by_loop(tokens: np.ndarray) -> list[list[int]]:
    """The places of each word of a row."""
    found: list[list[int]] = []
    for i, token in enumerate(tokens):
        if found and WORDS.begins[token] and WORDS.ends[tokens[found[-1][-1]]]:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def test_whole_words_are_whole():
    some = windows(300, 128)
    batch = make("masked", 128, WORDS, {"masked": {"whole_words": True}}).transform(some)
    total = chosen_words = 0
    for row, chosen in zip(some.tokens, masked_by(batch), strict=True):
        for word in words_by_loop(row):
            assert len({bool(chosen[i]) for i in word}) == 1
            total += 1
            chosen_words += bool(chosen[word[0]])
        assert chosen.sum() <= 0.15 * 128 + 1
    # The word that does not fit any more is left out: a little less than the rate.
    assert 0.12 < chosen_words / total < 0.15


def test_letters_are_what_a_tokenizer_says():
    from data.tokenizer import train

    tokenizer = train(["the cat, the dog; the café naïve 中文 cat's " * 50], 320)
    words = Vocabulary.of(tokenizer)
    ids = np.array([tokenizer.encode("the cat,\nthe ðog naïve x-y")])
    starts = objectives.word_starts(ids, words)[0]
    pieces = [tokenizer.decode(ids[0, starts == s]) for s in np.unique(starts)]
    assert [p.strip(" ") for p in pieces if p.strip(" ")] == [
        "the", "cat", ",", "\n", "the", "ðog", "naïve", "x", "-", "y",
    ]  # fmt: skip
    assert not words.begins[: words.sentinels.stop].any()


# Span corruption.


def test_the_papers_sizes():
    c = spans.fit(512, 0.15, 3.0)
    assert (c.raw, c.noise, c.spans, c.inputs, c.targets) == (568, 85, 28, 512, 114)
    # Those of the public implementation's own tests.
    assert [spans.fit(64, 0.2, m)[0:1] + (spans.fit(64, 0.2, m).targets,) for m in (2, 1)] == [
        (70, 22),
        (63, 27),
    ]
    objective = make("span", 512, MANY, {}, True)
    assert (objective.raw_length, objective.stride) == (568, 568)
    assert (objective.encoder_length, objective.length) == (512, 114)


def joined(inputs: np.ndarray, targets: np.ndarray, sentinels: range) -> list[int]:
    """Puts each span of the targets where its sentinel stands in the inputs."""
    said: dict[int, list[int]] = {}
    for token in targets:
        if token in sentinels:
            said[token] = []
        else:
            said[next(reversed(said))].append(int(token))
    text: list[int] = []
    for token in inputs:
        text += said.pop(int(token)) if token in sentinels else [int(token)]
    assert not said, "each span has its place"
    return text


@given(
    st.integers(8, 200),
    st.floats(0.05, 0.6),
    st.floats(1, 20),
    st.sampled_from([0.0, 0.01, 0.2]),
    st.integers(0, 2**40),
)
def test_inputs_and_targets_together_are_the_text(seq_len, density, mean_length, ends, seed):
    """Of each document: what precedes its first sentinel or token in the inputs may be lost only
    where a span of the document before it went on into this one."""
    settings = {"span": {"density": density, "mean_length": mean_length}}
    try:
        objective = make("span", seq_len, MANY, settings, True)
    except UserError as e:
        assert "sentinels" in str(e)
        return
    some = windows(3, objective.raw_length, seed % 1000, MANY, ends)._replace(seed=seed)
    batch = objective.transform(some)
    c = spans.fit(seq_len, density, mean_length)
    assert (
        c.inputs <= seq_len and spans.corruption(c.raw + 1, density, mean_length).inputs > seq_len
    )
    for i in range(3):
        inside = np.arange(seq_len) < c.inputs
        assert ((batch.enc_segments[i] > 0) == inside).all()
        assert (batch.enc_inputs[i, ~inside] == PAD).all()
        assert batch.enc_inputs[i, c.inputs - 1] == EOT and batch.targets[i, -1] == EOT
        assert np.isin(batch.enc_inputs[i], MANY.sentinels).sum() == c.spans
        assert np.isin(batch.targets[i], MANY.sentinels).sum() == c.spans
        np.testing.assert_array_equal(batch.weights[i], batch.segments[i] > 0)
        found, lost = documents_of(some.tokens[i]), 0
        last = batch.enc_segments[i].max()
        closed = int(batch.segments[i, -1] > 0)  # not where the last span went too far
        for j, document in enumerate(found, 1):
            inputs, targets = parts(batch, i, j)
            if j == last:
                inputs, targets = inputs[:-1], targets[: len(targets) - closed]
            text = joined(inputs, targets, MANY.sentinels)
            assert text == document[len(document) - len(text) :]
            lost += len(document) - len(text)
            used = [t for t in inputs if t in MANY.sentinels]
            assert used == list(MANY.sentinels[: len(used)])
            assert used == [t for t in targets if t in MANY.sentinels]
        assert (batch.segments[i] == 0).sum() == lost + 1 - closed
        if len(found) == 1:
            assert not lost


@pytest.mark.parametrize(("name", "settings"), [("span", {}), ("prefix", {}), ("ul2", {})])
def test_a_decoder_reads_what_it_wrote_of_the_same_document(name, settings):
    objective = make(name, 64, WORDS, settings, True)
    batch = objective.transform(windows(50, objective.raw_length, ends=0.05))
    for i in range(50):
        for j in range(1, int(batch.segments[i].max()) + 1):
            mine = batch.segments[i] == j
            places = np.flatnonzero(mine)
            assert (np.diff(places) == 1).all()
            shifted = [PAD, *batch.targets[i, mine]][: len(places)]
            assert batch.inputs[i, mine].tolist() == shifted
            assert batch.positions[i, mine].tolist() == list(range(len(places)))
            read = batch.enc_segments[i] == j
            assert batch.enc_positions[i, read].tolist() == list(range(read.sum()))
            assert read.any() or not len(places), "a query that sees no key sees all of them"
        assert (batch.inputs[i, batch.segments[i] == 0] == PAD).all()


def test_little_is_lost_to_spans_that_run_into_another_document():
    """A boundary lies within a span in (85 - 28) of 567 places, and spans have three tokens: of
    documents of 100 tokens, one in ten loses a token or two of some twenty targets."""
    objective = make("span", 512, MANY, {}, True)
    batch = objective.transform(windows(400, objective.raw_length, words=MANY))
    assert 0 < (batch.weights == 0).mean() < 0.02


def test_span_lengths_are_spread_as_in_the_paper():
    """Cutting n into k pieces at random gives a first piece of length j with C(n-1-j, k-2) ways."""
    objective = make("span", 64, WORDS, {}, True)
    c = spans.fit(64, 0.15, 3.0)
    batch = objective.transform(windows(6000, c.raw, ends=0.0))
    lengths = np.array([np.flatnonzero(row == WORDS.sentinels[1])[0] - 1 for row in batch.targets])
    ways = np.array([stats.hypergeom(c.noise - 1, c.spans - 1, j).pmf(0) for j in range(c.noise)])
    expected = -np.diff(ways)[: c.noise - c.spans + 1] * len(lengths)
    observed = np.bincount(lengths, minlength=len(expected) + 1)[1:]
    enough = expected > 5
    chi = ((observed - expected) ** 2 / expected)[enough].sum()
    assert stats.chi2(enough.sum() - 1).sf(chi) > 1e-3


# Prefix LM.


def test_a_prefix_is_seen_and_not_predicted():
    objective = make("prefix", 64)
    some = windows(2000, 65)
    batch = objective.transform(some)
    causal = make("causal", 64).transform(some)
    assert_same(batch._replace(weights=None, prefix=None), causal._replace(weights=None))
    lengths = batch.prefix.sum(1)
    assert (batch.prefix == (np.arange(64) < lengths[:, None])).all()
    # The first token behind the prefix is the first predicted: target i is token i + 1.
    assert (batch.weights == (np.arange(64) >= lengths[:, None] - 1)).all()
    counts = np.bincount(lengths, minlength=65)
    assert counts[:16].sum() == counts[49:].sum() == 0
    assert stats.chisquare(counts[16:49]).pvalue > 1e-3


@given(st.integers(8, 100), st.floats(0.05, 0.95), st.floats(0.0, 1.0), st.integers(0, 1000))
def test_encoder_and_decoder_share_the_text(seq_len, longest, share, seed):
    shortest = max(longest * share, 0.01)
    objective = make(
        "prefix", seq_len, None, {"prefix": {"shortest": shortest, "longest": longest}}, True
    )
    some = windows(4, objective.raw_length, seed, ends=0.03)
    batch = objective.transform(some)
    for i in range(4):
        read = int((batch.enc_segments[i] > 0).sum())
        for j, document in enumerate(documents_of(some.tokens[i]), 1):
            inputs, targets = parts(batch, i, j)
            assert [*inputs, *targets] == document[: len(inputs) + len(targets)]
            assert abs(len(inputs) - len(document) * read / objective.raw_length) < 1
            assert len(targets) == (len(document) - len(inputs) if len(inputs) else 0)
        assert (batch.weights[i] == (batch.segments[i] > 0)).all()


def test_halves_need_no_padding():
    halves = {"prefix": {"shortest": 0.5, "longest": 0.5}}
    objective = make("prefix", 64, None, halves, True)
    assert (objective.raw_length, objective.length, objective.encoder_length) == (128, 64, 64)
    batch = objective.transform(windows(3, 128, ends=0.0))
    assert batch.segments.all() and batch.enc_segments.all()


# UL2.


# (mean span, share of noise, mode) of Tay et al. 2022, table 2.
UL2 = [
    (3, 0.15, "R"),
    (8, 0.15, "R"),
    (0, 0.25, "S"),
    (3, 0.5, "X"),
    (8, 0.5, "X"),
    (64, 0.15, "X"),
    (64, 0.5, "X"),
]


def test_ul2_mixes_its_denoisers():
    objective = make("ul2", 512, MANY, {}, True)
    some = windows(700, objective.raw_length, words=MANY, ends=0.0)
    batch = objective.transform(some)
    modes = dict(zip(MANY.sentinels[-3:], "RSX", strict=True))
    raw, seen = objective.raw_length, []
    kinds = [
        (mode, round(raw * d), round(round(raw * d) / mean) if mean else 0) for mean, d, mode in UL2
    ]
    for i in range(700):
        mode = modes[int(batch.enc_inputs[i, 0])]
        inputs, targets = parts(batch, i, 1, mode=True)
        if mode == "S":
            assert [*inputs, *targets] == some.tokens[i].tolist()
            seen.append(kinds.index((mode, len(targets), 0)))
        else:
            text = joined(inputs[:-1], targets[:-1], MANY.sentinels[:-3])
            assert text == some.tokens[i].tolist()
            used = sum(t in MANY.sentinels for t in targets)
            seen.append(kinds.index((mode, len(targets) - 1 - used, used)))
    assert stats.chisquare(np.bincount(seen, minlength=7)).pvalue > 1e-3
    longest = (batch.enc_segments.sum(1).max(), batch.segments.sum(1).max())
    assert longest == (512, objective.length)


def test_each_document_is_told_its_mode():
    objective = make("ul2", 512, MANY, {}, True)
    batch = objective.transform(windows(200, objective.raw_length, words=MANY))
    modes, cut_off = MANY.sentinels[-3:], 0
    for inputs, segments, positions in zip(
        batch.enc_inputs, batch.enc_segments, batch.enc_positions, strict=True
    ):
        told = np.isin(inputs, modes)
        assert len(set(inputs[told])) == 1
        np.testing.assert_array_equal(told, (positions == 0) & (segments > 0))
        cut_off += segments[-1] > 0 and inputs[-1] != EOT
    assert 0 < cut_off < 100  # only the densest denoiser has no room for a second mode


# Refusals.


@pytest.mark.parametrize(
    ("name", "pair", "seq_len", "settings", "says"),
    [
        ("spam", False, 64, {}, 'did you mean "span"'),
        ("span", False, 64, {}, "needs a model with encoder and decoder"),
        ("causal", True, 64, {}, "needs a model without a separate encoder"),
        ("span", True, 512, {}, "needs 28 sentinels.*vocab_size=8192"),
        ("span", True, 3, {}, "too short"),
        ("ul2", True, 128, {}, "sentinels, and a vocabulary of 1024 has 13"),
        ("ul2", True, 32, {"ul2": {"denoisers": "Q:3:0.2"}}, "mode 'Q' is not one of"),
        ("ul2", True, 32, {"ul2": {"denoisers": "R:3"}}, "'R:3' is not MODE:MEAN:SHARE"),
        ("ul2", True, 32, {"ul2": {"denoisers": "R:3:2"}}, "share of noise of 2 "),
        ("masked", False, 64, {"masked": {"rate": 0.0}}, "masked.rate=0 must be a share"),
        ("span", True, 64, {"span": {"density": 1.0}}, "share of noise of 1 "),
        ("prefix", False, 64, {"prefix": {"shortest": 0.8}}, "the longest no smaller"),
        ("prefix", True, 64, {"prefix": {"longest": 1.0}}, "must be shares of a window"),
    ],
)
def test_what_cannot_be_is_refused(name, pair, seq_len, settings, says):
    with pytest.raises(UserError, match=says):
        make(name, seq_len, WORDS, settings, pair)
