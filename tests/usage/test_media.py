"""Pixels and seconds are read from real headers, and are unknown for anything else."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eco2_callbacks.usage.media import audio_seconds, block_bytes, image_class, image_pixels
from tests.support.examples import examples

_WAV_RATE = 8000


def png(width: int, height: int, padding: int = 0) -> bytes:
    """Return the header of a PNG, followed by a text chunk of some length."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"tEXt", b"x" * padding)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def jpeg(width: int, height: int, metadata: int) -> bytes:
    """Return the header of a JPEG with metadata of some length before its size."""
    segments = b""
    while metadata > 0:
        size = min(metadata, 65_000)
        segments += b"\xff\xe2" + struct.pack(">H", size + 2) + bytes(size)
        metadata -= size
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    return b"\xff\xd8" + segments + frame + b"\xff\xd9"


def wav(seconds: float) -> bytes:
    """Return silence of some length as WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_WAV_RATE)
        sound.writeframes(bytes(2 * round(seconds * _WAV_RATE)))
    return file.getvalue()


def mp3(frames: int) -> bytes:
    """Return silence as MPEG-1 Layer III, 128 kbit/s at 44.1 kHz: 417 bytes and 1152 samples a frame."""
    return (b"\xff\xfb\x90\x00" + bytes(413)) * frames


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


PICTURE = png(3, 2)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": coded(PICTURE), "mime_type": "image/png"},
        {"type": "image", "base64": PICTURE},
        {"type": "image", "source_type": "base64", "data": coded(PICTURE)},
        {"type": "media", "data": PICTURE, "mime_type": "image/png"},
        {"type": "media", "data": bytearray(PICTURE)},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{coded(PICTURE)}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{coded(PICTURE)}"},
        {"type": "input_audio", "input_audio": {"data": coded(PICTURE), "format": "wav"}},
        {"type": "image", "base64": coded(PICTURE).rstrip("=")},
        {"type": "image", "base64": base64.encodebytes(PICTURE).decode()},
    ],
    ids=[
        "standard",
        "raw_bytes",
        "source_type",
        "media",
        "bytearray",
        "image_url",
        "image_url_text",
        "input_audio",
        "no_padding",
        "line_breaks",
    ],
)
def test_bytes_are_found_in_every_shape(block: dict[str, Any]) -> None:
    """The bytes of a block are found in each shape that LangChain and the providers use."""
    assert block_bytes(block) == PICTURE


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image", "base64": None},
        {"type": "image", "base64": 7},
        {"type": "image", "base64": "a"},
        {"type": "image", "base64": "é"},
        {"type": "image_url", "image_url": None},
        {"type": "image_url", "image_url": {"url": ["x"]}},
        {"type": "file", "file_id": "file-1"},
    ],
    ids=[
        "empty",
        "text",
        "link",
        "standard_link",
        "none",
        "number",
        "half_a_byte",
        "no_base64",
        "no_image_url",
        "list_for_url",
        "file_id",
    ],
)
def test_a_reference_holds_no_bytes(block: dict[str, Any]) -> None:
    """A block without bytes of its own has none; nothing is fetched."""
    assert block_bytes(block) is None
    assert image_pixels(block) is None


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (png(1024, 1024), (1024, 1024)),
        (png(1376, 768, padding=100_000), (1376, 768)),
        (jpeg(640, 480, metadata=0), (640, 480)),
        (jpeg(4096, 2304, metadata=200_000), (4096, 2304)),
        (b"GIF89a" + struct.pack("<HH", 5, 4) + bytes(3), (5, 4)),
    ],
    ids=["png", "large_png", "jpeg", "jpeg_with_long_metadata", "gif"],
)
@pytest.mark.parametrize("encode", [coded, lambda data: base64.encodebytes(data).decode()], ids=["plain", "lines"])
def test_pixels_are_read_from_the_header(data: bytes, pixels: tuple[int, int], encode: Any) -> None:
    """An image's size is read whatever metadata precedes it and however its base64 is laid out."""
    assert image_pixels({"type": "image", "base64": encode(data)}) == pixels


