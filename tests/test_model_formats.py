"""Known data sets as files of every kind: fit, evaluate, predict and export, as the estimators do.

The settings are those of the estimators: all rows, the same first weights, the same method.
"""

import warnings

import numpy as np
import pytest
from interchange_cases import difference

import fastggn as fg
from fastggn.model import interchange

pd = pytest.importorskip("pandas", reason="pandas is absent: the extra table")
datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is absent: its extra")
from sklearn.utils import check_random_state  # noqa: E402

from fastggn.apps.sklearn.fitting import draw_seed  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::fastggn.FastGGNWarning"
)
SETS = ("iris", "wine", "breast_cancer", "digits", "diabetes")
SUFFIXES = (".csv", ".parquet", ".xlsx", ".mat")
DEFAULT = {("iris", ".csv"), ("diabetes", ".parquet")}
TARGET = "the target, in words"  # a comma in a name
ITERATIONS = 8


def frame_of(name):
    """The data set with its own column names and text for classes."""
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = found.data.copy()
    frame[TARGET] = found.target
    if name != "diabetes":
        frame[TARGET] = [f"class {found.target_names[k]}" for k in found.target]
    return frame


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        from scipy.io import savemat

        savemat(path, {"X": frame.drop(columns=TARGET).to_numpy(),
                       "target": frame[[TARGET]].to_numpy()})  # fmt: skip


def fitted(name, table):
    """The model of `fit`, with the settings of the estimators."""
    loss = "logistic" if name == "breast_cancer" else "auto"
    seed = draw_seed(check_random_state(0))
    method = fg.LevenbergMarquardt(geodesic="auto" if name == "diabetes" else False)
    model, _ = fg.fit(
        table, 4, loss=loss, held_out=0.0, seed=seed, max_iter=ITERATIONS, method=method
    )
    return model


def estimator(name, frame):
    kind = fg.GGNRegressor if name == "diabetes" else fg.GGNClassifier
    found = kind(4, alpha=0.0, method="lm", max_iter=ITERATIONS, tol=0.0, random_state=0)
    return found.fit(frame.drop(columns=TARGET), frame[TARGET])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        pytest.param(*pair, marks=() if pair in DEFAULT else pytest.mark.slow)
        for pair in ((name, suffix) for name in SETS for suffix in SUFFIXES)
    ],
)
def test_files_give_the_model_of_the_estimator(name, suffix, tmp_path):
    frame = frame_of(name)
    path = tmp_path / f"table{suffix}"
    write(frame, path)
    target = "target" if suffix == ".mat" else TARGET
    table = fg.read_table(path, target=target)
    X = frame.drop(columns=TARGET).to_numpy()
    np.testing.assert_allclose(table.X, X, rtol=1e-14 * (suffix == ".xlsx"))  # of 16 digits
    model, peer = fitted(name, table), estimator(name, frame)
    assert difference(model.theta, peer.theta_) < 1e-9
    found = model.predict(path)
    metrics = model.evaluate(path)
    if name == "diabetes":
        np.testing.assert_allclose(found, peer.predict(frame.drop(columns=TARGET)), rtol=1e-9)
        r2 = peer.score(frame.drop(columns=TARGET), frame[TARGET])
        assert metrics.targets[0]["r2"] == pytest.approx(r2, rel=1e-9)
    else:
        np.testing.assert_array_equal(found, peer.predict(frame.drop(columns=TARGET)))
        proba = peer.predict_proba(frame.drop(columns=TARGET))
        assert difference(model.predict_proba(path), proba) < 1e-9
        score = peer.score(frame.drop(columns=TARGET), frame[TARGET])
        assert metrics.accuracy == pytest.approx(score, abs=1e-12)
        assert list(model.classes) == list(peer.classes_)
    exports(model, X, table, tmp_path)


def exports(model, X, table, folder):
    """Every export computes what the model predicts."""
    proba = model.decision is not None
    onnx, plain = folder / "m.onnx", folder / "w.npz"
    model.export(onnx, probabilities=proba)
    assert interchange.compare_onnx(onnx, model, probabilities=proba) < 1e-9
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is absent: the extra onnx")
    session = runtime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (Y,) = session.run(None, {"X": X})
    rows = X if model.recipe.named else table
    expected = model.predict_proba(rows)[:, -Y.shape[1] :] if proba else model.predict(rows)
    assert difference(Y, expected) < 1e-9
    model.export(plain)
    again = interchange.from_npz(plain)
    assert difference(again.outputs(X), model.outputs(X)) < 1e-9
    assert again.recipe.input_names == model.recipe.input_names
    assert again.recipe.classes == model.recipe.classes


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_the_model_of_an_estimator(name, tmp_path):
    """`model_` takes raw rows by name, is saved, and predicts what the estimator predicts."""
    frame = frame_of(name)
    rows = frame.drop(columns=TARGET)
    peer = estimator(name, frame)
    peer.model_.save(tmp_path / "m.npz")
    model = fg.Model.load(tmp_path / "m.npz")
    assert model.recipe.input_names == tuple(rows.columns)
    assert model.recipe.target_names == (TARGET,)
    np.testing.assert_array_equal(model.predict(rows[rows.columns[::-1]]), peer.predict(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.predict(rows.to_numpy()), peer.predict(rows))
    assert model.evaluate(frame).n_rows == len(frame)
