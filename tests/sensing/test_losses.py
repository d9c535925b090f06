"""Every form of the loss is the same function, with the gradient it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.sensing.losses import Empirical, Population, gram_objective, population_loss, recentred, sensing_loss
from gpsense.sensing.measurements import Dense, Entries, gaussian_measurements, rank_one_measurements
from gpsense.sensing.symmetric import svec
from tests import reference

DIM, WIDTH, N = 4, 3, 9


@pytest.fixture(params=[gaussian_measurements, rank_one_measurements])
def data(request, key):
    rng = np.random.default_rng(0)
    factor, truth = rng.normal(size=(DIM, WIDTH)), rng.normal(size=(DIM, 2))

    @jax.jit
    def draw(noise):
        measurements = request.param(key, N, DIM, jnp.float64)
        return measurements, measurements.forward(jnp.asarray(truth)) + 0.1 * noise

    return *draw(rng.normal(size=N)), factor, truth


@jax.jit
def _forms(measurements, values, truth):
    centre = svec(truth @ truth.T)
    return {
        "direct": Empirical(measurements, values),
        "gram": gram_objective(measurements, values),
        "centred gram": gram_objective(measurements, values, centre),
    }


@jax.jit
def _value(form, u):
    return form(u)


@jax.jit
def _both(form, u):
    return form.value_and_gradient(u)


@jax.jit
def _residual(form, matrix):
    return form.residual(matrix)


@jax.jit
def _loss(u, measurements, values):
    return sensing_loss(u, measurements, values)


def test_values_equal_the_loops(data):
    measurements, values, factor, truth = data
    matrices = reference.unpacked(np.asarray(measurements.packed()), DIM)
    expected = reference.sensing_loss(matrices, np.asarray(values), factor)
    np.testing.assert_allclose(_loss(factor, measurements, values), expected, rtol=1e-12)
    for name, form in _forms(measurements, values, truth).items():
        np.testing.assert_allclose(_value(form, factor), expected, rtol=1e-11, err_msg=name)


def test_gradients_equal_central_differences_and_autodiff(data):
    measurements, values, factor, truth = data
    matrices = reference.unpacked(np.asarray(measurements.packed()), DIM)
    expected = reference.gradient(lambda u: reference.sensing_loss(matrices, np.asarray(values), u), factor)
    np.testing.assert_allclose(jax.grad(_loss)(factor, measurements, values), expected, rtol=1e-6, atol=1e-6)
    for name, form in _forms(measurements, values, truth).items():
        np.testing.assert_allclose(_both(form, factor)[1], expected, rtol=1e-6, atol=1e-6, err_msg=name)


def test_second_derivatives_equal_autodiff(data):
    measurements, values, factor, truth = data
    u, v = jnp.asarray(factor), jnp.asarray(np.random.default_rng(3).normal(size=factor.shape))

    @jax.jit
    def products(forms):
        slopes = {name: lambda u, form=form: form.value_and_gradient(u)[1] for name, form in forms.items()}
        slopes["autodiff"] = jax.grad(lambda u: sensing_loss(u, measurements, values))
        return {name: jax.jvp(slope, (u,), (v,))[1] for name, slope in slopes.items()}

    found = products(_forms(measurements, values, truth))
    for name, product in found.items():
        np.testing.assert_allclose(product, found["autodiff"], rtol=1e-9, atol=1e-9, err_msg=name)


def test_gram_forms_of_many_factors_equal_one_by_one(data):
    """The batched rule, with the problem shared, batched too, and under a second batch axis."""
    measurements, values, factor, truth = data
    form = _forms(measurements, values, truth)["centred gram"]
    many = np.stack([factor * scale for scale in (1.0, -0.5, 2.0)])
    expected = [_both(form, u) for u in many]
    loss, gradient = jax.jit(jax.vmap(lambda u: form.value_and_gradient(u)))(many)
    np.testing.assert_allclose(loss, [value for value, _ in expected], rtol=1e-11)
    np.testing.assert_allclose(gradient, [slope for _, slope in expected], rtol=1e-10, atol=1e-10)
    forms = jax.tree.map(lambda leaf: np.stack([leaf, 2 * np.asarray(leaf)]), form)
    twice = jax.jit(jax.vmap(lambda form, u: jax.vmap(form.value_and_gradient)(u)))(forms, np.stack([many, many]))
    np.testing.assert_allclose(twice[0][0], loss, rtol=1e-11)
    each = jax.jit(jax.vmap(lambda form, u: form.value_and_gradient(u)))(forms, many[:2])
    np.testing.assert_allclose(each[1][0], gradient[0], rtol=1e-10, atol=1e-10)
    push = lambda u: jax.jvp(lambda u: form.value_and_gradient(u)[1], (u,), (u,))[1]  # noqa: E731
    np.testing.assert_allclose(jax.jit(jax.vmap(push))(many)[1], jax.jit(push)(many[1]), rtol=1e-10, atol=1e-9)


def test_automatic_derivatives_of_the_gram_form_take_one_product_and_are_right(data):
    measurements, values, factor, truth = data
    form, u = _forms(measurements, values, truth)["gram"], jnp.asarray(factor)
    loss = lambda u: sensing_loss(u, measurements, values)  # noqa: E731
    gradients, hessians = jax.jit(lambda u: [[of(form)(u), of(loss)(u)] for of in (jax.grad, jax.hessian)])(u)
    np.testing.assert_allclose(*gradients, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(*hessians, rtol=1e-8, atol=1e-8)
    size = form.centre.shape[0]
    traced = jax.jit(jax.value_and_grad(form)).lower(u).as_text()
    products = [line for line in traced.splitlines() if "dot_general" in line and f"{size}x{size}" in line]
    assert len(products) == 1


def test_used_measurements_alone_count(data):
    measurements, values, _, truth = data
    centre = svec(jnp.asarray(truth @ truth.T))
    part = jax.jit(lambda: gram_objective(measurements.take(jnp.arange(6)), values[:6], centre))()
    masked = jax.jit(lambda: gram_objective(measurements, values, centre, jnp.arange(N) < 6))()
    for one, other in zip(jax.tree.leaves(part), jax.tree.leaves(masked), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def test_the_recentred_loss_is_the_loss(data):
    measurements, values, factor, _ = data
    u, step = jnp.asarray(factor), jnp.asarray(np.random.default_rng(6).normal(size=factor.shape))
    moved = jax.jit(jax.value_and_grad(lambda d: recentred(measurements, values, u)(d)))(step)
    loss = jax.jit(jax.value_and_grad(lambda d: sensing_loss(u + d, measurements, values)))(step)
    np.testing.assert_allclose(moved[0], loss[0], rtol=1e-11)
    np.testing.assert_allclose(moved[1], loss[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-6), (jnp.float64, 1e-13)])
def test_forms_agree_in_either_precision(key, dtype, tolerance):
    """All forms on one instance near the truth, against NumPy in float64; gradients relative to the data's size."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(6, 2))
    near = truth + 1e-2 * rng.normal(size=truth.shape)
    exact = jax.jit(lambda: gaussian_measurements(key, 40, 6, jnp.float64))()
    matrices = reference.unpacked(np.asarray(exact.rows), 6)
    expected = reference.adjoint(
        matrices, (reference.forward(matrices, near) - reference.forward(matrices, truth)) / 40
    )
    with jax.numpy_dtype_promotion("standard"):
        measurements = Dense(np.asarray(exact.rows, dtype))
        values = np.asarray(reference.forward(matrices, truth), dtype)
        u = near.astype(dtype)
        for name, form in _forms(measurements, values, truth.astype(dtype)).items():
            gap = np.asarray(_both(form, u)[1], np.float64) - 4 * expected @ near
            assert np.linalg.norm(gap) < tolerance * np.linalg.norm(4 * truth @ truth.T @ truth), name
            _, residual = _residual(form, u @ u.T)
            assert np.linalg.norm(residual - expected) < tolerance * np.linalg.norm(truth @ truth.T), name


