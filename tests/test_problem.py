"""Problem: bad input, one case a test; every kind of array; extremes; states that must not leak."""

import gc
import tracemalloc

import naive
import numpy as np
import pytest
from checks import assert_close
from hypothesis import given, settings, strategies as st

import fastggn as fg

T, WIDTHS = 11, (2, 3, 2)
METHODS = (
    "loss",
    "gradient",
    "outputs",
    "jacobian",
    "ggn",
    "dual_gram",
    "hessian",
    "ggn_operator",
    "hessian_operator",
    "at",
    "layer_outputs",
    "layer_sensitivities",
)


@pytest.fixture
def net():
    """F(2, 3, 2), N = 17."""
    return fg.MLP(WIDTHS, activation="tanh")


@pytest.fixture
def X():
    """(11, 2)."""
    return np.random.default_rng(0).standard_normal((T, 2))


@pytest.fixture
def Y():
    """(11, 2)."""
    return np.random.default_rng(1).standard_normal((T, 2))


@pytest.fixture
def problem(net, X, Y):
    """Squared loss."""
    return fg.Problem(net, X, Y)


# --- bad input: samples ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_X_not_finite(net, X, Y, value):
    """The first bad index is named."""
    X[7, 1] = X[9, 0] = value
    with pytest.raises(ValueError, match=r"X\[7, 1\] is"):
        fg.Problem(net, X, Y)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_Y_not_finite(net, X, Y, value):
    """So is that of the targets."""
    Y[3, 0] = Y[5, 1] = value
    with pytest.raises(ValueError, match=r"Y\[3, 0\] is"):
        fg.Problem(net, X, Y)


def test_bad_X_width(net, Y):
    """X needs n_0 columns."""
    with pytest.raises(ValueError, match=r"X.*2.*\(11, 3\)"):
        fg.Problem(net, np.ones((T, 3)), Y)


@pytest.mark.parametrize("shape", [(T,), (T, 2, 1), ()])
def test_bad_X_rank(net, Y, shape):
    """X has two axes."""
    with pytest.raises(ValueError, match="X"):
        fg.Problem(net, np.ones(shape), Y)


def test_bad_X_empty(net):
    """No samples."""
    with pytest.raises(ValueError, match=r"X.*(empty|sample)"):
        fg.Problem(net, np.ones((0, 2)), np.ones((0, 2)))


@pytest.mark.parametrize("dtype", [object, complex, str, "datetime64[s]"])
def test_bad_X_type(net, X, Y, dtype):
    """Real numbers only."""
    with pytest.raises(TypeError, match="X"):
        fg.Problem(net, np.ones((T, 2), dtype=int).astype(dtype), Y)


@pytest.mark.parametrize("dtype", [object, complex, str])
def test_bad_Y_type(net, X, dtype):
    """Real numbers only."""
    with pytest.raises(TypeError, match="Y"):
        fg.Problem(net, X, np.ones((T, 2)).astype(dtype))


def test_bad_Y_length(net, X, Y):
    """As many targets as samples."""
    with pytest.raises(ValueError, match=r"Y.*1[01]"):
        fg.Problem(net, X, Y[:-1])


def test_bad_Y_width(net, X):
    """n_L columns."""
    with pytest.raises(ValueError, match=r"Y.*\(11, 3\)"):
        fg.Problem(net, X, np.ones((T, 3)))


def test_bad_Y_vector_for_two_outputs(net, X):
    """(T,) only for one output (or class labels)."""
    with pytest.raises(ValueError, match="Y"):
        fg.Problem(net, X, np.ones(T))


@pytest.mark.parametrize("label", [-1, 2])
def test_bad_label_out_of_range(net, X, label):
    """Labels are 0..n_L-1; the first bad one is named."""
    Y = np.zeros(T, dtype=int)
    Y[4] = Y[8] = label
    with pytest.raises(ValueError, match=rf"Y\[4\].*{label}"):
        fg.Problem(net, X, Y, loss="softmax_cross_entropy")


def test_bad_label_not_an_integer(net, X):
    """A class label of 0.5 means nothing."""
    Y = np.zeros(T)
    Y[2] = 0.5
    with pytest.raises((ValueError, TypeError), match="Y"):
        fg.Problem(net, X, Y, loss="softmax_cross_entropy")


