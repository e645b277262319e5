"""`tunesmith schema`: the recipe's JSON schema, for editors and other programs."""

from __future__ import annotations

import json

import click

from tunesmith.cli.output import Output, json_option, pass_output


@click.command()
@json_option
@pass_output
def command(output: Output) -> None:
    r"""Print the recipe's JSON schema (draft 2020-12), with what each field means.

    \b
    For an editor with the YAML language server, put on a recipe's first line:
        # yaml-language-server: $schema=recipe.schema.json
    after `tunesmith schema > recipe.schema.json`.
    """
    from tunesmith.recipe import recipe_schema

    schema = recipe_schema()
    output.show(schema, json.dumps(schema, indent=2, ensure_ascii=False))
