"""Networks whose features are targets: frozen ones on images, and copies that slowly follow a student.

A teacher on images runs once, before training: its maps are kept on the disk (:func:`write_maps`).
"""

from renderpretrain.teachers.images import ImageTeacher
from renderpretrain.teachers.moving import EMATeacher
from renderpretrain.teachers.stored_maps import StoredMaps, image_checksum, open_maps, write_maps

__all__ = ["EMATeacher", "ImageTeacher", "StoredMaps", "image_checksum", "open_maps", "write_maps"]
