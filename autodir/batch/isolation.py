"""Photos decoded under limits, and in a process of their own where that is wanted.

Apart because decoders are large and old, and a stranger's file may make one crash or hang. What
comes back from that process is plain numbers and texts, never a pickle.
"""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from autodir.batch.child import Child, requests
from autodir.batch.packing import pack, unpack
from autodir.errors import AutodirError, ImageError
from autodir.imaging.files import MAX_BYTES
from autodir.imaging.io import Photo, read


class Decoder:
    """Reads photos.

    Args:
        max_bytes: limit of a file.
        isolate: decode in a process of its own.
        timeout: seconds that this process has for one file.
    """

    def __init__(
        self, *, max_bytes: int = MAX_BYTES, isolate: bool = False, timeout: float = 60.0
    ) -> None:
        self.max_bytes, self._timeout = max_bytes, timeout
        self._child = Child(serve_photos) if isolate else None
        self._turn = threading.Lock()  # one thread reads ahead, another one for the report

    def read(self, source: Path | bytes, max_pixels: int) -> Photo:
        """Decode a photo; see `autodir.imaging.io.read`.

        Raises:
            ImageError: also where the decoder crashed or took too long, if it is isolated.
        """
        if self._child is None:
            return read(source, max_pixels, self.max_bytes)
        name = str(source) if isinstance(source, Path) else "the input"
        try:
            with self._turn:
                answer = self._child.ask(
                    (source, max_pixels, self.max_bytes), Connection.recv_bytes, self._timeout
                )
        except TimeoutError as error:
            raise ImageError(
                f"cannot read {name}: the decoder took longer than {self._timeout:g} s",
                hint="raise --decode-timeout if the file is to be trusted",
            ) from error
        except ChildProcessError as error:
            raise ImageError(
                f"cannot read {name}: the decoder crashed ({error})", hint="is the file whole?"
            ) from error
        photo = unpack(answer)
        if isinstance(photo, Photo):
            return photo
        message, hint = photo
        raise ImageError(message, hint)

    def close(self) -> None:
        """End the decoder's process."""
        if self._child is not None:
            self._child.close()


def serve_photos(connection: Connection) -> None:
    """The life of a decoder's process: (path or content, limits) → a packed photo or error."""
    torch.set_num_threads(1)
    for source, max_pixels, max_bytes in requests(connection):
        try:
            answer = pack(read(source, max_pixels, max_bytes))
        except AutodirError as error:
            answer = pack((error.message, error.hint))
        connection.send_bytes(answer)
