"""Rendered frames against pydicom's pixels, and what happens to pixels that cannot be decoded."""

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from peers.dicomweb import Site, part10, site
from peers.shows import shows
from PIL import Image, ImageCms
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEG2000Lossless

from ihe.multipart import PartData, PartStart, Splitter, boundary_of
from profiles.frames import frame_table
from profiles.header import read
from profiles.phantom import phantom_study
from server.errors import NotAcceptable, TooLarge, Unavailable
from server.work.pixels.pool import Pool
from server.work.render import Renderer, Viewport, Window, Wish

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "testdata"
PNG = Wish("image/png")

# Every decoder: native (also big-endian, deflated, bit-packed), RLE, JPEG baseline and extended, J2K, JPEG-LS, palette, YBR, RGB.
REAL = (
    "CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit.dcm", "rtdose.dcm", "rtdose_rle_1frame.dcm",
    "examples_ybr_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm", "liver_1frame.dcm", "SC_ybr_full_422_uncompressed.dcm",
    "JPGExtended.dcm",
)  # fmt: skip


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    made = Renderer(1)
    yield made
    made.close()


def path_of(name: str) -> Path:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return Path(path)


def rendered(renderer: Renderer, path: Path, wish: Wish = PNG, number: int = 1) -> np.ndarray:  # type: ignore[type-arg]
    with path.open("rb") as file:
        _, _, offset = read(file)
        table = frame_table(file, offset)
        return np.asarray(Image.open(io.BytesIO(renderer.render(file, wish, number, table))))


def written(tmp_path: Path, dataset: Dataset) -> Path:
    path = tmp_path / "image.dcm"
    path.write_bytes(part10(dataset))
    return path


def phantom(**attributes: object) -> Dataset:
    dataset: Dataset = next(iter(phantom_study(3, 64)))
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize("name", REAL)
@shows("transaction", "RAD-107 Imaging Document Source")
def test_images_of_every_kind_are_rendered(renderer: Renderer, name: str) -> None:
    dataset = dcmread(path_of(name))
    image = rendered(renderer, path_of(name))
    assert image.shape[:2] == (dataset.Rows, dataset.Columns)
    assert image.ndim == (3 if dataset.SamplesPerPixel == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR" else 2)
    assert image.max() > image.min()


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
@pytest.mark.parametrize("name", ["HTJ2K_08_RGB.dcm", "JLSL_16_15_1_1F.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "parametric_map_float.dcm", "vlut_04.dcm", "emri_small.dcm"])  # fmt: skip
def test_images_of_others_are_rendered(renderer: Renderer, name: str) -> None:
    path = SHARED / "dicom" / "pydicom_data" / name
    assert rendered(renderer, path).max() > 0


def test_jpeg_extended_has_all_of_its_12_bits(renderer: Renderer) -> None:
    # Bone scan: counts from 0 to 264, as libjpeg-turbo decodes them too. Eight bits of twelve would have 16 of these steps.
    wish = Wish("image/png", Window(128, 255, "LINEAR_EXACT"))
    image = rendered(renderer, path_of("JPGExtended.dcm"), wish)
    assert (int(image.min()), int(image.max())) == (0, 255)
    assert len(np.unique(image)) > 150


@pytest.mark.parametrize("damage", ["BitsAllocated", "SamplesPerPixel", "cut off", "Rows"])
def test_pixels_that_no_decoder_here_knows_are_refused(renderer: Renderer, tmp_path: Path, damage: str) -> None:
    dataset = dcmread(path_of("JPGExtended.dcm"))
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    if damage == "cut off":
        dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    else:
        setattr(dataset, damage, {"BitsAllocated": 8, "SamplesPerPixel": 3, "Rows": 4096}[damage])
    with pytest.raises(NotAcceptable):
        rendered(renderer, written(tmp_path, dataset))
    assert rendered(renderer, path_of("CT_small.dcm")).max() > 0  # and the process lives on


def test_a_linear_window_is_that_of_the_standard(renderer: Renderer, tmp_path: Path) -> None:
    dataset = phantom()
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    center, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    expected = np.clip(np.rint(((hounsfield - (center - 0.5)) / (width - 1) + 0.5) * 255), 0, 255)
    image = rendered(renderer, written(tmp_path, dataset)).astype(int)
    assert np.abs(image - expected).max() <= 1  # single precision
    assert image.min() == 0
    assert image.max() > 200


def test_colours_are_those_that_pydicom_decodes(renderer: Renderer) -> None:
    dataset = dcmread(path_of("examples_ybr_color.dcm"))
    assert np.array_equal(rendered(renderer, path_of("examples_ybr_color.dcm"), number=3), dataset.pixel_array[2])


def test_monochrome1_is_shown_inverted(renderer: Renderer, tmp_path: Path) -> None:
    plain = rendered(renderer, written(tmp_path, phantom()))
    inverted = rendered(renderer, written(tmp_path, phantom(PhotometricInterpretation="MONOCHROME1")))
    assert np.array_equal(inverted, 255 - plain)


def test_a_j2k_frame_is_shown_as_the_native_one(renderer: Renderer, tmp_path: Path) -> None:
    dataset = phantom()
    plain = rendered(renderer, written(tmp_path, dataset))
    dataset.compress(JPEG2000Lossless)
    assert np.array_equal(rendered(renderer, written(tmp_path, dataset)), plain)


# --- what must not take the server down


def test_what_is_not_an_image_inside_is_refused_and_the_next_is_shown(renderer: Renderer, tmp_path: Path) -> None:
    dataset = phantom()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + b"\x00\xff" * 500])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    path = written(tmp_path, dataset)
    with pytest.raises((NotAcceptable, Unavailable)):
        rendered(renderer, path)
    assert rendered(renderer, path_of("CT_small.dcm")).shape == (128, 128)


def test_an_enormous_frame_is_refused_before_it_is_decoded(renderer: Renderer, tmp_path: Path) -> None:
    dataset = phantom(Rows=65535, Columns=65535)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + b"\x00" * 50])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    with pytest.raises(TooLarge):
        rendered(renderer, written(tmp_path, dataset))