def test_bad_one_hot_row(net, X):
    """Rows of class probabilities sum to 1."""
    Y = np.tile([1.0, 0.0], (T, 1))
    Y[6] = [1.0, 1.0]
    with pytest.raises(ValueError, match=r"Y.*6"):
        fg.Problem(net, X, Y, loss="softmax_cross_entropy")


def test_bad_logistic_target(net, X):
    """Logistic targets are 0 or 1."""
    Y = np.zeros((T, 2))
    Y[5, 1] = 2.0
    with pytest.raises(ValueError, match=r"Y.*5.*1"):
        fg.Problem(net, X, Y, loss="logistic")


# --- bad input: options ---------------------------------------------------------------------


def test_bad_network(X, Y):
    """An MLP, not its widths."""
    with pytest.raises(TypeError, match="net.*MLP.*tuple"):
        fg.Problem(WIDTHS, X, Y)


def test_bad_loss_name(net, X, Y):
    """The nearest valid name is suggested."""
    with pytest.raises(ValueError, match=r"sqaured.*did you mean 'squared'"):
        fg.Problem(net, X, Y, loss="sqaured")


def test_bad_loss_object(net, X, Y):
    """An object without the methods of the protocol; one that is missing is named."""
    with pytest.raises(TypeError, match=r"loss.*(gradient|value|hessian)"):
        fg.Problem(net, X, Y, loss=3)


def test_bad_curvature_name(net, X, Y):
    """The nearest valid name is suggested."""
    with pytest.raises(ValueError, match=r"curvature.*exat.*did you mean 'exact'"):
        fg.Problem(net, X, Y, curvature="exat")


@pytest.mark.parametrize("l2", [-0.1, np.nan, np.inf])
def test_bad_l2(net, X, Y, l2):
    """Finite and not negative."""
    with pytest.raises(ValueError, match="l2"):
        fg.Problem(net, X, Y, l2=l2)


@pytest.mark.parametrize("l2", ["0.1", 1j, [0.1, 0.2]])
def test_bad_l2_type(net, X, Y, l2):
    """A real number."""
    with pytest.raises((TypeError, ValueError), match="l2"):
        fg.Problem(net, X, Y, l2=l2)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_bad_weight_value(net, X, Y, value):
    """Negative, NaN and infinite weights, with the index."""
    weight = np.ones(T)
    weight[3] = value
    with pytest.raises(ValueError, match=r"sample_weight\[3\]"):
        fg.Problem(net, X, Y, sample_weight=weight)


def test_bad_weight_all_zero(net, X, Y):
    """There would be no mean."""
    with pytest.raises(ValueError, match="sample_weight"):
        fg.Problem(net, X, Y, sample_weight=np.zeros(T))


@pytest.mark.parametrize("shape", [(T - 1,), (T, 7), ()])
def test_bad_weight_shape(net, X, Y, shape):
    """One weight a sample, or one a target."""
    with pytest.raises(ValueError, match=r"sample_weight.*11"):
        fg.Problem(net, X, Y, sample_weight=np.ones(shape))


def test_bad_weight_type(net, X, Y):
    """Real numbers."""
    with pytest.raises(TypeError, match="sample_weight"):
        fg.Problem(net, X, Y, sample_weight=np.ones(T, dtype=complex))


def test_bad_gates_count(net, X, Y):
    """One array a hidden layer."""
    with pytest.raises(ValueError, match="gates"):
        fg.Problem(net, X, Y, gates=[np.ones((T, 3)), np.ones((T, 2))])


def test_bad_gates_shape(net, X, Y):
    """(T, n_l)."""
    with pytest.raises(ValueError, match=r"gates\[0\].*\(11, 3\).*\(11, 2\)"):
        fg.Problem(net, X, Y, gates=[np.ones((T, 2))])


@pytest.mark.parametrize("value", [0.5, 2.0, np.nan])
def test_bad_gates_value(net, X, Y, value):
    """0 or 1."""
    gate = np.ones((T, 3))
    gate[2, 1] = value
    with pytest.raises(ValueError, match=r"gates\[0\]"):
        fg.Problem(net, X, Y, gates=[gate])


# --- bad input: theta and vectors -----------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_bad_theta_length(problem, method):
    """What was given and what is accepted."""
    with pytest.raises(ValueError, match=r"theta.*\(17,\).*\(16,\)"):
        getattr(problem, method)(np.ones(16))