def test_residual_is_half_the_gradient_in_the_matrix(data):
    measurements, values, factor, truth = data
    x = factor @ factor.T - 0.3 * np.eye(DIM)
    matrices = reference.unpacked(np.asarray(measurements.packed()), DIM)
    misfit = np.array([np.sum(a * x) for a in matrices]) - np.asarray(values)
    expected = reference.adjoint(matrices, misfit / N)
    for name, form in _forms(measurements, values, truth).items():
        loss, residual = _residual(form, x)
        np.testing.assert_allclose(loss, np.mean(misfit**2), rtol=1e-10, err_msg=name)
        np.testing.assert_allclose(residual, expected, rtol=1e-9, atol=1e-10, err_msg=name)
        back = reference.adjoint(matrices, np.asarray(values) / N)
        found = jax.jit(lambda form: form.back_projection())(form)
        np.testing.assert_allclose(found, back, rtol=1e-9, atol=1e-10, err_msg=name)


def test_rotation_invariance(data):
    measurements, values, factor, _ = data
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, WIDTH)))
    np.testing.assert_allclose(
        _loss(factor @ turn, measurements, values),
        _loss(factor, measurements, values),
        rtol=1e-11,
    )


def test_population_equals_the_loops():
    rng = np.random.default_rng(2)
    factor, truth = rng.normal(size=(DIM, WIDTH)), rng.normal(size=(DIM, 2))
    residual = reference.gram(factor) - reference.gram(truth)
    form = Population(jnp.asarray(truth @ truth.T), jnp.asarray(0.25))
    value, gradient = _both(form, factor)
    np.testing.assert_allclose(value, reference.inner(residual, residual) + 0.25, rtol=1e-12)
    loss = jax.jit(lambda u: population_loss(u, jnp.asarray(truth @ truth.T)))
    np.testing.assert_allclose(loss(factor), reference.inner(residual, residual), rtol=1e-12)
    np.testing.assert_allclose(gradient, reference.gradient(lambda u: float(loss(u)), factor), rtol=1e-6, atol=1e-5)


