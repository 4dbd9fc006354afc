"""Draws MuJoCo models off screen, for every suite that has them.

The pixels are those of dm_control and gymnasium to the last bit. It takes less time because the
frame buffer is no larger than the image (2 ms of 16 per frame on the walker) and the scene is kept.

Simulators are imported with `import_simulator`: it names an OpenGL backend in MUJOCO_GL before
dm_control opens a display.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from reverie.types import Array

Quality = Literal["native", "light", "fast"]
SHADOWS: dict[Quality, int] = {"light": 512, "fast": 256}
"""Side of the shadow map in texels, 2048 or 4096 in the suites' own models. Shadows of 512 move a
channel by 0.03 to 0.16 of 255 on average and take 0.5 to 0.65 of the time; `fast`, also without
antialiasing, by 0.6 to 4 and takes a quarter."""
PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6", "glfw": "libglfw3"}
"""Backend -> Debian packages."""
LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
"""Backend -> library without which it cannot draw; glfw brings its own."""


def backend() -> str:
    """Return the OpenGL backend that MUJOCO_GL names, or the one that would be chosen.

    That is EGL, or OSMesa where only OSMesa is installed; glfw on other systems than Linux.
    """
    return os.environ.get("MUJOCO_GL", "").strip().lower() or _installed_backend()


def lacking_library() -> str | None:
    """Return what to do for the backend to work, None if its library is there; opens nothing."""
    name = backend()
    library = LIBRARIES.get(name)
    if library is None or _loads(library):
        return None
    return _cannot_draw(name, f"{library} is not installed")


def _installed_backend() -> str:
    if sys.platform != "linux":
        return "glfw"
    only_osmesa = not _loads(LIBRARIES["egl"]) and _loads(LIBRARIES["osmesa"])
    return "osmesa" if only_osmesa else "egl"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@functools.cache
def choose_backend() -> str:
    """Return the OpenGL backend of this process, telling all packages through MUJOCO_GL."""
    chosen = backend()
    if not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = chosen
    return chosen


def import_simulator(module: str, remedy: str) -> Any:
    """Import a package that opens a display as it is imported.

    Raises:
        ImportError: it is not installed, which `remedy` fixes, or no display can be opened.
    """
    choose_backend()
    for talkative in ("absl", "OpenGL"):  # they announce themselves at level info
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"{remedy} ({error})") from error
    except Exception as error:  # what comes depends on the library that is missing
        raise no_display(error) from error


def no_display(error: Exception) -> ImportError:
    """Word the error for a backend that does not work."""
    what = f"{type(error).__name__}: {error}"
    return ImportError(lacking_library() or _cannot_draw(choose_backend(), what))


def _cannot_draw(name: str, why: str) -> str:
    packages = PACKAGES.get(name, PACKAGES["egl"])
    return (
        f"MuJoCo cannot draw with MUJOCO_GL={name} ({why}); on Debian: apt-get install {packages}."
        " MUJOCO_GL may be egl, osmesa or glfw; env.obs=state with MUJOCO_GL=disabled needs none"
        " of them"
    )


class MujocoCamera:
    """One camera of a model, with the OpenGL context that it draws in.

    The context is current only while it is used, so that drawing and closing may happen in any
    thread.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        camera: int,
        size: int,
        quality: Quality,
        *,
        upside_down: bool = False,
    ) -> None:
        """Open a context; what is slow happens at the first frame.

        Args:
            model: The mujoco.MjModel; its visual quality is changed.
            data: Its mujoco.MjData.
            camera: Index of a camera of the model.
            size: Height and width of the image in pixels.
            quality: See `set_quality`.
            upside_down: The model has the camera so; its image is reflected, top to bottom.

        Raises:
            ImportError: no display can be opened, with the remedy.
        """
        self._mujoco = importlib.import_module("mujoco")
        set_quality(model, quality, size)
        self._model, self._data = model, data
        self._gl: Any = _open_context(size)
        self._context: Any = None
        self._rect = self._mujoco.MjrRect(0, 0, size, size)
        self._scene = self._mujoco.MjvScene(model, 1000)
        self._camera = self._mujoco.MjvCamera()
        self._camera.type = self._mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera
        self._options, self._perturb = self._mujoco.MjvOption(), self._mujoco.MjvPerturb()
        # As in dm_control: rays of distance sensors are no part of the scene.
        self._options.flags[self._mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = False
        self._pixels = np.empty((size, size, 3), np.uint8)
        # OpenGL begins with the bottom row.
        self._rows = slice(None, None, 1 if upside_down else -1)
        self._in_use = threading.Lock()
        self._at_exit = _closer(weakref.ref(self))
        # Registered after the display's own handler and so called before it: contexts freed
        # after the display print tracebacks.
        atexit.register(self._at_exit)

    def render(self) -> Array:
        """Draw what the camera sees: a fresh array uint8 [size, size, 3], its first row on top."""
        mujoco = self._mujoco
        with self._current() as context:
            mujoco.mjv_updateScene(
                self._model,
                self._data,
                self._options,
                self._perturb,
                self._camera,
                mujoco.mjtCatBit.mjCAT_ALL,
                self._scene,
            )
            mujoco.mjr_render(self._rect, self._scene, context)
            mujoco.mjr_readPixels(self._pixels, None, self._rect, context)
        return self._pixels[self._rows].copy()

    def upload_terrain(self) -> None:
        """Take over height fields that were changed; everything else is read at each frame."""
        with self._current() as context:
            for index in range(self._model.nhfield):
                self._mujoco.mjr_uploadHField(self._model, context, index)

    def upload_textures(self, indices: Iterable[int]) -> None:
        """Take over textures of the model that were changed."""
        with self._current() as context:
            for index in indices:
                self._mujoco.mjr_uploadTexture(self._model, context, index)

    def close(self) -> None:
        """Free the context; nothing can be drawn any more."""
        atexit.unregister(self._at_exit)
        with self._in_use:
            if self._gl is not None:
                self._free()

    def __del__(self) -> None:
        # At the end of Python `close_for_good` has done it; a constructor that failed did nothing.
        if hasattr(self, "_at_exit") and not sys.is_finalizing():
            self.close()

    def close_for_good(self) -> None:
        """Close as Python ends: waits for a frame under way in another thread, then holds it up.

        A daemon thread that draws while its display is taken down crashes the process.
        """
        self._in_use.acquire()
        self._free()

    @contextmanager
    def _current(self) -> Iterator[Any]:
        with self._in_use, _undisturbed():
            self._gl.make_current()
            yield self._ready_context()

    def _ready_context(self) -> Any:
        if self._context is None:
            mujoco = self._mujoco
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        return self._context

    def _free(self) -> None:
        with _undisturbed():
            if self._context is not None:
                self._gl.make_current()
                self._context.free()
            self._gl.free()
        self._gl = self._context = None


def set_quality(model: Any, quality: Quality, size: int) -> None:
    """Trade shadows and smooth edges of `model` for speed; only `native` keeps every pixel.

    The frame buffer becomes as large as the image, which changes no pixel. Has no effect on a
    context that exists already.
    """
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    if quality in SHADOWS:
        model.vis.quality.shadowsize = SHADOWS[quality]
    if quality == "fast":
        model.vis.quality.offsamples = 0


def _open_context(size: int) -> Any:
    try:
        name = choose_backend()
        if name == "glfw" and sys.platform == "linux" and not os.environ.get("DISPLAY"):
            raise RuntimeError("there is no DISPLAY")
        # Not mujoco.GLContext: that is bound to what MUJOCO_GL was when mujoco was imported.
        module = importlib.import_module(f"mujoco.{name}")
        with _undisturbed():
            return module.GLContext(size, size)
    except Exception as error:  # what comes depends on the library that is missing
        raise no_display(error) from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave this thread the context that it had, or none.

    dm_control draws noise if another context has become current behind its back; a context that
    stayed current could be used in no other thread.
    """
    if choose_backend() != "egl":
        yield
        return
    egl = importlib.import_module("mujoco.egl")
    before = egl.EGL.eglGetCurrentContext()
    try:
        yield
    finally:
        if before:
            nothing = egl.EGL.EGL_NO_SURFACE
            egl.EGL.eglMakeCurrent(egl.EGL_DISPLAY, nothing, nothing, before)
        else:
            egl.EGL.eglReleaseThread()


def _closer(reference: weakref.ref[MujocoCamera]) -> Callable[[], None]:
    def close() -> None:
        camera = reference()
        if camera is not None:
            camera.close_for_good()

    return close
