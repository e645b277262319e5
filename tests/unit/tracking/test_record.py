"""The recipe as the tracking server keeps it."""

from __future__ import annotations

from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.record import RecipeRecord


def test_parameters_are_flat_and_leave_out_where_results_go():
    recipe = {
        "name": "a",
        "train": {"learning_rate": 5e-05, "max_steps": None, "seed": 0},
        "data": {"files": ["a.csv"], "columns": {}},
        "model": {"base": "./base"},
        "store": {"uri": "/s"},
        "tracking": {"uri": "sqlite:///a"},
    }
    assert RecipeRecord(name="a", recipe=recipe, recipe_text="").parameters() == {
        "train.learning_rate": "5e-05",
        "train.max_steps": "null",
        "train.seed": "0",
        "data.files": '["a.csv"]',
        "data.columns": "{}",
        "model.base": "./base",
    }


def test_only_a_sqlite_file_has_a_database():
    assert str(TrackingConfig(uri="sqlite:////home/a/mlflow.db").database()) == "/home/a/mlflow.db"
    assert TrackingConfig(uri="sqlite:///:memory:").database() is None
    assert TrackingConfig(uri="http://127.0.0.1:5000").database() is None


def test_a_public_uri_has_no_password():
    assert TrackingConfig(uri="https://me:secret@host:5000/a").public_uri() == "https://host:5000/a"
    assert TrackingConfig(uri="sqlite:////home/a@b/mlflow.db").public_uri() == "sqlite:////home/a@b/mlflow.db"


def test_a_command_names_the_store_where_it_would_look_elsewhere_and_no_password():
    server = TrackingConfig(uri="http://me:secret@mlflow:5000")
    assert server.command("tunesmith approve models:/a/3", "http://mlflow:5000") == "tunesmith approve models:/a/3"
    assert server.command("tunesmith approve models:/a/3", "sqlite:////home/mlflow.db") == (
        "MLFLOW_TRACKING_URI=http://mlflow:5000 tunesmith approve models:/a/3"
    )
    assert TrackingConfig(uri="sqlite:////my home/a.db").command("tunesmith models", "sqlite:////b.db") == (
        "MLFLOW_TRACKING_URI='sqlite:////my home/a.db' tunesmith models"
    )
