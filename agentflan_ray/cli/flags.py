"""Flags that several commands and experiments share, and how a command ends on a user's error."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from agentflan_ray import storage

if TYPE_CHECKING:
    from agentflan_ray.corpus.build import ToolboxDraw
    from agentflan_ray.sources.files import SourceSpec

DEFAULT_MODEL = "smollm2-135m-instruct"


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """``--source name=URI``, repeatable; ``toolbox=NUMBER`` draws from the embedded world."""
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=URI",
        help="raw files of a format, such as toolbench=s3://bucket/data (repeatable; `agentflan sources` lists the "
        "formats); toolbox=2400 draws embedded ones",
    )


def add_token_flags(parser: argparse.ArgumentParser) -> None:
    """Whose tokens are counted, and how long a window is."""
    parser.add_argument("--model", default=DEFAULT_MODEL, help="whose tokenizer and chat template are used")
    parser.add_argument("--template", help="a named chat template, for models that have none of their own")
    parser.add_argument("--block-length", type=int, default=2048, help="longer conversations are cut to windows")


def sources_of(arguments: argparse.Namespace) -> list[SourceSpec | ToolboxDraw]:
    """The sources that the flags name."""
    from agentflan_ray.corpus.build import ToolboxDraw
    from agentflan_ray.sources.files import SourceSpec

    found: list[SourceSpec | ToolboxDraw] = []
    for text in arguments.source:
        name, _, value = text.partition("=")
        if name == "toolbox":
            if not value.isdigit() or int(value) < 8:
                raise ValueError(f"--source {text}: toolbox takes the number of conversations to draw, at least 8.")
            found.append(ToolboxDraw.of_size(int(value)))
        else:
            found.append(SourceSpec.parse(text))
    return found


def tokenizer_of(arguments: argparse.Namespace) -> tuple[str, int, str | None]:
    """Model, window length and template as ``tokenise`` takes them, looked at before any work is done for them.

    Raises ``ValueError`` where the tokenizer can't be loaded, or the window holds no token.
    """
    from agentflan_ray.tokens.tokenizer import load_tokenizer
    from agentflan_ray.train.models import resolve

    if arguments.block_length < 1:
        raise ValueError(f"--block-length is {arguments.block_length}, but a window holds at least one token.")
    path = resolve(arguments.model)
    load_tokenizer(path, arguments.template)
    return path, arguments.block_length, arguments.template


def check_writable(folder: str, flag: str) -> None:
    """Make the folder; ``ValueError`` where nothing can be written into it: said before an hour's work, not after."""
    reason = "the permission is missing"
    try:
        storage.make_folder(folder)
        if not storage.is_local(folder) or os.access(storage.locate(folder)[1], os.W_OK):
            return
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
    raise ValueError(f"Nothing can be written to {flag} {folder} ({reason}); name a folder that you may write into.")


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """End with status 1 and one sentence where the user can mend what is wrong; other errors keep their traceback."""
    try:
        yield
    except ValueError as error:
        Console(stderr=True).print(Text.assemble(("Error: ", "red"), str(error)), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        Console(stderr=True).print(str(interrupt) or "Interrupted; run the same command again to go on.", markup=False)
        sys.exit(130)
