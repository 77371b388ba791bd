"""The command `scalple-ingest`: its verbs, and how errors become exit codes.

stdout is data, stderr is talk. Exit codes: 0 done; 1 anything unforeseen; 2 wrong usage; 3 input
that can't be read; 4 configuration; 5 the store can't be used; 6 a commit in an unknown state;
7 the store isn't what its manifests say; 8 something should be changed (`doctor`), or isn't well
(`status`); 9 nothing can be attributed (`doctor`).
"""

import errno
import gc
import importlib
import os
import signal
import sys
import threading
from types import FrameType

import click
from click.shell_completion import CompletionItem

from scalple.cli.shown import shown
from scalple.ingest.errors import ReaderGoneError, ScalpleError
from scalple.store import source
from scalple.store.allocator import keep_memory

UNEXPECTED_SHOWN = 300
"""Characters of an unforeseen error's own text."""

VERBS = (
    "reprocess",
    "daemon",
    "status",
    "sidecar",
    "ship-events",
    "query",
    "sql",
    "coverage",
    "policy",
    "minimisation",
    "entitlements",
    "compact",
    "retention",
    "hold",
    "verify",
    "anchor",
    "mirror",
    "probe",
    "prove",
    "consistency",
    "check-proof",
    "keygen",
    "rotate-key",
    "detect",
    "schema",
    "doctor",
    "completion",
    "demo",
)


class Verbs(click.Group):
    """Loads a verb's module when it is asked for: a question shouldn't wait for the parsers."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name; each has a file of its own."""
        if cmd_name not in VERBS:
            return None
        name = cmd_name.replace("-", "_")
        verb: click.Command = getattr(importlib.import_module(f"scalple.cli.{name}"), name)
        return verb

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of verbs, none of which has to be loaded for that."""
        names = [CompletionItem(verb) for verb in VERBS if verb.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


@click.command(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 unforeseen, 2 wrong usage, 3 what was given can't be read, "
    "4 configuration, 5 the store can't be used, 6 a commit in an unknown state (run again), 7 the "
    "store isn't intact, 8 and 9 what doctor and status found. VERB --help says more.",
)
@click.version_option(package_name="scalple-ingest", prog_name="scalple-ingest")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Say which human ran each statement in a PostgreSQL behind a pooler, and prove it.

    \b
    Example:
      scalple-ingest reprocess --help
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run, and say what went wrong in one message."""
    keep_memory()
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    _settle()
    interrupt = _Interrupt()
    signal.signal(signal.SIGINT, interrupt)
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ScalpleError as error:
        click.echo(shown(source.said(f"error: {error}"), keeps="\n"), err=True)
        sys.exit(error.exit_code)
    except ReaderGoneError:
        # Whoever read stdout has gone; what is left in its buffer must not raise once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if interrupt.came:
            click.echo("interrupted; what was committed stays", err=True)
            sys.exit(130)
        if os.environ.get("SCALPLE_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            click.echo(f"error: can't write: {os.strerror(error.errno)}", err=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        what = shown(" ".join(f"{type(error).__name__}: {error}".split())[:UNEXPECTED_SHOWN])
        click.echo(f"error: unexpected {what}; please report (SCALPLE_DEBUG=1 says more)", err=True)
        sys.exit(1)
    finally:
        source.unmount()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _settle() -> None:
    """What libraries ask of the environment when they are loaded."""
    # Nothing here multiplies matrices: threads for that only make numpy slower to load.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # No plugin of whatever else is installed has a say in what a manifest is, nor is it searched for.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def run() -> None:
    """`main`, in a process that does nothing else.

    Half of the time that a small question takes is Python's own: it is begun and ended sooner here.
    """
    if sys.argv[1:2] != ["query"]:
        main()
        return
    from scalple.cli import scribe

    try:
        _begin()
        main()
    except KeyboardInterrupt:  # before `main` could say so
        sys.exit(130)
    finally:
        scribe.end()
    _leave()


def _begin() -> None:
    """A scribe and DuckDB start while the rest is loaded; nothing that is loaded will be garbage."""
    from scalple.cli import scribe

    _settle()
    scribe.begin()  # while there is no thread yet
    from scalple.store import session

    gc.set_threshold(100_000)
    sys.setswitchinterval(
        0.000_5
    )  # what is loaded on another thread doesn't keep the answer waiting
    session.begin()


def _leave() -> None:
    """End at once: the answer is written and what is durable is durable. To take everything apart
    first takes 45 ms. Where something is left to do, the interpreter does it."""
    from scalple.store import session

    if threading.active_count() > 1 or session.has_files():
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(0)


class _Interrupt:
    """Remembers Ctrl-C: DuckDB turns the exception into various errors of its own."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


if __name__ == "__main__":
    run()