def test_many_measurements_approach_the_population(key):
    """The empirical loss tends to the population loss plus the noise variance."""
    rng = np.random.default_rng(5)
    factor, truth = jnp.asarray(rng.normal(size=(DIM, WIDTH))), jnp.asarray(rng.normal(size=(DIM, 2)))

    @jax.jit
    def both():
        measurements = gaussian_measurements(key, 200_000, DIM, jnp.float64)
        values = measurements.forward(truth) + 0.5 * jax.random.normal(jax.random.key(3), (200_000,))
        return sensing_loss(factor, measurements, values), population_loss(factor, truth @ truth.T) + 0.25

    np.testing.assert_allclose(*both(), rtol=0.02)


def test_centred_gram_keeps_accuracy_in_float32(key):
    """Near the truth the loss is 1e-12 of the data's size; only the centred form sees it in float32."""
    truth = np.random.default_rng(5).normal(size=(8, 2))
    near = truth * (1 + 1e-4)
    with jax.numpy_dtype_promotion("standard"):
        exact = jax.jit(lambda: gaussian_measurements(key, 60, 8, jnp.float64))()
        expected = float(_loss(near, exact, jax.jit(lambda u: exact.forward(u))(truth)))
        measurements = jax.tree.map(lambda x: np.asarray(x, np.float32), exact)
        u, w = near.astype(np.float32), truth.astype(np.float32)
        forms = _forms(measurements, jax.jit(lambda u: measurements.forward(u))(w), w)
        centred, plain = (_value(forms[name], u) for name in ("centred gram", "gram"))
    assert abs(float(centred) / expected - 1) < 5e-3
    assert abs(float(plain) / expected - 1) > 0.05


ENTRIES, FACTOR, VALUES = Entries([0, 1, 1], [0, 1, 0], side=2), np.ones((2, 1)), np.ones(3)


@pytest.mark.parametrize("loss", [sensing_loss, lambda u, m, y: Empirical(m, y)(u), lambda u, m, y: recentred(m, y, u)])
@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (1,), (), (2,)])
def test_values_of_another_shape_are_refused_before_they_broadcast(loss, shape):
    with pytest.raises(BadInput, match=r"^values: it has shape .*, not \(3,\); give an array of shape \(3,\)"):
        jax.eval_shape(loss, FACTOR, ENTRIES, np.ones(shape))


@pytest.mark.parametrize("loss", [sensing_loss, lambda u, m, y: Empirical(m, y)(u), lambda u, m, y: recentred(m, y, u)])
@pytest.mark.parametrize("shape", [(3, 1), (2,)])
def test_a_factor_of_other_rows_is_refused(loss, shape):
    with pytest.raises(BadInput, match=r"^factor: it has shape .*, not \(2, width\)"):
        jax.eval_shape(loss, np.ones(shape), ENTRIES, VALUES)


def test_other_forms_refuse_other_shapes():
    with pytest.raises(BadInput, match=r"^values: it has shape \(3, 1\)"):
        gram_objective(ENTRIES, np.ones((3, 1)))
    for form in (gram_objective(ENTRIES, VALUES), Population(np.eye(2), 0.0)):
        for asked in (form, form.value_and_gradient):
            with pytest.raises(BadInput, match=r"^factor: it has shape \(3, 1\), not \(2, width\)"):
                asked(np.ones((3, 1)))
        with pytest.raises(BadInput, match=r"^matrix: it has shape \(3, 3\), not \(2, 2\)"):
            form.residual(np.eye(3))
    with pytest.raises(BadInput, match=r"^matrix: it has shape \(2, 1\), not \(2, 2\)"):
        population_loss(FACTOR, np.ones((2, 1)))
