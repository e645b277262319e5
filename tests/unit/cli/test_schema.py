import json

from tunesmith.cli.main import main


def test_the_schema_is_printed_with_and_without_json(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["TrainConfig"]["properties"]["num_epochs"]["description"]
    assert main(["schema", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == schema
