"""The gate of ``diagnose --fail-on``: which photos are refused, and why.

Apart from the diagnosis, which says what is wrong and refuses nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autodir.cli.console import Console
from autodir.errors import ConfigError

ANY = "any"
"""Stands for every degradation in a rule."""

_RULE = re.compile(r"(?P<key>[^<>=]+?)\s*(?:>\s*(?P<limit>[^<>=]+))?")


class DegradationFoundError(Exception):
    """A photo has a degradation that ``--fail-on`` names."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One condition under which a photo is refused.

    Attributes:
        key: of the degradation, or "any".
        limit: refuse where the presence is above this; None: where the degradation is the main one.
    """

    key: str
    limit: float | None

    def refuse(self, document: Mapping[str, Any]) -> str | None:
        """Why a diagnosis is refused, in a few words; None where it passes."""
        presence: Mapping[str, float] = document["presence"]
        if self.limit is None:
            main = document["main"]
            found = main is not None and self.key in (ANY, main)
            return f"{main} {document['probabilities'].get(main, 1.0):.2f}" if found else None
        asked = presence if self.key == ANY else {self.key: presence.get(self.key, 0.0)}
        above = {key: value for key, value in asked.items() if value > self.limit}
        if not above:
            return None
        worst = max(above, key=lambda key: above[key])
        return f"{worst} {above[worst]:.2f} > {self.limit:g}"


class Gate:
    """All rules of a command, and the photos that they refused.

    Args:
        texts: what stands behind each ``--fail-on``.

    Raises:
        ConfigError: a text is no rule.
        PromptError: a key names no degradation.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.rules = [parse_rule(piece) for text in texts for piece in text.split(",")]
        self.refused: dict[str, str] = {}
        self._seen = 0

    def look(self, document: Mapping[str, Any]) -> None:
        """Hold one diagnosis, in its JSON form, against the rules."""
        self._seen += 1
        reasons = (rule.refuse(document) for rule in self.rules)
        found = list(dict.fromkeys(reason for reason in reasons if reason))
        if found:
            self.refused[document["input"]] = ", ".join(found)

    def show(self, console: Console) -> None:
        """List the refused photos, for a person."""
        if not self.refused:
            return
        console.say(f"refused: {len(self.refused)} of {self._seen}", style="bold")
        for name, why in self.refused.items():
            console.say(f"{name}  {why}")

    def close(self) -> None:
        """Raise `DegradationFoundError` if a photo was refused."""
        if self.refused:
            raise DegradationFoundError(", ".join(self.refused))


def parse_rule(text: str) -> Rule:
    """Read ``noise``, ``noise>0.8``, ``any`` or ``any>0.8``.

    Raises:
        ConfigError: the text is no rule, or the limit no number in [0, 1].
        PromptError: the key names no degradation.
    """
    from autodir.prompts import load_taxonomy

    hint = "Write noise, or noise>0.8 with a presence between 0 and 1, in quotes."
    match = _RULE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--fail-on cannot be {text!r}.", hint)
    try:
        limit = None if match["limit"] is None else float(match["limit"])
    except ValueError:
        limit = math.nan
    if limit is not None and not 0 <= limit <= 1:  # written so that NaN falls outside
        raise ConfigError(f"--fail-on cannot be {text!r}.", hint)
    name = match["key"].strip()
    return Rule(key=name if name == ANY else load_taxonomy().get(name).key, limit=limit)
