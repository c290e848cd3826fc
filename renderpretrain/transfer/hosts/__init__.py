"""The frameworks that weights go to and come from, one file each."""

from dataclasses import replace

from renderpretrain.encoders.image_names import NAMINGS
from renderpretrain.transfer.hosts.bevfusion import BEVFUSION
from renderpretrain.transfer.hosts.mmdet3d import MMDET3D
from renderpretrain.transfer.hosts.mmdet3d_017 import MMDET3D_017
from renderpretrain.transfer.hosts.openpcdet import OPENPCDET
from renderpretrain.transfer.hosts.pointcept import POINTCEPT
from renderpretrain.transfer.hosts.timm import TIMM
from renderpretrain.transfer.hosts.torch_pointcloud import TORCH_POINTCLOUD
from renderpretrain.transfer.hosts.torchvision import TORCHVISION
from renderpretrain.transfer.part import IMAGE_NORM, Part

HOSTS = {
    host.name: host
    for host in (
        OPENPCDET,
        MMDET3D,
        MMDET3D_017,
        BEVFUSION,
        POINTCEPT,
        TORCH_POINTCLOUD,
        TIMM,
        TORCHVISION,
    )
}
"""The frameworks that weights can go to, by name."""

ANY_LIBRARY = tuple(
    Part(
        naming.kind,
        "",
        f"{naming.kind} of {naming.library}",
        marker=naming.marker,
        table=naming.table,
        from_host=naming.from_host,
        norm=IMAGE_NORM if naming.kind == "ResNet" else None,
        absent=naming.absent,
    )
    for naming in NAMINGS
)
"""Image networks on their way in: who named their weights is told by the names."""

SOURCES = HOSTS | {
    "timm": replace(TIMM, parts=ANY_LIBRARY),
    "torchvision": replace(TORCHVISION, parts=ANY_LIBRARY),
    "unipad": replace(MMDET3D_017, name="unipad", title="UniPAD"),
    "ponderv2": replace(POINTCEPT, name="ponderv2", title="PonderV2"),
    "nsmae": replace(BEVFUSION, name="nsmae", title="NS-MAE"),
    "uniscene": replace(MMDET3D_017, name="uniscene", title="UniScene"),
}
"""Where weights can come from: the hosts, and the four published systems, whose files are theirs."""
