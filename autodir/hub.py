"""Models on the Hugging Face hub: a name like ``org/name`` becomes a folder in the hub's own cache.

The one door to the network of a repair, and apart so that nothing else can open it: it is asked
only for a name that has the hub's form and is no path here. The hub's variables hold: HF_HOME and
HF_HUB_CACHE say where the cache is, HF_HUB_OFFLINE=1 forbids every request, HF_TOKEN opens private
repositories, HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from autodir.errors import CheckpointError

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_name(name: str | Path) -> bool:
    """Whether a name has the form ``org/name`` and its first part is no folder here."""
    text = str(name)
    return (
        bool(_NAME.fullmatch(text))
        and not text.startswith(".")
        and not Path(text).exists()
        and not Path(text).parent.is_dir()
    )


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The folder of a repository, downloaded where the cache does not hold it.

    Without a network the cache alone serves.

    Args:
        name: ``org/name``.
        patterns: which of its files are needed, such as ``unet/*.safetensors``.

    Raises:
        CheckpointError: the repository does not exist, is closed, or cannot be reached and is not
            in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is no name of the hub: {error}", "use org/name") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name} is open only to those who have accepted its terms",
            "accept them on its page, then set HF_TOKEN or run: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no repository {name} on the hub, or it is private",
            "check the spelling; for a private one set HF_TOKEN or run: hf auth login",
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{name} is not in the cache of the hub, and the hub cannot be asked",
            "connect to the network and unset HF_HUB_OFFLINE, or copy the folder here and "
            "give its path",
        ) from error
    except OSError as error:  # the hub's other errors, and those of connection and disk
        raise CheckpointError(
            f"{name} cannot be fetched from the hub: {error}",
            "check network, HF_ENDPOINT and free disk space, or give the path of a folder",
        ) from error
