"""How images are encoded in a dataset: PNG, WebP without loss, or JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sono.curation.images.pixels import Pixels
from sono.manifests.errors import UserError, did_you_mean

Format = Literal["png", "webp", "jpeg"]

_LOSSLESS_WEBP = 101  # OpenCV's quality above 100
_SIZE_OF_PNG = {"png": 1.0, "webp": 0.7, "jpeg": 0.25}  # rough: it only decides where shards are cut


@dataclass(frozen=True)
class ImageFormat:
    """An encoding; ``quality`` is JPEG's, 1 to 100."""

    name: Format = "png"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.name not in get_args(Format):
            known = f"choose one of: {', '.join(get_args(Format))}"
            raise UserError(
                f"unknown image format {self.name!r}", fix=did_you_mean(self.name, get_args(Format)) or known
            )
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality {self.quality} is not JPEG's", fix="give 1 to 100")

    @property
    def size_of_png(self) -> float:
        """About how large an image is, as a share of its PNG."""
        return _SIZE_OF_PNG[self.name]

    def encode(self, pixels: Pixels) -> bytes:
        """An image without any metadata. WebP has no grey images: grey ones become RGB of equal channels."""
        # Imported here, because a run that finds everything up to date does not need OpenCV.
        import cv2

        from sono.curation.images.stored_png import encode_png

        if self.name == "png":
            return encode_png(pixels)
        bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        if self.name == "webp":
            options = [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS_WEBP]
        else:
            options = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        done, encoded = cv2.imencode(f".{self.name}", bgr, options)
        assert done
        return encoded.tobytes()

    def convert(self, png: bytes) -> bytes:
        """A stored PNG in this format; a PNG stays as it is."""
        from sono.curation.images.stored_png import decode_png

        return png if self.name == "png" else self.encode(decode_png(png))
