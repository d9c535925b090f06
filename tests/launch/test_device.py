"""JAX on this machine: whose threads LAPACK calls run on."""

from threadpoolctl import ThreadpoolController

from launch import device


def test_lapack_calls_keep_to_their_thread_and_numpys_do_not() -> None:
    """jaxlib calls the library that came with SciPy; NumPy's is another, or the same and left alone."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        device.one_thread_a_call()
        blas = [each for each in ThreadpoolController().info() if each["user_api"] == "blas"]
        threads = {place: each["num_threads"] for each in blas for place in each["filepath"].split("/")}
    assert threads.get("scipy.libs", 1) == 1
    assert threads.get("numpy.libs", 2) == 2
