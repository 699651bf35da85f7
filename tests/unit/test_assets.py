"""Keys of assets are the hash of what they hold."""

from hashlib import sha256

from tarn import assets, spark_assets


def test_a_dataset_has_another_prefix_when_and_only_when_what_runs_changes(tmp_path) -> None:
    folder = tmp_path / "flights"
    folder.mkdir()
    (folder / "light.sql").write_text("SELECT 1")
    (folder / "rules.dqdl").write_text("Rules = [ RowCount > 0 ]")
    prefix, files = assets.of_dataset(folder)
    assert prefix.endswith("/flights/")
    assert [one.key for one in files] == [f"{prefix}light.sql", f"{prefix}rules.dqdl"]

    (folder / "README.md").write_text("a note")
    (folder / "test_light.py").write_text("a test")
    assert assets.of_dataset(folder)[0] == prefix

    (folder / "light.sql").write_text("SELECT 2")
    assert assets.of_dataset(folder)[0] != prefix


def test_a_teams_delivery_has_a_place_of_its_own_for_each_asset(tmp_path, monkeypatch) -> None:
    (tmp_path / "light.sql").write_text("SELECT 1")
    ours = [one.key for one in assets.of_dataset(tmp_path)[1]] + [assets.of_file(tmp_path / "light.sql").key]
    ours += [one.key for one in spark_assets.find()[1]]
    monkeypatch.setenv("TARN_ASSET_PREFIX", "assets/air")
    theirs = [one.key for one in assets.of_dataset(tmp_path)[1]] + [assets.of_file(tmp_path / "light.sql").key]
    theirs += [one.key for one in spark_assets.find()[1]]
    assert theirs == [key.replace("assets/", "assets/air/", 1) for key in ours]


def test_a_file_keeps_its_name_under_its_hash(tmp_path) -> None:
    jar = tmp_path / "deequ.jar"
    jar.write_bytes(b"jar")
    assert assets.of_file(jar).key == f"assets/{sha256(b'jar').hexdigest()}/deequ.jar"
