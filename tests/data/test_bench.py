"""The feeds that the benchmark compares give what they are said to."""

import numpy as np
import pytest

from data import bench
from data.batch import Batch
from data.windows import segments_and_positions


@pytest.fixture
def store(tmp_path):
    return bench.made_up_store(tmp_path, 20_001)


def first_epoch(batch: Batch, windows: np.ndarray) -> bool:
    """Tell whether the rows are the store's windows, each once, in another order."""
    rows = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    order = [windows.tolist().index(row) for row in rows.tolist()]
    return sorted(order) == list(range(len(windows))) != order


@pytest.mark.parametrize("make", [bench.ours, bench.grain])
def test_an_epoch_is_every_window_once_in_a_shuffled_order(store, make):
    windows = np.stack([store.tokens[i * 100 : i * 100 + 101] for i in range(200)]).astype(np.int32)
    batch = make(store, 200, 100)()
    assert first_epoch(batch, windows)
    segments, positions = segments_and_positions(batch.inputs)
    np.testing.assert_array_equal(batch.segments, segments)
    np.testing.assert_array_equal(batch.positions, positions)


def test_the_flat_feed_gives_targets_one_on(store):
    inputs, targets = bench.flat(store, 8, 50)()
    assert inputs.shape == targets.shape == (8, 50)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


def test_the_table_has_a_row_for_each_feed_and_shape(capsys):
    bench.main(["--tokens=100000", "--rounds=1", "--seconds=0.01"])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == len(bench.SHAPES) * len(bench.FEEDS)
    assert all(float(row.split()[-2]) > 0 for row in rows)
    assert sum(float(row.split()[-1]) == 1 for row in rows if "flat" in row) == len(bench.SHAPES)
