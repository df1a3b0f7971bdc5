"""What a recipe may choose about a benchmark run.

Belongs here: the numbers of a run, and which benchmarks the graph has. Not here: the rules of a benchmark,
which are fixed by its protocol, and what published benchmarks need (`published`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from got_core.evaluate.judged_names import is_own, shipped_names
from got_core.model.config import GuidanceReuse

SCENE_ASSETS = {
    "geneval": "geneval/scenes",
    "scene_edits": "edits/scenes",
    "scene_imagenhub": "imagenhub/scenes",
    "scene_emu_edit": "emu_edit/scenes",
    "scene_reason_edit": "reason_edit/scenes",
}
"""Benchmarks on rendered scenes: key of the asset, name of the benchmark."""

DEFAULT_BENCHMARKS = ("geneval/scenes", "edits/scenes")
"""Those that score a model of scenes unless others are named."""

PUBLISHED_ASSETS = {
    "published_geneval": "geneval",
    "emu_edit_base": "emu_edit/base",
    "emu_edit_large": "emu_edit/large",
    "magicbrush_base": "magicbrush/base",
    "magicbrush_large": "magicbrush/large",
    "geneval2": "geneval2",
    "geneval2_published": "geneval2/published",
    **{name.replace("/", "_"): name for name in shipped_names()},
    "reason_edit_masked": "reason_edit/masked",
    "reason_edit_masked_published": "reason_edit/masked/published",
}
"""Published benchmarks, of which data and networks are the user's own download (GOT_BENCHMARKS). A user's own
benchmark `judged/NAME` has the key `judged_NAME`."""

BENCHMARK_ASSETS = SCENE_ASSETS | PUBLISHED_ASSETS
"""All that can score a candidate, in the order of the report."""

_SAMPLER = ("num_inference_steps", "text_scale", "spatial_scale", "guidance_reuse", "max_new_tokens")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which benchmarks there are, sizes and seeds of those on scenes, and the sampler of all; a sampler field
    left at None is the pipeline's own."""

    benchmarks: tuple[str, ...] = DEFAULT_BENCHMARKS
    """Names of the benchmarks that score a candidate: on rendered scenes, published ones, or a user's own
    such as `judged/my_edits` (a folder below GOT_BENCHMARKS). Empty: it is registered without scores, and
    promotion compares the held-out loss instead."""

    images_per_task: int = 100
    """Pictures drawn and judged for each of the six tasks of `geneval/scenes`, for each sampling seed."""

    sampling_seeds: tuple[int, ...] = (0,)
    """Each draws the whole prompt list (and all edits) with noise of its own; scores are given for each, with
    mean and spread. 0 is the list's own seeds."""

    repair: str = "off"
    """`both`: plans that fall short of their prompt are also repaired and drawn again, and both scores stand
    side by side. `off`: they are drawn as they are."""

    edit_images: int = 42
    """Pictures edited and judged by `edits/scenes`, for each sampling seed, spread evenly over the kinds of
    edit."""

    edit_steps: int = 3
    """Most steps of one instruction in `edits/scenes`; above 1 edits of several steps are a kind of their
    own."""

    reason_images: int = 48
    """Pictures edited and judged by `reason_edit/scenes`, for each sampling seed, spread evenly over its
    tasks."""

    stage_images: int = 20
    """Pictures of each task of `geneval/scenes`, and half as many of each kind of edit of `edits/scenes`, on
    which the models of all stages are compared (`stages`): the first ones of these benchmarks. 0: they are
    not."""

    max_change_outside: float = 7.0
    """Levels (of 255) by which an edit may change the picture outside the old and new boxes, on average. The
    patch autoencoder alone changed 240 scenes by at most 2.4 (plain grey) and 5.9 (full world, noise); in
    another run one of 200 scenes of the full world by 7.7."""

    max_trace: float = 10.0
    """Levels (of 255) by which the pixels that an object has left may differ from the true background, on
    average, in an edit that counts as right (`traces`). The patch autoencoder alone left at most 8.0 in 312
    such edits of the full world, and at most 1.2 in 100 removals; copied sources differ there by about 75."""

    keep_outside: str = "off"
    """`both`: edits are also drawn again from the same plans with the source put back outside their boxes
    (`keep_outside` of the pipeline), and both scores stand side by side. `off`: only without."""

    batch_size: int = 50
    """Prompts planned and drawn in one call. Not part of the protocol."""

    seed: int = 20_250
    """Seed of the prompt list, and through it of every picture; also of the bootstrap."""

    bootstrap: int = 1000
    """Resamples behind each interval."""

    num_inference_steps: int | None = None
    """Sampler steps a picture."""

    text_scale: float | None = None
    """Guidance scale of the text branch (alpha_t)."""

    spatial_scale: float | None = None
    """Guidance scale of the layout branch (alpha_s)."""

    guidance_reuse: GuidanceReuse | None = None
    """At which steps all branches of the guidance formula are computed."""

    max_new_tokens: int | None = None
    """Longest chain the model may write, in tokens."""

    self_test: int = 60
    """Known scenes on which the detector is tried before a run; a run with a broken detector is refused."""

    grid_per_task: int = 6
    """Pictures of each task shown in the grid: the first ones, never chosen ones."""

    @property
    def assets(self) -> dict[str, str]:
        """Those of BENCHMARK_ASSETS that score a candidate, and the user's own."""
        own = {name.replace("/", "_"): name for name in self.benchmarks if is_own(name)}
        return {key: name for key, name in BENCHMARK_ASSETS.items() if name in self.benchmarks} | own

    @property
    def on_scenes(self) -> tuple[str, ...]:
        """Those of the benchmarks that draw and judge rendered scenes."""
        return tuple(name for name in self.benchmarks if name in SCENE_ASSETS.values())

    @property
    def stage_requests(self) -> dict[str, int]:
        """Requests of each task on which the models of all stages are compared, by benchmark; empty where
        they are not."""
        sizes = {"geneval/scenes": self.stage_images, "edits/scenes": -(-self.stage_images // 2)}
        return {name: size for name, size in sizes.items() if size and name in self.benchmarks}

    @property
    def published(self) -> tuple[str, ...]:
        """Those of the benchmarks that are published ones, or the user's own."""
        known = PUBLISHED_ASSETS.values()
        return tuple(name for name in self.benchmarks if name in known or is_own(name))

    @property
    def sampler(self) -> dict[str, Any]:
        """Arguments that are forced on the pipeline; empty where the model's own defaults count."""
        return {name: getattr(self, name) for name in _SAMPLER if getattr(self, name) is not None}

    def measuring(self, name: str | None = None) -> dict[str, Any]:
        """What the result of a benchmark on scenes (of that name) depends on: everything but which others
        there are, and what those alone depend on.

        Guidance that is not reused is left out, so that what was scored before there was a choice stays so.
        """
        left_out = {"benchmarks", "stage_images"} | (
            {"guidance_reuse"} if self.guidance_reuse is None else set()
        )
        left_out |= set() if name == SCENE_ASSETS["scene_reason_edit"] else {"reason_images"}
        return {key: value for key, value in asdict(self).items() if key not in left_out}

    def __post_init__(self) -> None:
        known = tuple(BENCHMARK_ASSETS.values())
        unlike = set(self.benchmarks)
        unknown = [name for name in self.benchmarks if name not in known and not is_own(name)]
        if unknown or len(unlike) < len(self.benchmarks):
            raise ValueError(
                f"EvaluateConfig.benchmarks must be none, one or more of {', '.join(known)} and of your own "
                f"(judged/NAME), each once, got {self.benchmarks}"
            )
        counts = ("images_per_task", "edit_images", "edit_steps", "reason_images", "batch_size", "bootstrap")
        for field in (*counts, "self_test", "grid_per_task"):
            if getattr(self, field) < 1:
                raise ValueError(f"EvaluateConfig.{field} must be at least 1, got {getattr(self, field)}")
        if self.stage_images < 0:
            raise ValueError(f"EvaluateConfig.stage_images must be at least 0, got {self.stage_images}")
        if not self.sampling_seeds or len(set(self.sampling_seeds)) < len(self.sampling_seeds):
            raise ValueError(
                f"EvaluateConfig.sampling_seeds must be one or more unlike numbers, got {self.sampling_seeds}"
            )
        for field in ("repair", "keep_outside"):
            if getattr(self, field) not in ("off", "both"):
                raise ValueError(f"EvaluateConfig.{field} must be off or both, got {getattr(self, field)!r}")