@pytest.mark.parametrize("method", METHODS)
def test_bad_theta_column(problem, method):
    """A column is not a vector."""
    with pytest.raises(ValueError, match=r"theta.*\(17,\).*\(17, 1\)"):
        getattr(problem, method)(np.ones((17, 1)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [complex, object, str])
def test_bad_theta_type(problem, method, dtype):
    """Complex, object and text arrays."""
    with pytest.raises(TypeError, match="theta"):
        getattr(problem, method)(np.ones(17).astype(dtype))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_theta_not_finite(problem, method, value):
    """With the first bad index."""
    theta = np.ones(17)
    theta[5] = value
    with pytest.raises(ValueError, match=r"theta\[5\] is"):
        getattr(problem, method)(theta)


def test_bad_vector_length(problem):
    """Operators refuse vectors of another length."""
    J = problem.jacobian(np.ones(17))
    for call in (lambda: J @ np.ones(16), lambda: J.T @ np.ones(23), lambda: J @ np.ones((16, 2))):
        with pytest.raises(ValueError, match=r"16|23|dimension|shape"):
            call()


@pytest.mark.parametrize("rows", [[], [T], [-T - 1], [0.5], np.ones(3, dtype=bool)])
def test_bad_subset(problem, rows):
    """Row numbers below T, at least one."""
    with pytest.raises((ValueError, IndexError, TypeError), match="rows"):
        problem.subset(np.asarray(rows))


# --- every kind of array --------------------------------------------------------------------


class Source:
    """A data set as HDF5 or Zarr gives it: shape, dtype and slices of rows, nothing else."""

    def __init__(self, array):
        self._array = np.array(array)
        self.shape, self.dtype = self._array.shape, self._array.dtype

    def __getitem__(self, key):
        assert isinstance(key, slice), f"only slices of rows are read, got {key!r}"
        return self._array[key].copy()


def _memmap(array, folder):
    array = np.asarray(array)
    path = folder / f"array{array.ndim}.bin"
    array.tofile(path)
    return np.memmap(path, dtype=array.dtype, mode="r", shape=array.shape)


def _read_only(array, folder):
    out = np.array(array)
    out.flags.writeable = False
    return out


def _reversed(array, folder):
    return np.ascontiguousarray(array[::-1])[::-1]


def _strided(array, folder):
    wide = np.full((2 * len(array), *(2 * n for n in array.shape[1:])), np.nan)
    wide = wide.astype(array.dtype) if array.dtype.kind == "f" else np.zeros_like(wide, array.dtype)
    view = wide[::2] if array.ndim == 1 else wide[::2, ::2]
    view[...] = array
    return view


def _unaligned(array, folder):
    buffer = np.zeros(array.nbytes + 1, dtype=np.uint8)
    out = np.ndarray(array.shape, array.dtype, buffer=buffer.data, offset=1)
    out[...] = array
    return out


KINDS = {
    "big_endian": lambda a, _: a.astype(a.dtype.newbyteorder(">")),
    "negative_strides": _reversed,
    "fortran": lambda a, _: np.asfortranarray(a),
    "read_only": _read_only,
    "strided": _strided,
    "unaligned": _unaligned,
    "memmap": _memmap,
    "list": lambda a, _: a.tolist(),
    "source": lambda a, _: Source(a) if a.ndim == 2 else a,
}


def _bits(problem, theta):
    """Everything that could differ, as bytes."""
    J = problem.jacobian(theta)
    parts = [problem.loss(theta), problem.gradient(theta), problem.outputs(theta), J.to_dense()]
    parts += [problem.ggn(theta), problem.hessian(theta), problem.dual_gram(theta)]
    parts += [problem.at(theta).rmatvec(np.ones(problem.at(theta).n_rows))]
    return [np.asarray(part).tobytes() for part in parts]


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_give_the_same_bits(net, X, Y, tmp_path, kind):
    """Any memory layout or byte order of X, Y, weights, gates and theta."""
    weight = np.linspace(0.5, 1.5, T)
    gates = np.random.default_rng(2).integers(0, 2, (T, 3)).astype(float)
    theta = net.init(seed=1, scheme="normal")
    convert = KINDS[kind]
    clean = fg.Problem(net, X, Y, sample_weight=weight, gates=[gates])
    folders = []
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        folders.append(folder)
    values = [convert(a, f) for a, f in zip((X, Y, weight, gates, theta), folders, strict=True)]
    gate = np.asarray(gates) if kind == "source" else values[3]
    target = Y if kind == "source" else values[1]
    other = fg.Problem(net, values[0], target, sample_weight=values[2], gates=[gate])
    assert _bits(other, values[4]) == _bits(clean, theta)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.int8, np.uint16, bool])