@pytest.mark.parametrize("data", [b"", b"hello", png(0, 0), PICTURE[:12]], ids=["empty", "text", "no_area", "cut_off"])
def test_pixels_of_no_image_are_unknown(data: bytes) -> None:
    """Bytes that are no image, or have no area, have no size."""
    assert image_pixels({"type": "image", "base64": coded(data)}) is None


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        # The threshold between two classes is half the area of the larger class's square.
        ((4096, 2049), "4K"),
        ((4096, 2048), "4K"),
        ((4096, 2047), "2K"),
        ((2048, 1025), "2K"),
        ((2048, 1024), "2K"),
        ((2048, 1023), "1K"),
        ((1024, 513), "1K"),
        ((1024, 512), "1K"),
        ((1024, 511), "512x512"),
        ((512, 257), "512x512"),
        ((512, 256), "512x512"),
        ((512, 255), "1K"),
        ((1, 1), "1K"),
        (None, "1K"),
        # The shapes of Gemini's 1K, 2K and 4K: https://ai.google.dev/gemini-api/docs/image-generation
        ((1024, 1024), "1K"),
        ((1376, 768), "1K"),
        ((1584, 672), "1K"),
        ((2752, 1536), "2K"),
        ((3168, 1344), "2K"),
        ((5504, 3072), "4K"),
        ((10**200, 10**200), "4K"),
    ],
)
def test_an_image_belongs_to_the_class_of_its_area(pixels: tuple[int, int] | None, expected: str) -> None:
    """An image's class follows from its area; an unknown or tiny image is billed as 1K."""
    assert image_class(pixels) == expected


@pytest.mark.parametrize("seconds", [0.5, 1, 10, 61.25])
def test_the_playing_time_of_a_wav_is_read(seconds: float) -> None:
    """The playing time of a WAV is read from its header."""
    assert audio_seconds(wav(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("frames", [100, 383, 2000])
def test_the_playing_time_of_an_mp3_is_read(frames: int) -> None:
    """The playing time of an MP3 is that of its frames, within one percent."""
    # 1152 samples a frame at 44,100 a second
    assert audio_seconds(mp3(frames)) == pytest.approx(frames * 1152 / 44_100, rel=0.01)


@pytest.mark.parametrize(
    "data", [b"", b"hello", wav(0), wav(1)[:20], PICTURE], ids=["empty", "text", "silent", "cut", "png"]
)
def test_bytes_without_audio_have_no_playing_time(data: bytes) -> None:
    """Bytes that are no audio, or hold none, have no playing time."""
    assert audio_seconds(data) is None


ARBITRARY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=60)
    | st.sampled_from([coded(PICTURE), "data:", "data:,", "https://x", coded(wav(0.1))]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["url", "data"]), inner, max_size=2),
    max_leaves=4,
)
BLOCKS = st.dictionaries(
    st.sampled_from(["type", "base64", "data", "image_url", "input_audio", "url", "source_type"]), ARBITRARY, max_size=5
)
# Magic bytes, so that a parser continues into the bytes that follow.
MAGIC = st.sampled_from(
    [
        b"",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"GIF89a",
        b"\xff\xd8\xff\xc0",
        b"\xff\xd8\xff\xe1",
        b"RIFF\x24\0\0\0WEBPVP8 ",
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
        b"ID3\x03\0\0\0\0\0\x0a",
        b"\xff\xfb\x90\0",
        b"OggS\0\x02",
        b"fLaC\0\0\0\x22",
        b"\0\0\0\x20ftypM4A ",
        b"\0\0\0\x20ftypavif",
        b"FORM\0\0\0\x40AIFFCOMM",
        b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel",
        b"II*\0",
        b"P6 ",
        b"<svg ",
        b"<?xml version='1.0'?><svg width='",
    ]
)
FILES = st.builds(lambda magic, repeat, rest: magic * repeat + rest, MAGIC, st.integers(1, 3), st.binary(max_size=120))


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(BLOCKS)
def test_any_block_is_read(block: dict[str, Any]) -> None:
    """Bytes and pixels of any block are read or unknown."""
    assert isinstance(block_bytes(block), bytes | None)
    assert isinstance(block_bytes(block, max_base64=64 * 1024), bytes | None)
    assert image_class(image_pixels(block)) in ("512x512", "1K", "2K", "4K")


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(FILES)
def test_any_bytes_are_read(data: bytes) -> None:
    """Size and length of any bytes are positive or unknown."""
    pixels = image_pixels({"base64": data})
    seconds = audio_seconds(data)

    assert pixels is None or min(pixels) > 0
    assert image_class(pixels) in ("512x512", "1K", "2K", "4K")
    assert seconds is None or 0 < seconds < float("inf")


@pytest.mark.parametrize(
    "data",
    [
        b"P6 " + b"9" * 300 + b" " + b"9" * 300 + b" 255\n",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="' + b"9" * 200 + b'" height="' + b"9" * 200 + b'"></svg>',
        b'<svg xmlns="http://www.w3.org/2000/svg" width="' + b"9" * 400 + b'" height="1"></svg>',
    ],
    ids=["pnm", "svg", "svg_infinite"],
)
def test_an_absurd_size_is_a_large_image_or_none(data: bytes) -> None:
    """A header with more pixels than a float can hold raises nothing."""
    assert image_class(image_pixels({"base64": data})) in ("1K", "4K")