def test_a_process_that_dies_or_hangs_is_replaced() -> None:
    renderer, path = Renderer(1), path_of("CT_small.dcm")

    def running() -> int:
        child = renderer.pool._slots.queue[0]
        assert child is not None
        return child.pid

    try:
        rendered(renderer, path)
        first = running()
        os.kill(first, signal.SIGKILL)
        while " Z " not in Path(f"/proc/{first}/stat").read_text():
            time.sleep(0.01)
        assert rendered(renderer, path).shape == (128, 128)  # it had no job that could be lost
        assert running() != first
        os.kill(running(), signal.SIGSTOP)
        renderer.pool.seconds = 0.3
        with pytest.raises(Unavailable):
            rendered(renderer, path)
        renderer.pool.seconds = 20
        assert rendered(renderer, path).shape == (128, 128)
    finally:
        renderer.close()


def test_a_process_that_dies_over_its_job_is_told_and_replaced() -> None:
    pool, path = Pool(1), path_of("CT_small.dcm")
    job: dict[str, object] = {
        "do": "render",
        "name": "",
        "numbers": [1],
        "pieces": [[]],
        "type": "image/png",
        "window": None,
        "viewport": None,
    }
    try:
        for _ in range(2):
            with path.open("rb") as file, pytest.raises(Unavailable), pool.asked(file, job) as answer:
                child = pool._parent._process
                assert child is not None
                (pid,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
                os.kill(int(pid), signal.SIGKILL)
                answer()
    finally:
        pool.close()


def test_what_is_not_waited_for_leaves_no_answer_to_the_next(renderer: Renderer, tmp_path: Path) -> None:
    small, large = path_of("CT_small.dcm"), written(tmp_path, phantom())
    with large.open("rb") as file, pytest.raises(ZeroDivisionError), renderer.rendering(file, PNG, [1], None):
        raise ZeroDivisionError
    assert rendered(renderer, small).shape == (128, 128)


def test_a_frame_that_was_shown_is_shown_in_another_window_as_a_new_one_would_be(renderer: Renderer) -> None:
    """What is remembered of a header belongs to its bytes and its frame."""
    seen = []
    for name, number in (
        ("CT_small.dcm", 1),
        ("rtdose.dcm", 1),
        ("rtdose.dcm", 7),
        ("JPEG2000.dcm", 1),
        ("MR_small_bigendian.dcm", 1),
    ):
        with path_of(name).open("rb") as file:
            _, _, offset = read(file)
            table = frame_table(file, offset)
            for window in (None, Window(500, 900, "LINEAR"), Window(0, 300, "SIGMOID")):
                wish = Wish("image/jpeg", window)
                known = [renderer.cine(file, wish, [number], table, name) for _ in range(2)]
                assert known == [renderer.cine(file, wish, [number], table)] * 2
                seen.append(known[0])
    assert len(set(seen)) > 9  # some of the windows leave nothing to be seen


def test_a_large_native_frame_is_shown_as_pydicom_reads_it(renderer: Renderer, tmp_path: Path) -> None:
    """Beyond 1 MiB it is mapped, from where its page begins."""
    rows, columns = 1024, 600
    values = (np.arange(rows * columns * 3, dtype=np.uint32) * 7919 % 4096).astype(np.uint16).reshape(3, rows, columns)
    dataset = phantom(
        Rows=rows, Columns=columns, NumberOfFrames=3, PixelRepresentation=0, RescaleIntercept=0, PixelData=values.tobytes()
    )
    path = written(tmp_path, dataset)
    for number in (1, 3):
        image = rendered(renderer, path, Wish("image/png", Window(2048, 4096, "LINEAR_EXACT")), number).astype(float)
        assert np.abs(image - values[number - 1] / 4096 * 255).max() <= 0.5


# --- over HTTP


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("rendered") / "data", module_database_url) as made:
        files = [path_of(name).read_bytes() for name in ("CT_small.dcm", "rtdose.dcm", "test-SR.dcm")]
        assert made.store([part10(phantom()), *files]).status_code == 200
        made.publish()
        yield made


