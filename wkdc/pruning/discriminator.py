"""A trained discriminator, pruned for a student that is pruned too."""

from collections.abc import Callable
from pathlib import Path

from wkdc.checkpoints.card import read_card
from wkdc.checkpoints.checkpoint import load_discriminator
from wkdc.pruning.settings import PruneSettings
from wkdc.pruning.student import prune_network
from wkdc.system.files import sha256_of


def prune_discriminator(
    given: Path, output: Path, settings: PruneSettings, on_notice: Callable[[str], None]
) -> None:
    """Prune the discriminator in `given` into `output`, unless that was made of it before.

    Raises:
        WkdcError: see `wkdc.prune.prune`.
    """
    card = (read_card(output) if output.is_file() else None) or {}
    made_of = (card.get("teacher") or {}).get("sha256")
    if given.is_file() and made_of == sha256_of(given):
        return
    result = prune_network(load_discriminator(given), settings, output, on_notice=on_notice)
    on_notice(f"{given} -> {output}: {result.params_ratio:.2f}x fewer parameters")