def test_types_give_the_bits_of_their_float64_copy(net, X, Y, dtype):
    """float32 storage, integers and booleans."""
    theta = net.init(seed=1, scheme="normal")
    X_typed, Y_typed = (np.abs(3 * a).astype(dtype) for a in (X, Y))
    weight = (1 + np.arange(T) % 3).astype(dtype)
    clean = fg.Problem(
        net,
        X_typed.astype(np.float64),
        Y_typed.astype(np.float64),
        sample_weight=weight.astype(np.float64),
    )
    typed = fg.Problem(net, X_typed, Y_typed, sample_weight=weight)
    assert _bits(typed, theta) == _bits(clean, theta)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ">i4", np.int64])
def test_label_types_give_the_same_bits(net, X, dtype):
    """Any integer type, and one-hot rows of them."""
    labels = np.arange(T) % 2
    theta = net.init(seed=1, scheme="normal")
    clean = fg.Problem(net, X, np.eye(2)[labels], loss="softmax_cross_entropy")
    other = fg.Problem(net, X, labels.astype(dtype), loss="softmax_cross_entropy")
    assert _bits(other, theta) == _bits(clean, theta)


def test_a_column_and_a_vector_of_targets_agree(X):
    """(T,) stands for (T, 1) when n_L = 1."""
    net = fg.MLP((2, 3, 1))
    theta, y = net.init(seed=1), np.linspace(-1.0, 1.0, T)
    assert _bits(fg.Problem(net, X, y), theta) == _bits(fg.Problem(net, X, y[:, None]), theta)


@pytest.mark.parametrize("column", [False, True])
def test_logistic_takes_booleans(X, column):
    """0/1 targets of any type."""
    net = fg.MLP((2, 3, 1))
    theta, y = net.init(seed=1), np.arange(T) % 2 == 0
    clean = fg.Problem(net, X, y.astype(float)[:, None], loss="logistic")
    other = fg.Problem(net, X, y[:, None] if column else y, loss="logistic")
    assert _bits(other, theta) == _bits(clean, theta)


def test_arguments_stay_as_they_were(net, X, Y):
    """Nothing writes into the caller's arrays."""
    weight, theta = np.linspace(0.5, 1.5, T), net.init(seed=1)
    kept = [a.copy() for a in (X, Y, weight, theta)]
    _bits(fg.Problem(net, X, Y, sample_weight=weight), theta)
    assert all(np.array_equal(a, b) for a, b in zip((X, Y, weight, theta), kept, strict=True))


def test_results_are_the_callers_own(problem):
    """Writing into a result changes no later one."""
    theta = np.linspace(-1.0, 1.0, 17)
    before = _bits(problem, theta)
    for method in ("gradient", "outputs", "ggn", "dual_gram", "hessian"):
        getattr(problem, method)(theta)[...] = np.nan
    problem.jacobian(theta).to_dense()[...] = np.nan
    assert _bits(problem, theta) == before


