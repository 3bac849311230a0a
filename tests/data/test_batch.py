"""batch(step): what it holds, that it depends on nothing but its arguments, and its ends."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batch import Batch, Batches, eval_batches, prefetch
from data.errors import UserError
from data.objectives import causal, make
from data.store import Store
from data.tokenizer import EOT, PAD

RANDOM = np.random.default_rng(0)


def store(tokens, weights=None) -> Store:
    """A store in memory; what a batch needs of one on disk."""
    tokens = np.asarray(tokens, np.uint16)
    return Store(Path("memory"), {}, tokens, np.flatnonzero(tokens[:-1] == EOT), weights)


def counted(documents: int = 40) -> Store:
    """A store whose tokens, end-of-text apart, are all different."""
    lengths = RANDOM.integers(1, 60, documents)
    fresh = itertools.count(300)
    return store([t for n in lengths for t in [EOT, *itertools.islice(fresh, int(n))]] + [EOT])


COUNTED = counted()


def plain_rows(tokens: list[int]) -> tuple[list[int], list[int]]:
    """Segments and positions of a row, by a loop."""
    segments, positions, segment, position = [], [], 0, 0
    for i, token in enumerate(tokens):
        if i == 0 or token == EOT:
            segment, position = segment + 1, 0
        segments.append(segment)
        positions.append(position)
        position += 1
    return segments, positions


def assert_equal(first: Batch, second: Batch) -> None:
    for name, a, b in zip(Batch._fields, first, second, strict=True):
        if a is None or b is None:
            assert a is b, name
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_what_a_batch_holds():
    batch = Batches(COUNTED, 4, causal(16), seed=0)(5)
    for name in ("inputs", "targets", "positions", "segments"):
        array = getattr(batch, name)
        assert array.shape == (4, 16) and array.dtype == np.int32, name
    assert batch.weights.dtype == np.float32 and (batch.weights == 1).all()
    stream = COUNTED.tokens.tolist()
    for row in range(4):
        window = [*batch.inputs[row], batch.targets[row, -1]]
        starts = [i for i in range(0, len(stream), 16) if stream[i : i + 17] == window]
        assert len(starts) == 1, "a row is one window, and windows start at multiples of L"
        assert batch.targets[row, :-1].tolist() == batch.inputs[row, 1:].tolist()
        segments, positions = plain_rows(batch.inputs[row].tolist())
        assert batch.segments[row].tolist() == segments
        assert batch.positions[row].tolist() == positions


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**32))
def test_every_token_is_predicted_exactly_once_an_epoch(batch_size, seq_len, seed):
    batches = Batches(COUNTED, batch_size, causal(seq_len), seed)
    steps = -(-2 * batches.windows // batch_size)
    inputs, targets = (x.reshape(-1, seq_len) for x in batches.stack(0, steps)[:2])
    expected = COUNTED.tokens[1 : batches.windows * seq_len + 1]
    assert len(expected) == batches.tokens_per_epoch > len(COUNTED) - 1 - seq_len
    for epoch in range(2):
        part = slice(epoch * batches.windows, (epoch + 1) * batches.windows)
        assert sorted(targets[part].ravel()) == sorted(expected)
        pairs = set(zip(inputs[part].ravel().tolist(), targets[part].ravel().tolist(), strict=True))
        stream = COUNTED.tokens[: batches.windows * seq_len + 1].tolist()
        assert pairs == set(itertools.pairwise(stream))


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_hosts_share_a_step_between_them(hosts):
    one = Batches(COUNTED, 8, causal(16), seed=3)
    rows = np.split(np.arange(8), hosts)
    parts = [Batches(COUNTED, 8, causal(16), seed=3, rows=mine) for mine in rows]
    for step in (0, 7, 100):
        shares = [part(step) for part in parts]
        joined = Batch(
            *(None if x[0] is None else np.concatenate(x) for x in zip(*shares, strict=True))
        )
        assert_equal(joined, one(step))
        assert all(len(share.inputs) == 8 // hosts for share in shares)


def test_a_batch_hangs_on_its_step_alone():
    batches, again = (
        Batches(COUNTED, 4, causal(16), seed=1),
        Batches(COUNTED, 4, causal(16), seed=1),
    )
    forward = [batches(step) for step in range(40)]
    for step in reversed(range(40)):
        assert_equal(forward[step], again(step))


def test_a_stack_is_its_batches():
    batches = Batches(COUNTED, 4, causal(16), seed=1)
    stacked = batches.stack(9, 13)
    for i in range(13):
        assert_equal(stacked.each(lambda x, i=i: x[i]), batches(9 + i))


def test_seed_and_epoch_change_the_order():
    orders = []
    for seed in range(3):
        batches = Batches(COUNTED, 1, causal(16), seed)
        for epoch in range(3):
            first = epoch * batches.windows
            orders.append(tuple(batches(first + i).inputs[0, 0] for i in range(batches.windows)))
    assert len(set(orders)) == 9


def test_weights_of_the_store_weigh_its_targets():
    weights = RANDOM.integers(0, 2, len(COUNTED)).astype(np.uint8)
    weighed = store(COUNTED.tokens, weights)
    batch = Batches(weighed, 4, causal(16), seed=0)(2)
    of_token = {int(t): int(w) for t, w in zip(weighed.tokens, weights, strict=True) if t != EOT}
    checked = 0
    for target, weight in zip(batch.targets.ravel(), batch.weights.ravel(), strict=True):
        if target != EOT:
            assert weight == of_token[int(target)]
            checked += 1
    assert checked > 40
    assert_equal(
        batch._replace(weights=None), Batches(COUNTED, 4, causal(16), 0)(2)._replace(weights=None)
    )


def test_more_than_the_epochs_allowed_is_refused():
    batches = Batches(COUNTED, 4, causal(16), seed=0, max_epochs=2)
    last = 2 * batches.windows // 4
    assert batches.check_budget(last) is None
    batches(last - 1)
    with pytest.raises(
        UserError, match=r"budget of .* epochs of the [\d,]+ unique tokens"
    ) as caught:
        batches(last)
    assert f"{batches.tokens_per_epoch:,}" in str(caught.value)
    assert "max_epochs=2" in str(caught.value)


def test_what_does_not_fit_is_refused():
    Batches(store([EOT] * 17), 1, causal(16), seed=0)(0)
    with pytest.raises(UserError, match="too few for a window of 16"):
        Batches(store([EOT] * 16), 1, causal(16), seed=0)
    with pytest.raises(UserError, match='did you mean "causal"'):
        make("casual", 16)


@given(st.integers(1, 5), st.integers(1, 70), st.integers(1, 200))
def test_evaluation_predicts_every_token_once(batch_size, seq_len, length):
    some = store(COUNTED.tokens[:length])
    targets, inputs = [], []
    for batch in eval_batches(some, batch_size, causal(seq_len)):
        assert batch.inputs.shape == (batch_size, seq_len)
        counted = batch.weights > 0
        targets += batch.targets[counted].tolist()
        inputs += batch.inputs[counted].tolist()
        assert (batch.targets[~counted] == PAD).all()
        assert (batch.segments[batch.inputs == PAD] == 0).all()
    assert targets == some.tokens[1:].tolist()
    assert inputs == some.tokens[:-1].tolist()


def test_evaluation_keeps_the_stores_weights():
    weights = RANDOM.integers(0, 2, len(COUNTED)).astype(np.uint8)
    total = sum(
        b.weights.sum() for b in eval_batches(store(COUNTED.tokens, weights), 4, causal(16))
    )
    assert total == weights[1:].sum()


@pytest.mark.parametrize("limit", [1, 100, 333, 10**9])
def test_a_limited_evaluation_is_spread_over_the_store(limit):
    windows = -(-(len(COUNTED) - 1) // 16)
    rows = np.concatenate([b.inputs for b in eval_batches(COUNTED, 4, causal(16), limit)])
    rows = rows[(rows != PAD).any(axis=1)]
    assert len(rows) == min(windows, -(-limit // 16))
    stream = COUNTED.tokens.tolist()
    last = [row[row != PAD].tolist() for row in rows][-1]
    place = next(i for i in range(0, len(stream), 16) if stream[i : i + len(last)] == last)
    assert place >= (windows - 1 - windows // len(rows)) * 16


def test_hosts_share_an_evaluation():
    whole = list(eval_batches(COUNTED, 4, causal(16), 500))
    rows = np.split(np.arange(4), 2)
    shares = [list(eval_batches(COUNTED, 4, causal(16), 500, mine)) for mine in rows]
    for one, parts in zip(whole, zip(*shares, strict=True), strict=True):
        np.testing.assert_array_equal(one.inputs, np.concatenate([part.inputs for part in parts]))
        np.testing.assert_array_equal(one.weights, np.concatenate([part.weights for part in parts]))


def test_reading_ahead_changes_nothing():
    batches = Batches(COUNTED, 4, causal(16), seed=0)
    for start, stop in ((0, 7), (3, 4), (5, 5)):
        ahead = list(prefetch(batches, start, stop))
        assert len(ahead) == stop - start
        for step, batch in zip(range(start, stop), ahead, strict=True):
            assert_equal(batch, batches(step))


def test_the_last_stack_is_filled_up():
    batches = Batches(COUNTED, 4, causal(16), seed=0)
    first, second = prefetch(batches, 2, 9, stack=4)
    assert_equal(first, batches.stack(2, 4))
    assert second.inputs.shape == (4, 4, 16)
    for i, step in enumerate((6, 7, 8, 8)):
        assert_equal(second.each(lambda x, i=i: x[i]), batches(step))


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_an_error_while_reading_ahead_is_raised():
    batches = Batches(COUNTED, 4, causal(16), seed=0, max_epochs=1)
    feed = prefetch(batches, 0, 10_000)
    with pytest.raises(UserError, match="max_epochs"):
        for _ in feed:
            pass
    assert threads() == 0


def test_closing_early_ends_the_thread():
    feed = prefetch(Batches(COUNTED, 4, causal(16), seed=0), 0, 10**9)
    next(feed)
    assert threads() == 1
    feed.close()
    assert threads() == 0


def test_it_reads_no_further_than_its_depth():
    batches = Batches(COUNTED, 4, causal(16), seed=0)
    made = []
    call = batches.stack
    batches.stack = lambda step, count: made.append(step) or call(step, count)
    feed = prefetch(batches, 0, 1000, depth=3)
    next(feed)
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 5  # one taken, three waiting, one in hand
    feed.close()
