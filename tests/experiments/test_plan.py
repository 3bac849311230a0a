"""The plan's arithmetic: cells, trunks, the held-out run, epochs, prices."""

import math

import pytest

from data.errors import UserError
from experiments.plan import Data, check_plan, estimate, make_plan, run_id, rung_rows
from experiments.progress import Speed, makespan
from lm.chips import CHIPS
from lm.config import resolve
from tests.experiments.sweeps import DATA, grid


def test_cells_spend_their_budget_in_whole_steps():
    sweep = grid()
    rungs = [r for r in make_plan(sweep, DATA) if r.lr_factor == 1 and r.seed == 0]
    for rung in rungs:
        for t in rung.trials:
            assert t.steps * sweep.base.batch_size * sweep.base.seq_len == t.D
            assert pytest.approx(t.D * rung.flops_per_token, rel=1e-12) == t.C
            assert abs(t.C - t.budget) <= rung.flops_per_step / 2
    # Every cell within the bounds is there, each once.
    found = {(r.name, t.budget) for r in rungs for t in r.trials if not t.held_out}
    expected = {
        (r.name, budget)
        for r in rungs
        for budget in sweep.budgets
        if 1.0 <= budget / r.flops_per_token / r.N <= 400.0
        and round(budget / r.flops_per_step) >= 20
    }
    assert found == expected and len(found) >= 12


def test_trials_add_up_to_a_trunk_and_its_cooldowns():
    for rung in make_plan(grid(), DATA):
        trunk = rung.trials[-1].steps
        branches = sum(t.steps - t.decay_start for t in rung.trials[:-1])
        assert rung.steps_to_run == trunk + branches
        spent = sum(t.C_spent for t in rung.trials)
        assert spent == pytest.approx((trunk + branches) * rung.flops_per_step)
        for t in rung.trials:
            assert t.steps - t.decay_start == round(0.2 * t.steps)


def test_all_trials_of_a_rung_share_the_warmup_of_its_shortest():
    for rung in make_plan(grid(), DATA):
        if rung.lr_factor == 1 and rung.seed == 0:
            tokens = math.ceil(rung.N / rung.tokens_per_step)
            assert rung.config["optim"]["warmup"] == max(1, min(tokens, rung.trials[0].steps // 10))


def test_checks_train_the_ends_of_the_ladder_at_other_rates_and_seeds():
    rungs = {r.name: r for r in make_plan(grid(), DATA)}
    for model in ("32x2", "96x4"):
        base = rungs[model]
        for factor in (0.5, 2.0):
            check = rungs[f"{model} rate x{factor:g}"]
            assert check.config["learning_rate"] == base.config["learning_rate"] * factor
            assert check.config["optim"]["warmup"] == base.config["optim"]["warmup"]
            (trial,) = check.trials
            assert trial.steps in {t.steps for t in base.trials if not t.held_out}
        assert rungs[f"{model} seed 1"].config["seed"] == 1


def test_held_out_run_is_the_model_nearest_to_its_ratio():
    sweep = grid()
    rungs = make_plan(sweep, DATA)
    held = [(r, t) for r in rungs for t in r.trials if t.held_out]
    assert len(held) == 1
    rung, trial = held[0]
    assert pytest.approx(4 * 8e12, rel=0.01) == trial.C
    ratios = {r.name: 32e12 / r.flops_per_token / r.N for r in rungs}
    assert rung.name == min(ratios, key=lambda n: abs(math.log(ratios[n] / 20)))


def test_run_ids_name_what_decides_a_result():
    rungs = make_plan(grid(), DATA)
    ids = [t.run_id for r in rungs for t in r.trials]
    assert len(set(ids)) == len(ids)
    config = resolve(grid().base)
    same, other = resolve(grid().base), resolve(grid().base)
    same.unlock()
    same.data.cache, same.checkpoint_every, same.mesh = "elsewhere", 7, "data:2"
    other.unlock()
    other.optim.beta2 = 0.99
    assert run_id(same, DATA) == run_id(config, DATA)
    assert run_id(other, DATA) != run_id(config, DATA)
    assert run_id(config, DATA._replace(store="x")) != run_id(config, DATA)


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="epochs"):
        make_plan(grid(), Data(100_000, "", ""))
    sweep = grid()
    sweep.tokens_per_parameter = (1e6, 1e7)
    with pytest.raises(UserError, match="tokens per parameter"):
        make_plan(sweep, DATA)
    sweep = grid()
    sweep.ladder = ((64, 3), (64, 3))
    with pytest.raises(UserError, match="twice"):
        make_plan(sweep, DATA)
    sweep = grid()
    sweep.chip = "v9"
    with pytest.raises(UserError, match="v9"):
        estimate(make_plan(grid(), DATA), sweep, 1)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("device", "gpuu", 'did you mean "gpu"'),
        ("seeds", (), "seeds"),
        ("ladder", ((32, 2, 1),), "pairs of"),
        ("retries", -1, "retries=-1"),
        ("mfu", 0.0, "mfu=0.0"),
        ("chip", "v9", "chip='v9'"),
    ],
)
def test_what_no_text_could_mend_is_refused_before_any_is_read(field, value, says):
    check_plan(grid())
    sweep = grid()
    with sweep.ignore_type():
        sweep[field] = value
    with pytest.raises(UserError, match=says):
        check_plan(sweep)


def test_price_on_a_chip():
    sweep = grid()
    sweep.chip, sweep.mfu, sweep.price = "v5e", 0.5, 0.0
    rungs = make_plan(sweep, DATA)
    cost = estimate(rungs, sweep, 1)
    flops = sum(t.C_spent for r in rungs for t in r.trials)
    assert cost.hours == pytest.approx(flops / (0.5 * CHIPS["v5e"].flops) / 3600)
    assert cost.dollars == pytest.approx(cost.hours * CHIPS["v5e"].dollars_per_hour)


def test_table_of_rungs_has_a_row_each():
    rungs = make_plan(grid(), DATA)
    rows = rung_rows(rungs, DATA.tokens)
    assert len(rows) == len(rungs) + 1
    assert all(len(row) == len(rows[0]) for row in rows)


def test_makespan_gives_each_job_to_the_worker_that_is_free_first():
    assert makespan([0.0, 0.0], [5.0, 4.0, 3.0]) == 7.0
    assert makespan([2.0, 0.0], [5.0, 4.0]) == 6.0
    assert makespan([3.0], []) == 3.0


def test_speed_is_refitted_to_any_machine():
    """Seen on one rung of a machine that is 3 times slower, the rest is right within 1.5 times."""
    rungs = make_plan(grid(), DATA)
    truth = {r.name: 2e-5 + 6e-11 * r.flops_per_token for r in rungs}
    for first in rungs[:5]:
        speed = Speed()
        speed.observe(first, 10_000, 10_000 * truth[first.name])
        for rung in rungs:
            assert 1 / 1.5 < speed.seconds_per_token(rung) / truth[rung.name] < 1.5
    for rung in rungs[:5]:
        speed.observe(rung, 10_000, 10_000 * truth[rung.name])
    assert speed.a + speed.b * 1e6 == pytest.approx(2e-5 + 6e-11 * 1e6, rel=0.1)