def test_operators_keep_their_point(problem):
    """An operator made at theta stays there when the caller changes theta or makes another."""
    theta = np.linspace(-1.0, 1.0, 17)
    v = np.cos(np.arange(17.0))
    made = [
        getattr(problem, name)(theta) for name in ("jacobian", "ggn_operator", "hessian_operator")
    ]
    system = problem.at(theta)
    before = [operator @ v for operator in made] + [system.matvec(v)]
    theta += 1.0
    problem.jacobian(theta) @ v
    problem.at(theta).matvec(v)
    after = [operator @ v for operator in made] + [system.matvec(v)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# --- memory ---------------------------------------------------------------------------------


@pytest.fixture
def live_bytes():
    """A function that says how many bytes live."""
    gc.collect()
    gc.disable()  # memory must not depend on when cycles are collected
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    gc.enable()


def test_evaluations_do_not_pile_up(live_bytes):
    """Buffers are used again: ten evaluations hold no more memory than two."""
    net = fg.MLP((4, 60, 1))
    rng = np.random.default_rng(0)
    problem = fg.Problem(net, rng.standard_normal((2000, 4)), np.zeros(2000))
    theta = net.init(seed=0)

    def evaluate(count):
        for _ in range(count):
            problem.loss(theta)
            problem.gradient(theta)
            problem.ggn_operator(theta) @ theta
            problem.jacobian(theta) @ theta
        return live_bytes()

    first = evaluate(2)
    assert evaluate(10) <= first + 2**20


# --- weights, attributes, extremes ----------------------------------------------------------


def test_attributes(net, X, Y):
    """What solvers and training read."""
    problem = fg.Problem(net, X, Y, loss="huber", l2=0.5, curvature="exact")
    assert problem.network is net
    assert (problem.n_samples, problem.n_outputs, problem.n_params) == (T, 2, 17)
    assert (problem.l2, problem.curvature) == (0.5, "exact")
    assert problem.loss_function.name == "huber"


def test_integer_weights_repeat_samples(net, X, Y):
    """A weight of 2 is the sample given twice; a weight of 0 leaves it out."""
    weight = np.arange(T) % 3
    theta = net.init(seed=2, scheme="normal")
    weighted = fg.Problem(net, X, Y, sample_weight=weight)
    repeated = fg.Problem(net, np.repeat(X, weight, axis=0), np.repeat(Y, weight, axis=0))
    for method in ("loss", "gradient", "ggn", "hessian"):
        got, want = getattr(weighted, method)(theta), getattr(repeated, method)(theta)
        assert_close("weights", method, got, want, 1e-13)


def test_the_scale_of_the_weights_does_not_matter(net, X, Y):
    """Only their ratios."""
    weight, theta = np.linspace(0.5, 1.5, T), net.init(seed=2)
    for factor in (1e-200, 1e200):
        a = fg.Problem(net, X, Y, sample_weight=weight).gradient(theta)
        b = fg.Problem(net, X, Y, sample_weight=factor * weight).gradient(theta)
        assert_close("weights", f"times {factor}", b, a, 1e-13)


def test_overflow_is_a_value(net, X, Y):
    """A loss that overflows is infinite or NaN, and raises nothing."""
    net = fg.MLP((2, 3, 2), activation="square")
    value = fg.Problem(net, X, Y).loss(np.full(net.n_params, 1e200))
    assert not np.isfinite(value)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "logistic"])
def test_outputs_of_ten_thousand(net, X, loss):
    """No overflow, no NaN."""
    Y = np.eye(2)[np.arange(T) % 2]
    net = fg.MLP((2, 2), bias="none")
    problem = fg.Problem(net, 1e4 * np.sign(X), Y, loss=loss)
    theta = np.array([1.0, 0.0, 0.0, -1.0])
    for method in ("loss", "gradient", "ggn", "hessian"):
        assert np.isfinite(getattr(problem, method)(theta)).all()


@settings(max_examples=60, deadline=None)
@given(
    n_samples=st.integers(1, 9),
    n_inputs=st.integers(1, 3),
    n_hidden=st.integers(1, 3),
    exponent=st.sampled_from([-300, -150, -8, 0, 8, 150, 300]),
    target_exponent=st.sampled_from([-300, -150, 0, 150, 300]),
    seed=st.integers(0, 2**16),
)
def test_any_shape_and_magnitude(n_samples, n_inputs, n_hidden, exponent, target_exponent, seed):
    """Shapes up to a chunk and a sample more; inputs and targets of 1e-300 to 1e300."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(0.5, 2.0, (n_samples, n_inputs)) * 10.0**exponent
    Y = rng.uniform(-2.0, 2.0, (n_samples, 1)) * 10.0**target_exponent
    net = fg.MLP((n_inputs, n_hidden, 1), activation="tanh", bias="none")
    theta = net.init(seed=seed, scheme="normal")
    problem = fg.Problem(net, X, Y, _chunk=8)
    tanh, identity = naive.ACTIVATIONS["tanh"], naive.ACTIVATIONS["identity"]
    reference = naive.Network(net.widths, [tanh, identity], "none")
    twin = naive.Problem(reference, X, Y, naive.squared())
    with np.errstate(all="ignore"):
        loss, gradient = problem.loss(theta), problem.gradient(theta)
        if target_exponent < 300:
            assert np.isclose(loss, twin.loss(theta), rtol=1e-12, atol=0.0)
        assert_close("extremes", "gradient", gradient, twin.gradient(theta))
