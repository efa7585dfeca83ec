"""Estimators inside scikit-learn: pipelines, searches in processes, pandas."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from estimator_worker import allowed
from patience import HANGS
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_wine
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import fastggn as fg
from fastggn.apps.sklearn.parallelism import threads_to_use
from fastggn.runtime.threads import max_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
QUICK = {"hidden_layer_sizes": 5, "random_state": 0, "max_iter": 20}


def test_pipeline_with_weights():
    X, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(SelectKBest(k=8), fg.GGNClassifier(**QUICK))
    weights = np.random.default_rng(0).uniform(0.5, 1.5, len(y))
    pipeline.fit(X, y, ggnclassifier__sample_weight=weights)
    assert pipeline.score(X, y) > 0.97 and pipeline[-1].n_features_in_ == 8
    assert pipeline[:-1].transform(X).shape == (len(y), 8)


@pytest.mark.process
def test_grid_search_with_two_processes():
    X, y = load_diabetes(return_X_y=True)
    grid = {"alpha": [1e-3, 10.0], "hidden_layer_sizes": [3, (3, 2)]}
    search = GridSearchCV(fg.GGNRegressor(random_state=0, max_iter=15), grid, cv=3, n_jobs=2)
    search.fit(X, y)
    alone = GridSearchCV(fg.GGNRegressor(random_state=0, max_iter=15), grid, cv=3).fit(X, y)
    assert search.best_params_ == alone.best_params_
    # One thread or two, the bits are the same.
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
    assert search.best_score_ > 0.3


GRID = """
import os, sys
import numpy as np
from sklearn.model_selection import GridSearchCV
from estimator_worker import CountingRegressor, count

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 8))
    y = np.sin(X).sum(axis=1)
    model = CountingRegressor((20, 20), random_state=0, max_iter=4, tol=0.0)
    search = GridSearchCV(model, {"alpha": [0.1, 0.2]}, cv=2, n_jobs=2, scoring=count, refit=False)
    search.fit(X, y)
    scores = np.ravel([search.cv_results_[f"split{k}_test_score"] for k in range(2)]).astype(int)
    pids = {int(s) % 10_000_000 for s in scores}
    assert os.getpid() not in pids
    print(len(pids), max(int(s) // 10_000_000 for s in scores))
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs /proc/self/schedstat")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_processes_share_the_cores(tmp_path):
    # As in a container whose quota made the parent set Numba's variable: workers inherit it.
    here = Path(__file__).resolve().parent
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment |= {"NUMBA_NUM_THREADS": "2", "LOKY_MAX_CPU_COUNT": "2"}
    environment["PYTHONPATH"] = os.pathsep.join([str(here.parent), str(here)])
    script = tmp_path / "grid.py"
    script.write_text(GRID)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=HANGS,
    )
    assert run.returncode == 0, run.stderr
    processes, threads = map(int, run.stdout.split())
    assert processes == 2 and threads == 1


@pytest.mark.xdist_group("threads")
def test_workers_use_their_share(monkeypatch):
    if max_threads() < 2:
        pytest.skip("needs NUMBA_NUM_THREADS of 2 at least")
    with fg.threads(max_threads()):
        _check_shares(monkeypatch)


def _check_shares(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_to_use(None) is None and threads_to_use(2) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    assert threads_to_use(None) == 1 and allowed()[0] == 1
    assert allowed(2)[0] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "999")
    assert allowed()[0] == allowed()[1]
    with joblib.parallel_config(backend="threading"):
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(allowed)() for _ in range(4))
    assert all(used == 1 for used, _, main in found if not main)


def test_threads_of_python_predict_together():
    X, y = load_diabetes(return_X_y=True)
    model = fg.GGNRegressor(**QUICK)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        there = cross_val_predict(model, X, y, cv=4, n_jobs=2)
    np.testing.assert_array_equal(there, cross_val_predict(model, X, y, cv=4))


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "length": rng.normal(size=60),
            "width": rng.normal(size=60).astype(np.float32),
            "count": rng.integers(0, 9, size=60),
        },
        index=[f"row {i}" for i in range(60)],
    )


def test_frames_in_and_out(frame):
    y = (frame["length"] ** 2 + frame["count"]).rename("area")
    model = fg.GGNRegressor(**QUICK).fit(frame, y)
    assert list(model.feature_names_in_) == ["length", "width", "count"]
    plain = model.predict(frame)
    assert isinstance(plain, np.ndarray)
    series = model.predict(frame, as_frame=True)
    pd.testing.assert_series_equal(series, pd.Series(plain, index=frame.index, name="area"))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["width", "length", "count"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(frame.to_numpy())
    both = pd.DataFrame({"area": y, "half": y / 2})
    table = model.fit(frame, both).predict(frame, as_frame=True)
    assert list(table.columns) == ["area", "half"] and table.index.equals(frame.index)
    model.set_params(regularization="bayesian").fit(frame, y)
    mean, std = model.predict(frame, return_std=True, as_frame=True)
    assert mean.name == std.name == "area" and (std > 0).all()
    assert (
        model.fit(frame.to_numpy(), y.to_numpy()).predict([[1, 2, 3]], as_frame=True).name is None
    )


def test_frames_of_classes(frame):
    labels = pd.Series(np.where(frame["count"] > 4, "many", "few"), index=frame.index, name="size")
    model = fg.GGNClassifier(**QUICK).fit(frame, labels.astype("category"))
    p = model.predict_proba(frame, as_frame=True)
    assert list(p.columns) == ["few", "many"] and p.index.equals(frame.index)
    found = model.predict(frame, as_frame=True)
    assert found.name == "size" and (found == labels).mean() > 0.95
    marks = pd.DataFrame({"many": frame["count"] > 4, "long": frame["length"] > 0}).astype(int)
    model.fit(frame, marks)
    assert list(model.predict_proba(frame, as_frame=True).columns) == ["many", "long"]
    assert list(model.predict(frame, as_frame=True).columns) == ["many", "long"]


def test_mixed_columns_through_a_transformer(frame):
    frame["kind"] = np.where(frame["length"] > 0, "a", "b")
    y = frame["count"] + 3.0 * (frame["kind"] == "a")
    transform = ColumnTransformer(
        [("kind", OneHotEncoder(sparse_output=False), ["kind"])], remainder="passthrough"
    ).set_output(transform="pandas")
    model = make_pipeline(transform, fg.GGNRegressor(**QUICK)).fit(frame, y)
    assert model.score(frame, y) > 0.95
    assert "kind__kind_a" in model[-1].feature_names_in_
    logarithms = TransformedTargetRegressor(model, func=np.log1p, inverse_func=np.expm1)
    assert logarithms.fit(frame, y).score(frame, y) > 0.9
