"""What a layer's backward pass keeps from its forward pass, and what it computes again.

none       everything is kept
minimal    results of the matrix products and of attention are kept, the rest is cheap to repeat
attention  attention's result alone is kept: the costliest to repeat for its size
offload    attention's result is kept in the host's memory
full       nothing but the layer's input is kept
"""

from collections.abc import Callable

import jax

from lm.kernels import SAVED


def policy(name: str) -> Callable | None:
    """The `jax.checkpoint` policy of a name of model.remat other than 'none'."""
    policies = jax.checkpoint_policies
    attention = policies.save_only_these_names(SAVED)
    if name == "minimal":
        return policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable, attention
        )
    if name == "offload":
        return policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[SAVED],
            offload_src="device",
            offload_dst="pinned_host",
        )
    return attention if name == "attention" else None