def url(name: str | None = None) -> str:
    dataset = phantom() if name is None else dcmread(path_of(name), stop_before_pixels=True)
    return f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


def image(server: Site, path: str, accept: str = "image/png") -> Image.Image:
    answer = server.get(path, accept)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_jpeg_is_the_default_and_png_is_offered(server: Site) -> None:
    for accept, type_, format_ in (
        ("*/*", "image/jpeg", "JPEG"),
        ("image/png", "image/png", "PNG"),
        ("image/*;q=0.1, image/png", "image/png", "PNG"),
    ):
        answer = server.get(f"{url()}/rendered", accept)
        assert answer.headers["Content-Type"] == type_
        assert Image.open(io.BytesIO(answer.content)).format == format_
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert server.get(f"{url()}/rendered", accept, If_None_Match=answer.headers["ETag"]).status_code == 304
    assert server.get(f"{url()}/rendered", "image/webp").status_code == 406
    small, large = (len(server.get(f"{url()}/rendered?quality={q}").content) for q in (5, 100))
    assert small < large


def test_window_and_viewport_change_the_image(server: Site) -> None:
    whole = np.asarray(image(server, f"{url()}/rendered"))
    assert np.array_equal(np.asarray(image(server, f"{url()}/rendered?window=40,400,linear")), whole)
    lung = np.asarray(image(server, f"{url()}/rendered?window=-600,1500,linear"))
    assert lung.mean() > whole.mean()
    for function in ("sigmoid", "linear-exact"):
        assert not np.array_equal(np.asarray(image(server, f"{url()}/rendered?window=40,400,{function}")), whole)
    assert image(server, f"{url()}/rendered?viewport=32,100").size == (32, 32)
    region = np.asarray(image(server, f"{url()}/rendered?viewport=32,32,16,16,32,32"))
    assert np.array_equal(region, whole[16:48, 16:48])
    flipped = np.asarray(image(server, f"{url()}/rendered?viewport=32,32,16,16,-32,32"))
    assert np.array_equal(flipped, whole[16:48, 16:48][:, ::-1])


@pytest.mark.parametrize(
    "query", ["window=1", "window=1,0,linear", "window=a,b,linear", "window=1,2,other", "viewport=0,5", "viewport=5", "viewport=99999,5", "quality=0", "quality=101", "nonsense=1", "iccprofile=cmyk", "annotation=name"]
)  # fmt: skip
def test_parameters_out_of_range_are_400(server: Site, query: str) -> None:
    assert server.get(f"{url()}/rendered?{query}").status_code == 400


def test_frames_are_rendered_one_by_one(server: Site) -> None:
    first, last = (np.asarray(image(server, f"{url('rtdose.dcm')}/frames/{number}/rendered")) for number in (1, 15))
    assert not np.array_equal(first, last)
    assert server.get(f"{url('rtdose.dcm')}/frames/16/rendered").status_code == 404
    assert server.get(f"{url('rtdose.dcm')}/frames/1,2/rendered", "image/png").status_code == 406
    assert server.get(f"{url('rtdose.dcm')}/rendered", "image/jpeg").status_code == 406
    assert server.get(f"{url('test-SR.dcm')}/rendered").status_code == 406


def test_thumbnails_are_small(server: Site) -> None:
    study = url().split("/series")[0]
    for path in (study, url().split("/instances")[0], url(), f"{url()}/frames/1"):
        assert max(image(server, f"{path}/thumbnail").size) == 128
    assert image(server, f"{url('rtdose.dcm')}/thumbnail?viewport=16,16").size[0] <= 16


def test_several_frames_are_one_gif_or_many_images(server: Site) -> None:
    cine = image(server, f"{url('rtdose.dcm')}/rendered", "image/gif")
    assert (cine.format, getattr(cine, "n_frames", 1)) == ("GIF", 15)
    some = image(server, f"{url('rtdose.dcm')}/frames/3,1/rendered", "image/gif")
    assert getattr(some, "n_frames", 1) == 2
    found = images_of(server.get(f"{url('rtdose.dcm')}/frames/1,2,15/rendered", 'multipart/related; type="image/png"'))
    assert [each.format for each in found] == ["PNG"] * 3
    last = image(server, f"{url('rtdose.dcm')}/frames/15/rendered")
    assert np.array_equal(np.asarray(found[2]), np.asarray(last))


