"""What distill and train have in common."""

import dataclasses
from typing import TYPE_CHECKING, Any

import typer

from wkdc.cli import render
from wkdc.errors import OptionError
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.training.loop import StepReport
    from wkdc.training.recipe import Recipe

RECIPE = (
    *("wavelet_weight", "wavelet", "levels", "bands", "measure", "pixel", "features", "truth"),
    *("cycle", "identity", "adversarial", "gan", "ndf", "scales", "feature_matching"),
    *("optimizer", "learning_rate", "batch", "accumulate", "load_size", "crop", "jitter", "reuse"),
)
"""Options that change the setting of the same name in a recipe."""


def changed(recipe: "Recipe", context: typer.Context) -> "Recipe":
    """The recipe with the settings that were given as options.

    Raises:
        OptionError: a value out of range, or one that would not be used.
    """
    given: dict[str, Any] = {name: context.params.get(name) for name in RECIPE}
    given = {name: value for name, value in given.items() if value is not None}
    made = dataclasses.replace(recipe, **given)
    for weight, value, names in (
        ("wavelet-weight", made.wavelet_weight, ("wavelet", "levels", "bands", "measure")),
        ("adversarial weight", made.adversarial, ("gan", "ndf", "scales")),
    ):
        unused = [name for name in names if name in given]
        if unused and not value:
            raise OptionError(
                f"{unused[0]} {given[unused[0]]} would not be used: the {weight} is 0"
            )
    if given.get("jitter") and not made.jittered:
        raise OptionError(
            f"jitter {given['jitter']:g} would not be used: beside losses to true images "
            "(adversarial, truth, cycle, identity) crops keep their colours"
        )
    return made


def check_alone(context: typer.Context) -> None:
    """Make sure that no settings come with --resume, as the run has its own.

    Raises:
        OptionError: there are some.
    """
    sources = {
        parameter.opts[0]: context.get_parameter_source(parameter.name or "")
        for parameter in context.command.params
        if parameter.name not in ("resume", "arch", "json")
    }
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        raise OptionError(
            f"{', '.join(given)} cannot be given with --resume: a run goes on with the settings "
            "in its options.json; start another run for others"
        )


def need_data(data: str | None) -> str:
    """The value of --data, without which nothing is learned.

    Raises:
        OptionError: it is not given.
    """
    if data is None:
        raise OptionError("nothing says what to learn from; give --data FOLDER, or --resume RUN")
    return data


def show_step(meter: render.Meter, report: "StepReport") -> None:
    """Show a training step on the progress bar."""
    if report.phase == "targets":
        meter.show(report.progress, f"the teacher's outputs: {units.counted(report.step, 'crop')}")
        return
    losses = "  ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
    meter.show(
        report.progress,
        f"step {report.step}  {losses}  {report.images_per_second:.1f} images/s  "
        f"{units.duration(report.eta_seconds)} left",
    )
