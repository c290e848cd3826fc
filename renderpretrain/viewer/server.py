"""Contents in a browser: viser's server, a panel with check boxes and sliders, and nodes for what is seen."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from renderpretrain.viewer.contents import Cells, Cloud, Contents, Layer, Lines, PicturedCamera, Thing
from renderpretrain.viz.ply import Mesh

BACKGROUND = (24, 24, 28)
"""Behind the scene: colours of points are made for a dark ground."""

CAMERA_SIZE = 1 / 12
"""A camera's size in space, by the reach of its scene."""

LINE = 1 / 900
"""The thickness of a line, by the reach of its scene."""

CUBE_FACES = (
    *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5)),  # across x
    *((0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6)),  # across y
    *((0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)),  # across z
)
"""Corners of the triangles of a cube, counter-clockwise from outside."""


@runtime_checkable
class Source(Protocol):
    """What there is to see: scenes, perhaps at several states of a recipe's weights."""

    @property
    def title(self) -> str:
        """The name of the recording or the run, as the page is headed."""

    @property
    def scenes(self) -> Sequence[int]:
        """Numbers of the scenes that can be chosen, at least one."""

    @property
    def states(self) -> Sequence[str]:
        """Names of the weights that can be chosen, in order; none of a recording."""

    def at_once(self, scene: int) -> Contents | None:
        """What of a scene can be seen before its contents are computed; ``None`` where these take no time.

        Raises:
            ValueError: If the scene cannot be read.
        """

    def contents(self, scene: int, state: int) -> Contents:
        """All there is to see of a scene by its number, at a state by its place among them.

        Raises:
            ValueError: If the scene or the weights cannot be read.
        """


def check_viser() -> Any:
    """The module.

    Raises:
        ValueError: If it is missing; says how to install it.
    """
    try:
        import viser
    except Exception as error:  # broken installs raise more than ImportError
        raise ValueError(f"view: needs viser ({error}): pip install 'renderpretrain[viewer]'") from error
    return viser


