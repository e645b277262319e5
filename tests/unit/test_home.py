from pathlib import Path

from tunesmith.home import Home


def test_the_home_is_in_the_working_directory_unless_it_is_named():
    assert Home.locate({}, Path("/srv/project")).folder == Path("/srv/project/.tunesmith")
    assert Home.locate({"TUNESMITH_HOME": "  "}, Path("/srv/project")).folder == Path("/srv/project/.tunesmith")


def test_a_relative_home_is_relative_to_the_working_directory():
    assert Home.locate({"TUNESMITH_HOME": "there"}, Path("/srv/project")).folder == Path("/srv/project/there")


def test_a_home_may_begin_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert Home.locate({"TUNESMITH_HOME": "~/tunes"}, Path("/srv/project")).folder == Path("/home/ada/tunes")


def test_everything_lies_below_the_home():
    home = Home.locate({"TUNESMITH_HOME": "/data"}, Path("/srv/project"))
    assert home.store_uri == "/data/store"
    assert home.tracking_uri == "sqlite:////data/mlflow.db"
    assert home.prefect_folder == Path("/data/prefect")
    assert home.log_folder == Path("/data/logs")
