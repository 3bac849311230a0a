"""Checkpoints: written in the background, whole or not at all, restorable on any mesh and layout.

A thin layer over Orbax. On disk layers are stacked, whatever the layout in memory; the state of the
data is the step number, so nothing else is stored.
"""

from pathlib import Path
from typing import Any

from data.errors import UserError
from lm.params import map_dicts, stack_layers, unstack_layers
from lm.workdir import at, is_remote

Tree = Any


class Checkpoints:
    """The checkpoints of one run, in one folder, newest `keep` of them."""

    def __init__(self, folder: str | Path, keep: int = 2):
        import orbax.checkpoint as ocp  # slow to import, and not every command needs it

        self.folder = at(folder) if is_remote(folder) else Path(folder).absolute()
        self._args, self._reader = ocp.args, ocp.StandardCheckpointHandler
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Tree) -> None:
        """Starts to write a state; an error of the write before surfaces here, not later."""
        self._manager.check_for_errors()
        if step != self.latest():
            canonical = map_dicts(stack_layers, state)
            self._manager.save(step, args=self._args.StandardSave(canonical))

    def restore(self, canonical: Tree, scanned: bool) -> Tree:
        """The newest state, placed as `canonical` (ShapeDtypeStructs with shardings, stacked) says.

        Raises:
          UserError: the checkpoint is damaged, or is of another model.
        """
        step = self.latest()
        try:
            state = self._manager.restore(step, args=self._args.StandardRestore(canonical))
        except Exception as e:  # Orbax, TensorStore and JAX each raise their own kinds
            raise UserError(
                f"checkpoint {self.folder / str(step)} cannot be restored ({_first_line(e)}): it "
                "is damaged or of another model; remove that folder to resume from an earlier one"
            ) from e
        return state if scanned else map_dicts(unstack_layers, state)

    def read(self) -> tuple[int, Tree]:
        """The newest step and its state on one device, as nested dicts, layers stacked.

        Raises:
          UserError: there is none, or it is damaged.
        """
        import jax

        step = self.latest()
        if step is None:
            raise UserError(f"{self.folder} has no checkpoint yet: train the run first")
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        try:
            abstract = jax.tree.map(
                lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=place),
                self._reader().metadata(self.folder / str(step) / "default").tree,
            )
            args = self._args.StandardRestore(abstract)
            return step, self._manager.restore(step, args=args)
        except Exception as e:  # Orbax, TensorStore and JAX each raise their own kinds
            raise UserError(
                f"checkpoint {self.folder / str(step)} cannot be read ({_first_line(e)}): it is "
                "damaged; remove that folder to use an earlier one"
            ) from e

    def wait(self) -> None:
        """Waits for writes under way, and raises what went wrong with them."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()

    def close(self) -> None:
        self.wait()
        self._manager.close()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