def check_address(host: str, port: int) -> None:
    """Refuse an address on which nothing can listen.

    Args:
        host: A name or an address of this machine.
        port: 0 is any that is free.

    Raises:
        ValueError: If it is in use, or is none of this machine's.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        raise ValueError(
            f"port: expected a free one on {host}, got {port} ({reason.lower()}); --port 0 chooses one"
        ) from error


class Viewer:
    """A page in the browser that shows a :class:`Source`.

    Whoever made it calls :meth:`run`, in whose thread all is computed; the panel only says what is wanted.

    Args:
        source: What there is to see.
        scene: The number of the first scene.
        state: The place of the first weights; the last by default.
        host: Where to listen.
        port: Likewise; 0 is any that is free.
        say: Told what goes wrong.

    Raises:
        ValueError: If viser is missing or the address cannot be had.
    """

    def __init__(
        self,
        source: Source,
        *,
        scene: int,
        state: int | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
        say: Callable[[str], None] = print,
    ) -> None:
        viser = check_viser()
        check_address(host, port)
        self.source, self.say = source, say
        with redirect_stdout(StringIO()):  # it prints a frame around what `address` says
            self.server = viser.ViserServer(host=host, port=port, label=source.title, verbose=False)
        self.server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        self.server.scene.set_background_image(np.full((2, 2, 3), BACKGROUND, np.uint8))
        self.server.scene.world_axes.visible = False
        last = max(len(source.states) - 1, 0)
        self.wanted = [scene, last if state is None else state]
        self.shown: list[int] | None = None
        self.nodes_lock = threading.RLock()  # the panel calls from threads of its own
        self.changed = threading.Event()
        self.changed.set()
        self.nodes: dict[str, list[Any]] = {}
        self.boxes: dict[str, Any] = {}
        self.choices: dict[str, Any] = {}
        self.drawn: Contents | None = None
        self.told = ""  # the status of what is drawn
        self._make_panel()

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def close(self) -> None:
        """Let go of the address; browsers that look see no more changes."""
        self.server.stop()

    def run(self) -> None:
        """Draw what is wanted, again and again; ends with the process."""
        while True:
            self.changed.wait(1.0)  # a wait without an end cannot be interrupted on Windows
            self.draw()

    def draw(self) -> bool:
        """Draw what is wanted, if that is not what is shown; says whether something was drawn."""
        if not self.changed.is_set():
            return False
        self.changed.clear()
        wanted = list(self.wanted)
        if wanted == self.shown:
            self.status.content = self.told
            return False
        self.status.content = "computing ..."
        try:
            self._show_at_once(wanted[0])
            contents = self.source.contents(*wanted)
        except (ValueError, OSError, RuntimeError) as error:  # the last: a GPU's memory is full
            self.status.content = f"**cannot be shown**: {error}"
            self.say(f"scene {wanted[0]}: {error}")
            return False
        self._show(contents)
        self.shown = wanted
        return True

    def _show_at_once(self, scene: int) -> None:
        """Where nothing is shown yet, show what needs no computing."""
        contents = self.source.at_once(scene) if self.drawn is None else None
        if contents is not None:
            self._show(contents)
            self.status.content = f"**{contents.title}**\n\ncomputing what the run makes of it ..."

    def _make_panel(self) -> None:
        """Sliders, and places for what the contents decide."""
        gui, scenes, states = self.server.gui, self.source.scenes, self.source.states
        self.status = gui.add_markdown("computing ...")
        if len(states) > 1:
            gui.add_markdown("weights: " + ", ".join(f"{n} = {name}" for n, name in enumerate(states)))
            slider = gui.add_slider("weights", 0, len(states) - 1, 1, self.wanted[1])
            slider.on_update(lambda _: self._want(1, int(slider.value)))
        if len(scenes) > 1:
            place = list(scenes).index(self.wanted[0])
            among = gui.add_slider("scene", scenes[0], scenes[-1], 1, scenes[place])
            among.on_update(lambda _: self._want(0, int(among.value)))
        self.colored_by = gui.add_folder("colours")
        self.layer_boxes = gui.add_folder("shown")

    def _want(self, what: int, value: int) -> None:
        """Note what somebody has chosen."""
        self.wanted[what] = value
        self.changed.set()

    def _show(self, contents: Contents) -> None:
        """Replace what is shown, all at once; what was switched off stays off."""
        first, self.drawn = self.drawn is None, contents
        with self.nodes_lock, self.server.atomic():
            self._check_boxes(contents.layers)
            self._dropdowns(contents)
            for node in (node for nodes in self.nodes.values() for node in nodes):
                node.remove()
            self.nodes = {layer.name: list(self._nodes(layer, contents.reach)) for layer in contents.layers}
        lines = [f"**{contents.title}**", *(f"not shown: {remark}" for remark in contents.remarks)]
        self.status.content = self.told = "\n\n".join(lines)
        if first:
            self._look_at(contents)

    def _look_at(self, contents: Contents) -> None:
        """Where a browser looks from at first."""
        camera, up = self.server.initial_camera, tuple(contents.up.tolist())
        self.server.scene.set_up_direction(up)
        camera.up = up
        camera.look_at = tuple(contents.target.tolist())
        camera.position = tuple(contents.eye.tolist())

    def _check_boxes(self, layers: Sequence[Layer]) -> None:
        """A check box for each layer; those of layers that are gone go, too."""
        for name in set(self.boxes) - {layer.name for layer in layers}:
            self.boxes.pop(name).remove()
        for layer in layers:
            if layer.name not in self.boxes:
                with self.layer_boxes:
                    box = self.server.gui.add_checkbox(layer.name, layer.shown)
                box.on_update(lambda event, name=layer.name: self._switch(name, event.target.value))
                self.boxes[layer.name] = box

    def _switch(self, name: str, visible: bool) -> None:
        """Show or hide a layer."""
        with self.nodes_lock, self.server.atomic():
            for node in self.nodes.get(name, ()):
                node.visible = visible

    def _dropdowns(self, contents: Contents) -> None:
        """What colours and pictures stand for, for each layer that has several."""
        for layer in contents.layers:
            options = choices(layer)
            known = self.choices.get(layer.name)
            if known is not None and set(known.options) == set(options):
                continue
            value = known.value if known is not None and known.value in options else None
            if known is not None:
                self.choices.pop(layer.name).remove()
            if len(options) > 1:
                with self.colored_by:
                    chosen = self.server.gui.add_dropdown(layer.name, options, initial_value=value)
                chosen.on_update(lambda _, name=layer.name: self._recolor(name))
                self.choices[layer.name] = chosen
        for name in set(self.choices) - {layer.name for layer in contents.layers}:
            self.choices.pop(name).remove()

    def _recolor(self, name: str) -> None:
        """Give the things of a layer what was chosen."""
        with self.nodes_lock, self.server.atomic():
            layers = () if self.drawn is None else self.drawn.layers
            things = next((layer.things for layer in layers if layer.name == name), ())
            for thing, node in zip(things, self.nodes.get(name, ()), strict=True):
                if isinstance(thing, Cloud):
                    node.colors = self._chosen(name, thing.colors).numpy()
                if isinstance(thing, PicturedCamera):
                    node.image = self._chosen(name, thing.pictures).numpy()

    def _chosen(self, name: str, options: Any) -> Tensor:
        """The colours or the picture that is chosen for a layer; the first where there is none."""
        chosen = self.choices.get(name)
        first = next(iter(options))
        return options[chosen.value if chosen is not None and chosen.value in options else first]

    def _nodes(self, layer: Layer, reach: float) -> Iterator[Any]:
        """A layer's nodes, one for each of its things."""
        visible = self.boxes[layer.name].value
        for number, thing in enumerate(layer.things):
            own = thing.name if isinstance(thing, PicturedCamera) else str(number)
            node = self._node(f"/{layer.name}/{own}", thing, layer.name, reach)
            node.visible = visible
            yield node

    def _node(self, name: str, thing: Thing, layer: str, reach: float) -> Any:
        """A thing as a node of the page's scene."""
        scene = self.server.scene
        if isinstance(thing, Cloud):
            colors = self._chosen(layer, thing.colors).numpy()
            points = thing.points.numpy()
            return scene.add_point_cloud(
                name, points, colors, point_size=thing.size, point_shape="circle", point_shading="flat"
            )
        if isinstance(thing, PicturedCamera):
            image = self._chosen(layer, thing.pictures).numpy()
            return scene.add_camera_frustum(
                name,
                thing.field_of_view,
                image.shape[1] / image.shape[0],
                scale=reach * CAMERA_SIZE,
                thickness=reach * LINE,
                color=(90, 220, 255),
                image=image,
                wxyz=import_module("viser.transforms").SO3.from_matrix(thing.pose[:3, :3].numpy()).wxyz,
                position=tuple(thing.pose[:3, 3].tolist()),
            )
        if isinstance(thing, Lines):
            return scene.add_line_segments(
                name,
                thing.segments.numpy(),
                thing.colors[:, None].expand(-1, 2, -1).numpy(),
                thickness=reach * LINE,
            )
        if isinstance(thing, Cells):
            return self._cells(name, thing)
        return self._mesh(name, thing)

    def _cells(self, name: str, cells: Cells) -> Any:
        """Boxes, each a little smaller than its cell, so that neighbours can be told apart."""
        sides = 0.92 * np.asarray(cells.size, np.float32)
        corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
        turns = np.tile(np.array([1, 0, 0, 0], np.float32), (len(cells.centers), 1))
        return self.server.scene.add_batched_meshes_simple(
            name,
            (corners * sides).astype(np.float32),
            np.array(CUBE_FACES, np.uint32),
            turns,
            cells.centers.numpy(),
            batched_colors=cells.colors.numpy(),
            flat_shading=True,
            lod="off",
            cast_shadow=False,
            receive_shadow=False,
        )

    def _mesh(self, name: str, mesh: Mesh) -> Any:
        """A surface in its colours, seen from both sides."""
        trimesh = import_module("trimesh")  # comes with viser
        colors = None if mesh.colors is None else (255 * mesh.colors.clamp(0, 1)).byte().numpy()
        faces = np.zeros((0, 3), int) if mesh.faces is None else mesh.faces.numpy()
        solid = trimesh.Trimesh(mesh.vertices.numpy(), faces, vertex_colors=colors, process=False)
        return self.server.scene.add_mesh_trimesh(name, solid, cast_shadow=False, receive_shadow=False)


def choices(layer: Layer) -> tuple[str, ...]:
    """What the colours of a layer's points, or the pictures of its cameras, can stand for."""
    found: dict[str, None] = {}
    for thing in layer.things:
        if isinstance(thing, Cloud):
            found |= dict.fromkeys(thing.colors)
        if isinstance(thing, PicturedCamera):
            found |= dict.fromkeys(thing.pictures)
    return tuple(found)
