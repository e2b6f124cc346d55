"""Images: the same pixel values as transformers, in the order of a patch convolution."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpcify.errors import MpcifyError
from mpcify.graph.about import ImageFacts
from mpcify.graph.graph import Graph, Input
from mpcify.requests.images import ImageRequests
from tests.requests.contract import RequestsContract

FACTS = ImageFacts(
    channels=3,
    size=(16, 24),
    patch=8,
    do_resize=True,
    resample=2,
    do_rescale=True,
    rescale=1 / 255,
    do_normalize=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def picture(mode: str = "RGB", size: tuple[int, int] = (37, 29)) -> Image.Image:
    bands = {"L": (), "RGB": (3,)}[mode]
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (size[1], size[0], *bands), np.uint8))


class TestImageRequests(RequestsContract):
    def requests(self) -> ImageRequests:
        return ImageRequests(FACTS)

    def items(self) -> list[Any]:
        return [picture(), picture("L"), picture(size=(8, 90)), np.asarray(picture())]

    def graph(self, batch: int, length: int) -> Graph:
        return Graph((Input("patches", "client", (batch, 6, 192)),), (), (), batch, 6)


@pytest.mark.parametrize("resample", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "steps", [{}, {"do_rescale": False}, {"do_normalize": False}, {"rescale": 1 / 127.5, "mean": 1.0}]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_are_those_of_transformers(mode: str, steps: dict[str, Any], resample: int) -> None:
    vit = pytest.importorskip("transformers.models.vit.image_processing_pil_vit")
    facts = replace(FACTS, resample=resample, **steps)
    if mode == "L":
        facts = replace(facts, channels=1, mean=(0.5,), std=(0.25,))
    processor = vit.ViTImageProcessorPil(
        size={"height": 16, "width": 24},
        resample=resample,
        do_rescale=facts.do_rescale,
        rescale_factor=facts.rescale,
        do_normalize=facts.do_normalize,
        image_mean=facts.mean,
        image_std=facts.std,
    )
    expected = processor(picture(mode), return_tensors="np")["pixel_values"][0]
    found = ImageRequests(facts).pixels(picture(mode))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-6  # the same steps in the same precision: equal, in fact


@pytest.mark.parametrize("patch", [(8, 4), (5, 7)])
def test_patches_times_the_reshaped_kernel_are_the_convolution(patch: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    requests = ImageRequests(replace(FACTS, patch=patch))
    kernel = np.random.default_rng(1).standard_normal((5, 3, *patch)).astype(np.float32)
    pixels = np.ascontiguousarray(requests.pixels(picture())[None])
    expected = torch.nn.functional.conv2d(torch.from_numpy(pixels), torch.from_numpy(kernel), stride=patch)
    found = requests.patches(picture()) @ kernel.reshape(5, -1).T
    # about 100 products of values below 10: float32 sums in another order differ by about 1e-5
    assert np.abs(found - expected.flatten(2)[0].T.numpy()).max() < 5e-5


def test_a_model_of_other_channels_is_refused() -> None:
    with pytest.raises(MpcifyError, match="MPC-203"):
        ImageRequests(replace(FACTS, channels=4))


def test_a_path_a_pil_image_and_an_array_are_the_same_image(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    requests = ImageRequests(FACTS)
    images = [tmp_path / "a.png", str(tmp_path / "a.png"), picture(), np.asarray(picture())]
    first, *others = requests.encode(images)
    assert first.shape == (2 * 3, 3 * 8 * 8)
    assert all(np.array_equal(first, other) for other in others)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    picture().save(tmp_path / "a.png", exif=exif)
    upright = picture().transpose(Image.Transpose.ROTATE_270)
    requests = ImageRequests(FACTS)
    assert np.array_equal(requests.patches(tmp_path / "a.png"), requests.patches(upright))


def test_other_modes_are_converted_to_the_models_channels() -> None:
    colour, grey = ImageRequests(FACTS), ImageRequests(replace(FACTS, channels=1, mean=0.5, std=0.5))
    assert np.array_equal(colour.pixels(picture("L")), colour.pixels(picture("L").convert("RGB")))
    assert np.array_equal(grey.pixels(picture()), grey.pixels(picture().convert("L")))
    assert np.array_equal(grey.pixels(np.asarray(picture("L"))[..., None]), grey.pixels(picture("L")))


def test_what_is_no_image_is_refused_by_its_name(tmp_path: Path) -> None:
    picture().save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("not an image")
    requests = ImageRequests(FACTS)
    for name in ("cut.png", "text.png", "gone.png"):
        with pytest.raises(MpcifyError) as caught:
            requests.encode([picture(), tmp_path / name])
        assert caught.value.code == 107
        assert caught.value.where == f"image 2 ({tmp_path / name})"


def test_nothing_is_clipped_or_scaled_by_guess() -> None:
    requests = ImageRequests(replace(FACTS, do_resize=False))
    deep = Image.fromarray(np.full((16, 24), 40_000, np.uint16))
    for image, said in ((deep, "8 bits"), (np.zeros((16, 24, 3)), "float64"), (picture(), "37×29"), (None, "read")):
        with pytest.raises(MpcifyError) as caught:
            requests.encode([image])
        assert caught.value.code == 107
        assert said in caught.value.what


def test_a_partial_batch_asks_its_first_image_again() -> None:
    graph = Graph((Input("patches", "client", (3, 6, 192)), Input("w", "owner", (192, 4))), (), (), batch=3, length=6)
    requests = ImageRequests(FACTS)
    patches = requests.encode([picture(), picture("L")])
    inputs = requests.inputs(patches, graph)
    assert list(inputs) == ["patches"]
    assert np.array_equal(inputs["patches"][:2], patches)
    assert np.array_equal(inputs["patches"][2], patches[0])
    with pytest.raises(ValueError):
        requests.inputs(patches * 2, graph)


def test_a_pil_image_is_turned_upright_as_a_file_is(tmp_path: Path) -> None:
    image = picture()
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=image.getexif())
    requests = ImageRequests(FACTS)
    assert np.array_equal(requests.pixels(image), requests.pixels(tmp_path / "turned.png"))
    assert np.array_equal(requests.pixels(image), requests.pixels(image.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_header_tells_that_an_image_has_more_than_8_bits(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "deep.tiff")
    for image in (tmp_path / "deep.tiff", Image.new(mode, (8, 8))):
        with pytest.raises(MpcifyError, match=r"MPC-107 row 3.*more than 8 bits"):
            ImageRequests(FACTS).check(image, "row 3")


def test_if_nothing_scales_images_the_check_knows_their_size() -> None:
    with pytest.raises(MpcifyError, match="MPC-107 row 3"):
        ImageRequests(replace(FACTS, do_resize=False)).check(picture(), "row 3")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4), (1, 2, 8, 8, 3)])
def test_one_image_as_an_array_is_no_list_of_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-102 request: it is one ndarray.*list of images"):
        ImageRequests(FACTS).groups(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(2, 16, 24, 3), (2, 16, 24)])
def test_images_stacked_in_one_array_are_a_list_of_images(shape: tuple[int, ...]) -> None:
    (group,) = ImageRequests(FACTS).groups(np.zeros(shape, np.uint8))
    assert group.places == (0, 1)


@pytest.mark.parametrize("image", [np.zeros((0, 0, 3), np.uint8), np.zeros((0, 4), np.uint8), Image.new("RGB", (4, 0))])
def test_an_image_without_pixels_is_refused(image: Any) -> None:
    for read in (ImageRequests(FACTS).patches, ImageRequests(FACTS).check):
        with pytest.raises(MpcifyError, match=r"MPC-107 image: it is \d×\d pixels"):
            read(image)


def test_a_pair_of_images_is_refused_as_one() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-107 image 2: .*images have no pairs"):
        ImageRequests(FACTS).groups([picture(), ("a.png", "b.png")])


def png_of_16_bits(colours: int) -> bytes:
    """A PNG of 8 × 8 black pixels with 16 bits a channel; colours: 2 (RGB) or 6 (with opacity), as PNG calls them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compress(bytes(8 * (1 + 8 * 2 * {2: 3, 6: 4}[colours])))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rgb.png", png_of_16_bits(2)),
        ("rgba.png", png_of_16_bits(6)),
        ("rgb.ppm", b"P6 8 8 65535\n" + bytes(8 * 8 * 6)),
    ],
)
def test_colours_of_16_bits_are_refused_though_pil_calls_them_rgb(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (ImageRequests(FACTS).patches, ImageRequests(FACTS).check):
        with pytest.raises(MpcifyError, match=r"MPC-107 .*more than 8 bits"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.ppm", "a.bmp", "a.jpg", "a.tiff"])
def test_images_of_8_bits_are_read_in_every_format(name: str, tmp_path: Path) -> None:
    picture().save(tmp_path / name)
    ImageRequests(FACTS).check(tmp_path / name)
    assert ImageRequests(FACTS).patches(tmp_path / name).shape == (6, 192)
