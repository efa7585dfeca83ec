"""MLP: the ordering of theta, initialisations, predictions, descriptions, and bad input."""

import naive
import numpy as np
import pytest
from checks import assert_close

import fastggn as fg


@pytest.fixture
def net():
    """F(3, 4, 2) with free biases: N = 26."""
    return fg.MLP((3, 4, 2), activation="tanh")


# --- shape and ordering ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "n_params"), [("free", 26), ("none", 20), ([np.ones(4), np.ones(2)], 20)]
)
def test_sizes(bias, n_params):
    """widths, n_layers, n_params, and one activation a layer."""
    net = fg.MLP([3, 4, 2], activation="relu", output_activation="sigmoid", bias=bias)
    assert (net.widths, net.n_layers, net.n_params) == ((3, 4, 2), 2, n_params)
    assert [a.name for a in net.activations] == ["relu", "sigmoid"]


def test_a_single_layer():
    """No hidden layer: the activation of hidden layers is not used."""
    net = fg.MLP((3, 2), activation=(), output_activation="tanh")
    assert (net.n_layers, net.n_params) == (1, 8)
    assert fg.MLP((3, 2), activation="relu").activations[0].name == "identity"


def test_unpack_gives_views_in_order(net):
    """W_l.ravel() one after the other; the free bias is the last column."""
    theta = np.arange(26.0)
    W_1, W_2 = net.unpack(theta)
    assert W_1.shape == (4, 4) and W_2.shape == (2, 5)
    assert np.array_equal(W_1[1], [4.0, 5.0, 6.0, 7.0])
    assert np.array_equal(W_2[0], [16.0, 17.0, 18.0, 19.0, 20.0])
    assert np.shares_memory(W_1, theta) and np.shares_memory(W_2, theta)
    W_2[1, 4] = -1.0
    assert theta[25] == -1.0


def test_pack_inverts_unpack(net):
    """And returns a new vector."""
    theta = net.init(seed=1)
    packed = net.pack(net.unpack(theta))
    assert np.array_equal(packed, theta) and packed.dtype == np.float64
    assert not np.shares_memory(packed, theta)


def test_the_free_bias_is_added():
    """z = W x + w_bias, while a fixed bias is subtracted (Shen 2018, Eq. 2)."""
    x = np.array([[2.0]])
    assert fg.MLP((1, 1)).predict([3.0, 0.5], x)[0, 0] == 6.5
    assert fg.MLP((1, 1), bias=[[0.5]]).predict([3.0], x)[0, 0] == 5.5
    assert fg.MLP((1, 1), bias="none").predict([3.0], x)[0, 0] == 6.0


def test_a_fixed_bias_is_copied():
    """A later change of the caller's array changes nothing."""
    b = np.array([0.5])
    net = fg.MLP((1, 1), bias=[b])
    b[0] = 100.0
    assert net.predict([3.0], [[2.0]])[0, 0] == 5.5


@pytest.mark.parametrize("T", [1, 2, 8, 9, 300])
def test_predict(T):
    """Per-layer activations and an output activation, for any number of samples."""
    rng = np.random.default_rng(T)
    net = fg.MLP((3, 4, 5, 2), activation=["softsign", "bent_identity"], output_activation="tanh")
    theta, X = net.init(seed=2, scheme="normal"), rng.standard_normal((T, 3))
    names = ("softsign", "bent_identity", "tanh")
    reference = naive.Network(net.widths, [naive.ACTIVATIONS[name] for name in names])
    want = np.array([reference.sweep(theta, x).phi[3] for x in X])
    assert_close("predict", f"T = {T}", net.predict(theta, X), want, 1e-13)


def test_predict_of_one_sample(net):
    """A vector in, a vector out."""
    theta, x = net.init(seed=3), np.array([0.1, -0.2, 0.3])
    assert np.array_equal(net.predict(theta, x), net.predict(theta, x[None])[0])


def test_predict_leaves_its_arguments_alone(net):
    """Neither theta nor X changes."""
    theta, X = net.init(seed=3), np.ones((2, 3))
    kept = theta.copy()
    net.predict(theta, X)
    assert np.array_equal(theta, kept) and np.array_equal(X, np.ones((2, 3)))


# --- initialisation -------------------------------------------------------------------------

SCHEMES = ("glorot", "he", "lecun", "nguyen_widrow", "normal")


