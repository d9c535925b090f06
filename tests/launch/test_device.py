"""JAX on this machine: whose threads LAPACK calls run on."""

from threadpoolctl import ThreadpoolController

from launch import device


def test_lapack_calls_keep_to_their_thread_and_numpys_do_not() -> None:
    """jaxlib calls the library that came with SciPy; NumPy's is another, or the same and left alone."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        device.one_thread_a_call()
        blas = [each for each in ThreadpoolController().info() if each["user_api"] == "blas"]
        threads = {"scipy.libs" in each["filepath"].split("/"): each["num_threads"] for each in blas}
    assert threads.get(True, 1) == 1
    assert threads.get(False, 2) == 2
