"""GivenPrompt: a source of which there is a prompt alone, made elsewhere. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GivenPrompt:
    """A source that is a prompt and nothing else: no rows, no head, no training of ours.

    It stands where a task or a mixture stands as a source, and is one without tasks. One prompt serves all seeds.

    Attributes:
        name: as the experiment file calls it.
        key: of the prompt in the library: it follows from the PLM's files and the prompt's numbers.
    """

    name: str = field(metadata={"keyed": False})
    key: str

    @property
    def tasks(self) -> tuple[Any, ...]:
        """None: nothing is known of what it was trained on."""
        return ()

    @property
    def classes(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def outputs(self) -> int:
        """None: it has no head."""
        return 0
