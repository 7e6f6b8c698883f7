"""Images kept as JPEG files, for benchmarks that are too large to keep decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

QUALITY = 95
"""Of the JPEG files: at 256 x 256 about 27 kB an image, a seventh of its pixels, which move by about 1.3 of 255."""


@dataclass(frozen=True)
class EncodedImages:
    """Images of one size (height, width) that are decoded when they are read.

    Their JPEG files stand one after another in `content` (bytes,); `bounds` (n, 2) are the first byte of each and the
    end. Rows are selected as those of decoded images (n, height, width, 3). `pool` decodes batches.
    """

    content: Tensor
    bounds: Tensor
    size: tuple[int, int]
    pool: ThreadPoolExecutor = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.bounds), *self.size, 3)

    @property
    def nbytes(self) -> int:
        """The bytes of the decoded images."""
        return len(self.bounds) * self.size[0] * self.size[1] * 3

    def __getitem__(self, rows: slice | list[int]) -> EncodedImages:
        return replace(self, bounds=self.bounds[rows])

    def file(self, i: int) -> Tensor:
        """The bytes of the JPEG file of image i."""
        start, end = self.bounds[i].tolist()
        return self.content[start:end]

    def decoded(self, i: int) -> Tensor:
        """Image i, uint8 (3, height, width)."""
        return decoder()(self.file(i))

    def batch(self, indices: Tensor, device: torch.device | str) -> Tensor:
        """Some images, uint8 (n, height, width, 3): decoded on a GPU that has nvJPEG, else on all cores."""
        if torch.device(device).type == "cuda":
            try:
                from torchvision.io import ImageReadMode, decode_jpeg

                files = [self.file(i) for i in indices.tolist()]
                return torch.stack(decode_jpeg(files, ImageReadMode.RGB, device)).permute(0, 2, 3, 1)
            except ImportError:
                pass
            except RuntimeError as error:
                if "nvjpeg" not in str(error).lower():  # else torchvision was built without it
                    raise
        return torch.stack(list(self.pool.map(self.decoded, indices.tolist()))).permute(0, 2, 3, 1)


@functools.cache
def decoder() -> Callable[[Tensor], Tensor]:
    """The function from the bytes of a JPEG file to its image, uint8 (3, height, width).

    It is torchvision's, or Pillow's where torchvision, which has deprecated it, has none; both give the same image.
    """
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:
        return with_pillow
    return lambda file: decode_jpeg(file, ImageReadMode.RGB)


def with_pillow(file: Tensor) -> Tensor:
    """The image of a JPEG file, decoded by Pillow."""
    return torch.from_numpy(np.array(Image.open(BytesIO(file.numpy().tobytes())))).permute(2, 0, 1)


def encode(image: Image.Image) -> bytes:
    """The JPEG file of an RGB image."""
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
