"""Coding of pictures: an encoder as a film and the user's options ask for it, and what it makes as plain packets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.errors import one_line
from semanir_plugin.inference.films.colours import Coding, to_planes
from semanir_plugin.inference.films.kinds import CODECS, Codec
from semanir_plugin.inference.films.reading import Film

__all__ = ["Coded", "Encoder", "Target"]

LIMITED, FULL = 1, 2  # FFmpeg's numbers of ranges


@dataclass(frozen=True)
class Coded:
    """A picture as it is coded.

    Attributes:
        pts: When it is shown.
        duration: For how long; 0: until the next.
        key: Whether decoding can begin with it.
        data: What the decoder takes.
    """

    pts: int
    duration: int
    key: bool
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be coded, and how.

    Attributes:
        film: What the source says.
        scale: How many times as high and wide the result is.
        codec: A key of `CODECS`.
        crf: Quality; None: nothing is lost.
    """

    film: Film
    scale: int
    codec: str
    crf: int | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        return self.scale * self.film.width, self.scale * self.film.height

    @property
    def coding(self) -> Coding:
        """What samples of the result mean: as those of the source, with colours at full resolution for odd sizes."""
        told, (width, height) = self.film.coding, self.size
        fits = width % told.across == 0 and height % told.down == 0
        across, down = (told.across, told.down) if fits else (1, 1)
        return Coding(matrix=told.matrix, full=told.full, depth=told.depth, across=across, down=down)

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the samples' layout."""
        coding = self.coding
        colours = {(2, 2): "420", (2, 1): "422", (1, 1): "444"}[coding.across, coding.down]
        return f"yuv{colours}p{'' if coding.depth == 8 else '10le'}"

    def configure(self, context: Any) -> None:
        """Set a codec context of PyAV before it is opened."""
        import av

        codec: Codec = CODECS[self.codec]
        context.width, context.height = self.size
        context.pix_fmt = self.pixel_format
        context.time_base, context.framerate = self.film.time_base, self.film.rate
        if self.film.aspect:
            context.sample_aspect_ratio = self.film.aspect
        context.colorspace, context.color_range = self.coding.matrix, FULL if self.coding.full else LIMITED
        context.color_primaries, context.color_trc = self.film.primaries, self.film.transfer
        context.flags |= av.codec.context.Flags.global_header | av.codec.context.Flags.closed_gop
        context.bit_rate = 0
        context.options = {**dict(codec.more), **({} if self.crf is None else {"crf": str(self.crf)})}


class Encoder:
    """Codes pictures, of which the first can be decoded alone and the last needs none that follow.

    Raises:
        ValueError: The encoder is missing, or cannot have such pictures.
    """

    def __init__(self, target: Target) -> None:
        import av

        self.target, self._durations = target, dict[int, int]()
        os.environ.setdefault("SVT_LOG", "1")  # errors alone of what SVT-AV1 tells on the terminal
        name = CODECS[target.codec].encoder
        try:
            codec = av.Codec(name, "w")
        except av.codec.codec.UnknownCodecError as error:
            raise ValueError(
                f"PyAV has no {name} here, which makes {target.codec}; take another --video-codec"
            ) from error
        known = {each.name for each in codec.video_formats or ()}
        if known and target.pixel_format not in known:
            raise ValueError(
                f"{target.codec} holds no {target.pixel_format}, as it would be; take another --video-codec"
            )
        self._context: Any = av.CodecContext.create(codec, "w")
        target.configure(self._context)
        try:
            self._context.open()
        except av.error.FFmpegError as error:
            width, height = target.size
            told = f"{target.codec} cannot hold pictures of {width:,} x {height:,}"
            raise ValueError(f"{told} ({one_line(error)}); take another --video-codec") from error

    def encode(self, pixels: NDArray[np.uint16], pts: int, duration: int) -> list[Coded]:
        """Take a picture, (H, W, 3) or (H, W, 1), and return what is coded by now."""
        self._durations[pts] = duration
        return self._coded(self._context.encode(self._frame(pixels, pts, duration)))

    def finish(self) -> list[Coded]:
        """Return what was not yet."""
        return self._coded(self._context.encode(None))

    def _coded(self, packets: Iterable[Any]) -> list[Coded]:
        return [Coded(each.pts, self._durations[each.pts], each.is_keyframe, bytes(each)) for each in packets]

    def _frame(self, pixels: NDArray[np.uint16], pts: int, duration: int) -> Any:
        import av

        frame = av.VideoFrame(pixels.shape[1], pixels.shape[0], self.target.pixel_format)
        for plane, samples in zip(frame.planes, to_planes(pixels, self.target.coding), strict=True):
            _fill(plane, samples)
        frame.pts, frame.time_base, frame.duration = pts, self.target.film.time_base, duration
        frame.colorspace, frame.color_range = self._context.colorspace, self._context.color_range
        frame.color_primaries, frame.color_trc = self._context.color_primaries, self._context.color_trc
        return frame


def _fill(plane: Any, samples: NDArray[Any]) -> None:
    rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size // samples.itemsize), samples.dtype)
    rows[: samples.shape[0], : samples.shape[1]] = samples
    plane.update(rows)
