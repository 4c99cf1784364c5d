"""The groups in which help shows the commands, in the order of the work, with an example each."""

from __future__ import annotations

from collections.abc import Iterator

import typer

#: Group -> command -> example. A test holds that every command stands here and every example works.
GROUPS = {
    "Prepare": {
        "demo": "survey-qa demo --directory demo",
        "ingest ccds": "survey-qa ingest ccds survey-ccds-decam-dr10.fits.gz --release dr10",
        "ingest reports": "survey-qa ingest reports bad_expid.txt --source decals",
        "ingest images": "survey-qa ingest images /incoming/20140818 --release new",
        "merge-labels": "survey-qa merge-labels --release dr10",
        "embed": "survey-qa embed --embedder statistics --images /survey/images",
    },
    "Learn": {
        "train": "survey-qa train --embedder dinov2-vitb14-reg --model knn-dr10 --release dr10",
        "compare": "survey-qa compare --embedder statistics --classifier knn --classifier two-step",
        "evaluate": "survey-qa evaluate --model knn-dr10 --output report/",
        "models": "survey-qa models knn-dr10",
    },
    "Judge": {
        "predict": "survey-qa predict --model knn-dr10",
        "vote": "survey-qa vote --model knn-dr10",
        "night": "survey-qa night /incoming/20140818 --model knn-dr10",
        "crossmatch": "survey-qa crossmatch --model knn-dr10 --release dr10",
        "bad-expid diff": (
            "survey-qa bad-expid diff --model knn-dr10 --against bad_expid.txt "
            "--output change.patch"
        ),
        "bad-expid check": "survey-qa bad-expid check bad_expid.txt",
    },
    "Look": {
        "inspect": "survey-qa inspect --round dr11 --model knn-dr10 --images /survey/images",
        "inspections status": "survey-qa inspections status",
        "inspections close": "survey-qa inspections close dr11",
        "inspections merge": "survey-qa inspections merge dr11 --rule majority",
        "inspections history": "survey-qa inspections history dr11",
        "inspections export": "survey-qa inspections export dr11 --output dr11.csv",
        "inspections import": "survey-qa inspections import dr11.csv --round dr11",
        "inspections release-name": "survey-qa inspections release-name ann",
        "select": "survey-qa select --model knn-dr10 -n 1000",
        "rounds": "survey-qa rounds --plot curve.png",
        "map": "survey-qa map --embedder dinov2-vitb14-reg --output maps/",
        "label-errors": "survey-qa label-errors --embedder dinov2-vitb14-reg -n 100",
        "consistency": "survey-qa consistency --model knn-dr10 --worst 20",
    },
    "Ask": {
        "sql": 'survey-qa sql "select class, count(*) from predictions group by 1"',
        "query": "survey-qa query label_counts",
        "queries": "survey-qa queries",
        "schema": "survey-qa schema votes",
        "status": "survey-qa status",
        "simulate": "survey-qa simulate survey --nights 8 --seed 1",
    },
}


def arrange(app: typer.Typer) -> None:
    """Put the commands of `app` into their groups, in order, each with its example."""
    places = {name: (group, number) for number, (group, name, _) in enumerate(_entries())}
    first = {name.split()[0]: places[name] for name in reversed(places)}
    examples = {name: example for _, name, example in _entries()}

    def order(name: str) -> int:
        return first[name][1]

    for command in app.registered_commands:
        name = _name(command)
        command.rich_help_panel = first[name][0]
        command.epilog = _epilog(examples[name])
    app.registered_commands.sort(key=lambda command: order(_name(command)))
    for group in app.registered_groups:
        name = str(group.name)
        group.rich_help_panel = first[name][0]
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            command.epilog = _epilog(examples[f"{name} {_name(command)}"])


def _entries() -> Iterator[tuple[str, str, str]]:
    for group, commands in GROUPS.items():
        for name, example in commands.items():
            yield group, name, example


def _name(command: typer.models.CommandInfo) -> str:
    assert command.callback is not None
    return command.name or command.callback.__name__.replace("_", "-")


def _epilog(example: str) -> str:
    return f"Example: {example}".replace("[", "\\[")
