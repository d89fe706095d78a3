"""The command line: one file a command. Only this package prints, reads argv and exits."""

import io
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Never

import typer

import wkdc
from wkdc.cli.analyze import analyze
from wkdc.cli.compare import compare
from wkdc.cli.demo import demo
from wkdc.cli.distill import distill
from wkdc.cli.evaluate import evaluate
from wkdc.cli.export import export
from wkdc.cli.info import info
from wkdc.cli.profile import profile
from wkdc.cli.prune import prune
from wkdc.cli.render import say_error
from wkdc.cli.report import report
from wkdc.cli.train import train
from wkdc.cli.translate import translate
from wkdc.errors import OptionError, WkdcError, one_line

app = typer.Typer(
    name="wkdc",
    help="Make a pretrained image-to-image generator several times smaller and faster.",
    epilog="The four commands chain in one folder: prune, distill, export, profile.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(prune, distill, export, profile),  # which chain
    *(evaluate, analyze, compare, report, info, translate, train, demo),
):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wkdc {wkdc.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Make a pretrained image-to-image generator several times smaller and faster."""


def main(argv: Sequence[str] | None = None) -> Never:
    """Run one command and exit: 0 done, 1 an error, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # also names that the encoding lacks are printed
            stream.reconfigure(errors="backslashreplace")
    # SIGTERM ends a run as Ctrl-C does, and the training so far is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    elif not sys.warnoptions:  # what libraries warn of is no matter of a user's
        warnings.simplefilter("ignore")
    try:
        code = app(arguments or ["--help"], prog_name="wkdc", standalone_mode=False)
    except WkdcError as error:
        if debug:
            raise
        say_error(str(error))
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except typer.TyperException as error:
        if debug:
            raise
        said = error.format_message().replace("Value error, ", "")  # of the library that checks
        say_error(f"{said} (wkdc --help shows what there is)")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        say_error("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output has closed it
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # of a file that is none of the command's outputs, such as stdout
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        say_error(
            f"{where}{error.strerror or error}; see that the disk has room, and that files can be "
            "read and written"
        )
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        what = f"{type(error).__name__}: {one_line(error)}"
        say_error(f"unexpected {what}; wkdc --debug ... shows where")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