@pytest.mark.parametrize("bias", ["free", "none", "fixed"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_init_by_seed(scheme, bias):
    """The same seed gives the same bits, another seed other numbers; float64, finite."""
    vectors = [np.ones(30), np.ones(2)] if bias == "fixed" else bias
    net = fg.MLP((5, 30, 2), bias=vectors)
    first, again = (net.init(seed=7, scheme=scheme) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (net.n_params,) and first.dtype == np.float64
    assert np.isfinite(first).all()
    assert not np.array_equal(first, net.init(seed=8, scheme=scheme))
    generator = np.random.default_rng(7)
    assert np.array_equal(first, net.init(seed=generator, scheme=scheme))


def test_init_default_is_glorot(net):
    """The scheme of the signature."""
    assert np.array_equal(net.init(seed=0), net.init(seed=0, scheme="glorot"))


@pytest.mark.parametrize(
    ("scheme", "variance"),
    [("glorot", 2.0 / (200 + 300)), ("he", 2.0 / 200), ("lecun", 1.0 / 200), ("normal", 1.0)],
)
def test_init_statistics(scheme, variance):
    """Mean zero and the variance of the scheme, within five standard errors (60,000 draws)."""
    net = fg.MLP((200, 300, 1), bias="none")
    W = net.unpack(net.init(seed=5, scheme=scheme))[0]
    assert abs(W.mean()) < 5 * np.sqrt(variance / W.size)
    assert abs(W.var() / variance - 1.0) < 5 * np.sqrt(2.0 / W.size)


def test_init_glorot_is_uniform():
    """Within sqrt(6 / (inputs + units)), and close to the limit somewhere."""
    W = (net := fg.MLP((200, 300, 1))).unpack(net.init(seed=5))[0][:, :-1]
    limit = np.sqrt(6.0 / 500)
    assert 0.99 * limit < np.abs(W).max() <= limit


@pytest.mark.parametrize("scheme", ["glorot", "he", "lecun"])
def test_init_biases_start_at_zero(scheme):
    """Free biases of these schemes."""
    net = fg.MLP((5, 30, 2))
    assert all((W[:, -1] == 0).all() for W in net.unpack(net.init(seed=1, scheme=scheme)))


def test_init_normal_draws_biases_too():
    """All entries are independent standard normal numbers, times the scale."""
    net = fg.MLP((100, 200, 1))
    theta = net.init(seed=1, scheme="normal")
    biases = net.unpack(theta)[0][:, -1]
    assert abs(biases.std() - 1.0) < 0.25
    assert np.allclose(net.init(seed=1, scheme="normal", scale=3.0), 3.0 * theta, rtol=1e-15)


def test_init_nguyen_widrow():
    """Equal norms 0.7 n^(1/m), and thresholds spread over the inputs' range."""
    net = fg.MLP((2, 50, 1), activation="tanh")
    W = net.unpack(net.init(seed=1, scheme="nguyen_widrow"))[0]
    norms = np.linalg.norm(W[:, :2], axis=1)
    assert np.allclose(norms, norms[0], rtol=1e-12)
    assert np.isclose(norms[0] / (0.7 * np.sqrt(50.0)), 2.0)  # tanh is active in [-2, 2]
    thresholds = np.sort(-W[:, 2] / norms)
    assert (np.abs(thresholds) <= 1.0 + 1e-12).all()
    assert np.diff(thresholds).max() < 0.4


# --- description ----------------------------------------------------------------------------


@pytest.mark.parametrize("bias", ["free", "none", [np.arange(4.0), np.ones(2)]])
def test_config_round_trip(bias):
    """to_config is JSON, and from_config makes the same network."""
    import json

    net = fg.MLP((3, 4, 2), activation="leaky_relu", output_activation="softplus", bias=bias)
    copy = fg.MLP.from_config(json.loads(json.dumps(net.to_config())))
    theta, X = net.init(seed=1), np.random.default_rng(1).standard_normal((5, 3))
    assert copy.widths == net.widths
    assert np.array_equal(copy.predict(theta, X), net.predict(theta, X))


def test_repr_shows_the_call(net):
    """For the reader of a log."""
    assert "MLP((3, 4, 2)" in repr(net) and "tanh" in repr(net)


# --- bad input ------------------------------------------------------------------------------


def test_bad_width_zero():
    """A width of 0 is named by its position."""
    with pytest.raises(ValueError, match=r"widths\[1\].*0"):
        fg.MLP((3, 0, 2))


def test_bad_width_negative():
    """So is a negative one."""
    with pytest.raises(ValueError, match=r"widths\[0\].*-3"):
        fg.MLP((-3, 2))


@pytest.mark.parametrize("width", [2.5, "4", None, True, np.float64(4.0)])
def test_bad_width_not_an_integer(width):
    """Widths are integers."""
    with pytest.raises(TypeError, match=r"widths\[1\]"):
        fg.MLP((3, width, 2))


@pytest.mark.parametrize("width", [np.int32(4), np.uint8(4)])
def test_numpy_widths_are_integers(width):
    """NumPy integers count as such."""
    net = fg.MLP((3, width, 2))
    assert net.n_params == 26 and all(type(n) is int for n in net.widths)


@pytest.mark.parametrize("widths", [(3,), ()])
def test_bad_widths_too_few(widths):
    """Inputs and outputs are needed."""
    with pytest.raises(ValueError, match="widths"):
        fg.MLP(widths)


@pytest.mark.parametrize("widths", ["34", 3, None])
def test_bad_widths_not_a_sequence(widths):
    """Neither a number nor a text."""
    with pytest.raises(TypeError, match="widths"):
        fg.MLP(widths)


def test_bad_activation_name():
    """The nearest valid name is suggested."""
    with pytest.raises(ValueError, match=r"tahn.*did you mean 'tanh'"):
        fg.MLP((3, 4, 2), activation="tahn")


def test_bad_output_activation_name():
    """For the output layer, too."""
    with pytest.raises(ValueError, match=r"sigmiod.*did you mean 'sigmoid'"):
        fg.MLP((3, 4, 2), output_activation="sigmiod")


def test_bad_activation_count():
    """One for all hidden layers or one each."""
    with pytest.raises(ValueError, match=r"activation.*\(2\).*3"):
        fg.MLP((3, 4, 4, 2), activation=["tanh", "relu", "tanh"])


@pytest.mark.parametrize("activation", [3, None, [None]])
def test_bad_activation_type(activation):
    """Names or Activation objects only."""
    with pytest.raises(TypeError, match="activation"):
        fg.MLP((3, 4, 2), activation=activation)


def test_bad_bias_name():
    """The nearest valid name is suggested."""
    with pytest.raises(ValueError, match=r"bias.*fre.*did you mean 'free'"):
        fg.MLP((3, 2), bias="fre")


def test_bad_bias_count():
    """One vector a layer."""
    with pytest.raises(ValueError, match=r"bias.*2"):
        fg.MLP((3, 4, 2), bias=[np.ones(4)])


def test_bad_bias_shape():
    """b_l has n_l entries."""
    with pytest.raises(ValueError, match=r"bias\[1\].*\(2,\).*\(3,\)"):
        fg.MLP((3, 4, 2), bias=[np.ones(4), np.ones(3)])


def test_bad_bias_nan():
    """Finite entries only."""
    with pytest.raises(ValueError, match=r"bias\[0\]\[2\] is nan"):
        fg.MLP((3, 4, 2), bias=[[1, 1, np.nan, 1], np.ones(2)])


def test_bad_bias_type():
    """None is not a bias."""
    with pytest.raises(TypeError, match="bias"):
        fg.MLP((3, 4, 2), bias=None)


def test_bad_scheme(net):
    """The nearest valid name is suggested."""
    with pytest.raises(ValueError, match=r"glorott.*did you mean 'glorot'"):
        net.init(scheme="glorott")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_bad_scale(net, scale):
    """A positive number."""
    with pytest.raises(ValueError, match="scale"):
        net.init(scheme="normal", scale=scale)


@pytest.mark.parametrize("method", ["unpack", "predict"])
def test_bad_theta_length(net, method):
    """What was given and what is accepted."""
    arguments = (np.ones(25),) if method == "unpack" else (np.ones(25), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"theta.*\(26,\).*\(25,\)"):
        getattr(net, method)(*arguments)


@pytest.mark.parametrize("method", ["unpack", "predict"])
@pytest.mark.parametrize("dtype", [complex, object, str])
def test_bad_theta_type(net, method, dtype):
    """Complex, object and text arrays."""
    theta = np.ones(26).astype(dtype)
    with pytest.raises(TypeError, match="theta"):
        net.unpack(theta) if method == "unpack" else net.predict(theta, np.ones((2, 3)))


def test_bad_theta_nan(net):
    """Predictions of NaN parameters are refused with the index."""
    theta = np.ones(26)
    theta[7] = np.nan
    with pytest.raises(ValueError, match=r"theta\[7\] is nan"):
        net.predict(theta, np.ones((2, 3)))


def test_bad_layers_count(net):
    """One matrix a layer."""
    with pytest.raises(ValueError, match=r"layers.*2.*1"):
        net.pack([np.ones((4, 4))])


def test_bad_layers_shape(net):
    """(n_l, m_l) with the bias column."""
    with pytest.raises(ValueError, match=r"W_2.*\(2, 5\).*\(2, 4\)"):
        net.pack([np.ones((4, 4)), np.ones((2, 4))])


def test_bad_layers_type(net):
    """Complex weights are not cut to their real parts."""
    with pytest.raises(TypeError):
        net.pack([np.ones((4, 4)) * 1j, np.ones((2, 5))])


def test_bad_inputs_width(net):
    """X needs n_0 columns."""
    with pytest.raises(ValueError, match=r"X.*\(T, 3\).*\(2, 4\)"):
        net.predict(net.init(seed=0), np.ones((2, 4)))


def test_bad_inputs_rank(net):
    """Two axes at most."""
    with pytest.raises(ValueError, match="X"):
        net.predict(net.init(seed=0), np.ones((2, 3, 1)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_inputs_not_finite(net, value):
    """With the first bad index."""
    X = np.ones((4, 3))
    X[2, 1] = value
    with pytest.raises(ValueError, match=r"X\[2, 1\] is"):
        net.predict(net.init(seed=0), X)


@pytest.mark.parametrize("dtype", [complex, object, str])
def test_bad_inputs_type(net, dtype):
    """Complex, object and text arrays."""
    with pytest.raises(TypeError, match="X"):
        net.predict(net.init(seed=0), np.ones((2, 3)).astype(dtype))


def test_bad_config(net):
    """A missing key is named."""
    config = net.to_config()
    del config["bias"]
    with pytest.raises(ValueError, match="bias"):
        fg.MLP.from_config(config)
