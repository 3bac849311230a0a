"""A trace of a few calls of the training step, for XProf or TensorBoard's profile page."""

from collections.abc import Callable
from pathlib import Path

import jax

SKIPPED = 2  # calls before the trace: the first compiles, the second fills the pipeline
TRACED = 3


class Profile:
    """Counts the calls of a run and traces some; asked between calls, as `interrupted` is.

    `jax.profiler` writes plugins/profile/TIME/HOST.xplane.pb under the folder, each process its
    own. A run that ends earlier closes its trace.
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None]):
        self.folder, self._say = str(folder), say
        self._calls, self._on = 0, False

    def __call__(self) -> None:
        """One more call of the program was made."""
        self._calls += 1
        if self._calls == SKIPPED:
            jax.profiler.start_trace(self.folder)
            self._on = True
        elif self._calls == SKIPPED + TRACED:
            self.close()

    def close(self) -> None:
        """Ends the trace, if one is being taken."""
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
            self._say(
                f"profile of {self._calls - SKIPPED} calls in {self.folder}: "
                f"tensorboard --logdir={self.folder} (with the package xprof)"
            )
