"""Settings of what items are known by: texts, pictures, or both. Light on purpose."""

from __future__ import annotations

from typing import Literal

from recbole_llm.core.marks import Again, Local
from recbole_llm.core.settings import Count, FieldName, Settings, Text


class ItemSettings(Settings):
    """What items are known by, and their pictures (PNG, JPEG or WebP files)."""

    item_feature: Literal["item_text", "item_image", "item_multimodal"] = "item_text"
    """Item vectors that models read: of texts, of pictures (encoder: image or multimodal), or of
    both together (encoder: multimodal), where an item without a picture goes by its text."""

    item_image_folder: Local[Again[Text | None]] = None
    """Folder of the pictures; None: images/ in the data set's folder, or with item_image_field
    that folder itself."""

    item_image_field: FieldName | None = None
    """Field of the .item file that holds paths in item_image_folder; None: the files are named by
    item token, such as 42.png."""

    item_image_max_pixels: Count = 16_000_000
    """Pixels of the largest picture that is read; a larger one counts as missing."""
