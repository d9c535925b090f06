"""What JAX runs on."""

import jax

from gpsense.errors import BadInput


def start_devices() -> None:
    """Start the devices; BadInput where the platform that JAX is told to use is not there."""
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:150] or "no such device"
        problem = f"{jax.config.jax_platforms} cannot be used ({said})"  # pyright: ignore[reportAttributeAccessIssue]
        raise BadInput("JAX_PLATFORMS", problem, "unset it or use cpu") from None
