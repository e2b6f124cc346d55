"""From an image to what its client shares: preprocessing as transformers' ViTImageProcessor does it, and the unfold."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mpcify.data.files import COLUMNS
from mpcify.errors import MpcifyError
from mpcify.graph.about import ImageFacts, sides
from mpcify.graph.graph import Graph
from mpcify.graph.inputs import PATCHES
from mpcify.requests.requests import Requests, filled

MODES = {1: "L", 3: "RGB"}
CHANNELS = (1, 3, 4)  # of an image that is an array
DEEP = (";16B", ";16L", ";16N")  # how PIL calls 16 bits a channel in a file, which it decodes to 8


class ImageRequests(Requests):
    """Images to patches, as a model's facts say. Raises MPC-203 for other channels than 1 and 3."""

    items = "images"
    columns = COLUMNS["image"]
    lengths = (0,)
    longest = 0

    def __init__(self, facts: ImageFacts) -> None:
        self.facts = facts
        if facts.channels not in MODES:
            what = f"it reads images of {facts.channels} channels"
            raise MpcifyError(203, "image model", what, "use a model of grey (1) or RGB (3) images")
        self.mode = MODES[facts.channels]
        self.height, self.width = sides(facts.size)
        self.patch = sides(facts.patch)

    def is_list(self, shape: Sequence[int]) -> bool:
        """Three axes that end in channels may be one image."""
        return len(shape) in (1, 4) or (len(shape) == 3 and shape[-1] not in CHANNELS)

    def encode(self, items: Sequence[Any], truncate: bool = False, longest: int | None = None) -> list[np.ndarray]:
        """The patches (N, P) of every image. Raises MPC-107."""
        for index, image in enumerate(items):
            if isinstance(image, tuple):
                raise unreadable(f"image {index + 1}", "it is a pair, and images have no pairs", "give one image")
        return [self.patches(image, f"image {index + 1}") for index, image in enumerate(items)]

    def padded_length(self, encoded: np.ndarray, length: int | None) -> int:
        return 0

    def is_cut(self, encoded: np.ndarray) -> bool:
        return False

    def inputs(self, encoded: Sequence[np.ndarray], graph: Graph) -> dict[str, np.ndarray]:
        """The client's inputs of a graph: see `client_patches`."""
        return client_patches(encoded, graph)

    def sample(self, graph: Graph) -> list[np.ndarray]:
        """Random patches in [−1, 1)."""
        return list(np.random.default_rng(0).uniform(-1, 1, (graph.batch, *self.facts.patches)))

    def check(self, image: str | Path | Image.Image | np.ndarray, where: str = "image") -> None:
        """Raises MPC-107 for an image that `pixels` refuses, as far as a file's header tells."""
        if not self.facts.do_resize:  # its size counts, and whether it is turned
            self.pixels(image, where)
            return
        with opened(image, where := named(image, where)) as found:
            refuse_unlike(found, where)

    def patches(self, image: str | Path | Image.Image | np.ndarray, where: str = "image") -> np.ndarray:
        """An image's patches (N, P): patches row by row, in each of them channel, row, column. float32.

        image: a path, a PIL image, or an array (height, width) or (height, width, channels) of uint8. Raises MPC-107.
        """
        return unfold(self.pixels(image, where), self.patch)

    def pixels(self, image: str | Path | Image.Image | np.ndarray, where: str = "image") -> np.ndarray:
        """The model's pixel values (channels, height, width), float32. Raises MPC-107.

        resize → · rescale → (x − mean)/std, in the order and the precision of transformers' PIL backend.
        """
        loaded = self.load(image, where)
        if self.facts.do_resize:
            loaded = loaded.resize((self.width, self.height), Image.Resampling(self.facts.resample))
        elif loaded.size != (self.width, self.height):
            size = f"{loaded.width}×{loaded.height}"
            raise unreadable(where, f"it is {size} pixels", f"scale it to {self.width}×{self.height}")
        pixels = np.atleast_3d(np.asarray(loaded))
        if self.facts.do_rescale:
            pixels = (pixels.astype(np.float64) * self.facts.rescale).astype(np.float32)
        pixels = pixels.astype(np.float32)
        if self.facts.do_normalize:
            pixels = (pixels - np.asarray(self.facts.mean, np.float32)) / np.asarray(self.facts.std, np.float32)
        return pixels.transpose(2, 0, 1)

    def load(self, image: str | Path | Image.Image | np.ndarray, where: str) -> Image.Image:
        """The image upright and in the model's mode. Raises MPC-107."""
        with opened(image, where := named(image, where)) as found:
            return self.convert(found, where)

    def convert(self, image: Image.Image, where: str) -> Image.Image:
        """The image upright and in the model's mode. Raises MPC-107."""
        refuse_unlike(image, where)
        return ImageOps.exif_transpose(image).convert(self.mode)