def test_a_study_and_a_series_are_rendered_image_by_image(server: Site) -> None:
    study = url().split("/series")[0]
    for path in (study, url().split("/instances")[0]):
        (found,) = images_of(server.get(f"{path}/rendered", 'multipart/related; type="image/jpeg"'))
        assert found.size == (64, 64)
        refused = server.get(f"{path}/rendered", "image/jpeg")
        assert refused.status_code == 406
        assert 'multipart/related; type="image/jpeg"' in refused.json()["detail"]


def images_of(answer: requests.Response) -> list[Image.Image]:
    assert answer.status_code == 200, answer.text
    found: list[bytearray] = []
    for event in Splitter(boundary_of(answer.headers["Content-Type"])).feed(answer.content):
        if isinstance(event, PartStart):
            found.append(bytearray())
        elif isinstance(event, PartData):
            found[-1] += event.data
    return [Image.open(io.BytesIO(each)) for each in found]


def test_annotations_are_burnt_in(server: Site) -> None:
    whole = np.asarray(image(server, f"{url()}/rendered")).astype(int)
    top, bottom = (
        np.abs(np.asarray(image(server, f"{url()}/rendered?annotation={kind}")).astype(int) - whole)
        for kind in ("patient", "technique")
    )
    assert top[:12].any()
    assert bottom[40:].any()
    both = np.asarray(image(server, f"{url()}/rendered?annotation=patient,technique"))
    assert not np.array_equal(both, whole)


@pytest.mark.parametrize("profile", ["yes", "srgb", "adobergb", "rommrgb", "displayp3"])
def test_colours_come_with_their_profile(renderer: Renderer, profile: str) -> None:
    with path_of("examples_rgb_color.dcm").open("rb") as file:
        _, _, offset = read(file)
        table = frame_table(file, offset)
        plain, coded = (
            Image.open(io.BytesIO(renderer.render(file, Wish("image/png", iccprofile=each), 1, table)))
            for each in ("no", profile)
        )
    assert "icc_profile" not in plain.info
    embedded = coded.info["icc_profile"]
    srgb = ImageCms.createProfile("sRGB")
    back = ImageCms.profileToProfile(coded, io.BytesIO(embedded), srgb, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert back is not None
    assert np.abs(np.asarray(back).astype(int) - np.asarray(plain)).mean() < 3
    if profile not in ("yes", "srgb"):
        assert not np.array_equal(np.asarray(coded), np.asarray(plain))


def test_a_small_viewport_shows_what_the_large_image_does(renderer: Renderer, tmp_path: Path) -> None:
    dataset = next(iter(phantom_study(1, 512)))
    path = written(tmp_path, dataset)
    large = Image.fromarray(rendered(renderer, path)).resize((64, 64), Image.Resampling.BOX)
    small = rendered(renderer, path, Wish("image/png", viewport=Viewport(64, 64)))
    assert np.abs(np.asarray(large).astype(int) - small).mean() < 6


def test_rendered_images_are_kept_up_to_a_limit() -> None:
    renderer, made = Renderer(0, kept=100), []

    def make(number: int) -> bytes:
        made.append(number)
        return bytes(20)

    for number in (1, 2, 3, 4, 5, 1, 6, 1, 2):
        assert renderer.kept(str(number), lambda number=number: make(number)) == bytes(20)  # type: ignore[misc]
    assert made == [1, 2, 3, 4, 5, 6, 2]


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm"]
)
def test_windows_agree_with_pydicoms(renderer: Renderer, name: str) -> None:
    """All of the frame's own transforms, against `apply_modality_lut` and `apply_voi_lut`, scaled to 8 bits."""
    dataset = dcmread(path_of(name))
    rescaled = apply_modality_lut(dataset.pixel_array, dataset)
    dataset.WindowCenter, dataset.WindowWidth = float(np.median(rescaled)), float(np.ptp(rescaled)) / 2 + 1
    shown = apply_voi_lut(rescaled, dataset, prefer_lut=False)
    low, high = shown.min(), shown.max()
    window = Window(float(dataset.WindowCenter), float(dataset.WindowWidth), "LINEAR")
    image = rendered(renderer, path_of(name), Wish("image/png", window))
    expected = (np.asarray(shown, float) - low) / (high - low) * 255
    inside = (image > 0) & (image < 255)
    assert inside.any()
    top, bottom = image.max(), image.min()
    if (top, bottom) == (255, 0):
        assert np.abs(image.astype(float) - expected)[inside].max() <= 1.5