def client_patches(patches: Sequence[np.ndarray], graph: Graph) -> dict[str, np.ndarray]:
    """The client's inputs of a graph for 1 to B images (see `filled`): their patches (B, N, P)."""
    return {PATCHES: np.stack(filled(patches, graph.batch))}


def unfold(pixels: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """The patches (N, P) of pixels (channels, height, width); like a convolution, without what fills no patch."""
    high, wide = patch
    rows, columns = pixels.shape[1] // high, pixels.shape[2] // wide
    blocks = pixels[:, : rows * high, : columns * wide].reshape(len(pixels), rows, high, columns, wide)
    return blocks.transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1)  # rows, columns, channel, p, p


def named(image: Any, where: str) -> str:
    """What an error calls an image: its place, and its path if it has one."""
    return f"{where} ({image})" if isinstance(image, str | Path) else where


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns whatever PIL's readers make of a broken image into MPC-107; our own errors pass."""
    try:
        yield
    except MpcifyError:
        raise
    except Exception as error:
        reason = f"it cannot be read ({type(error).__name__})"
        raise unreadable(where, reason, "give a path to a PNG or JPEG file that opens elsewhere") from error


@contextmanager
def opened(image: str | Path | Image.Image | np.ndarray, where: str) -> Iterator[Image.Image]:
    """An image, or the one in a file, not yet decoded; whatever fails while it is open is MPC-107."""
    with reading(where):
        if isinstance(image, str | Path):
            with Image.open(image) as found:
                yield found
        else:
            yield as_image(image, where)


def as_image(image: Image.Image | np.ndarray, where: str) -> Image.Image:
    """An array as PIL's image; an image as it is. Raises MPC-107 for other numbers than uint8."""
    if isinstance(image, Image.Image):
        return image
    if image.dtype != np.uint8:
        raise unreadable(where, f"it is an array of {image.dtype}", "give values from 0 to 255 as uint8")
    return Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def refuse_unlike(image: Image.Image, where: str) -> None:
    """Raises MPC-107 for an image without pixels, or of more than 8 bits a channel, which PIL would clip silently."""
    if 0 in image.size:
        raise unreadable(where, f"it is {image.width}×{image.height} pixels", "give an image that has pixels")
    if image.mode in ("I", "F") or image.mode.startswith("I;") or stored_deep(image):
        what = f"its pixels have more than 8 bits (mode {image.mode})"
        raise unreadable(where, what, "save it with 8 bits a channel")


def stored_deep(image: Image.Image) -> bool:
    """Whether the file of an image that is not decoded yet has more than 8 bits a channel."""
    for codec, _, _, given in getattr(image, "tile", ()):
        values = given if isinstance(given, tuple) else (given,)
        if any(isinstance(value, str) and value.endswith(DEEP) for value in values):
            return True
        if codec.startswith("ppm") and any(isinstance(value, int) and value > 255 for value in values):
            return True
    return False


def unreadable(where: str, what: str, remedy: str) -> MpcifyError:
    """The error for an image that the model cannot take."""
    return MpcifyError(107, where, what, remedy)
