"""Commands about video data sets: `reverie data import|info|check|sheet|export`."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.cli.arguments import Commands, Parser, add_command, at_least_one, not_negative
from reverie.cli.json_output import print_json
from reverie.errors import ConfigError
from reverie.paths import place, short
from reverie.stop_signals import StopSignals, exit_code

if TYPE_CHECKING:
    from reverie.data.importer import Outcome
    from reverie.data.options import ImportOptions
    from reverie.data.parts import Failure
    from reverie.data.video_dataset import VideoDataset
    from reverie.types import Array

EXAMPLE = "data import videos data/videos --size 64"
EXAMPLES = """\
examples:
  reverie data import videos data/videos --size 64       a folder of mp4, webm, avi
  reverie data import videos data/videos --size 64 --dry-run     what it would cost
  reverie data import 20bn data/ssv2 --preset ssv2 --list train_video_folder.txt
  reverie data import pusht data/pusht --camera observation.image --size 64
  reverie data import episodes data/episodes             npz: image, action, reward
  reverie data import videos data/videos --size 64 --part 1/4    one of 4 machines

Importing again takes only what is new. docs/video_data.md explains all of it."""
SHEET_CLIPS = 8
GIB = 1 << 30
OPTIONS = (
    *("kind", "size", "crop", "skip", "stride", "fps", "min_frames", "labels", "codec"),
    *("camera", "image_key", "action_key", "reward_key"),
)
"""Of `ImportOptions`, that the command line takes."""


def add_data(commands: Commands) -> None:
    """Add the commands to the command line."""
    parser = commands.add_parser("data", help="import and look at video data sets")
    actions: Commands = parser.add_subparsers(required=True, metavar="ACTION")
    _add_import(actions)
    text = "say what a data set holds"
    info = add_command(actions, "info", _info, text, "data info data/videos")
    _add_folder(info)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    text = "compare a data set with its checksums"
    _add_folder(add_command(actions, "check", _check, text, "data check data/videos"))
    text = "draw frames of some clips in one picture"
    sheet = add_command(actions, "sheet", _sheet, text, "data sheet data/videos")
    _add_folder(sheet)
    sheet.add_argument("--clips", type=at_least_one, default=SHEET_CLIPS, help="number of clips")
    sheet.add_argument("--out", default="sheet.png", help="PNG file (default: sheet.png)")
    text = "write a data set's clips as files for other programs"
    export = add_command(actions, "export", _export, text, "data export data/videos out")
    _add_folder(export)
    export.add_argument("out", metavar="FOLDER", help="new folder")
    export.add_argument(
        "--format",
        choices=["npz", "mp4", "lerobot"],
        default="npz",
        help="npz: exact (default); mp4: frames alone; lerobot: LeRobot v3.0",
    )


def _add_folder(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DATA", help="folder of a data set")


def _add_import(actions: Commands) -> None:
    text = "turn video into a data set"
    parser = add_command(actions, "import", _import, text, EXAMPLE, epilog=EXAMPLES)
    parser.add_argument("source", metavar="SOURCE", help="folder or file with video")
    parser.add_argument("target", metavar="TARGET", help="folder of the data set")
    frames = parser.add_argument_group("frames")
    frames.add_argument("--preset", help="ssv2, human36m, youtube_driving or ivideogpt_demos")
    frames.add_argument("--size", type=at_least_one, help="side in pixels (default: as it is)")
    frames.add_argument(
        "--crop", choices=["stretch", "centre"], help="what becomes of oblong frames (stretch)"
    )
    frames.add_argument("--skip", type=not_negative, help="leave out frames at the start")
    frames.add_argument("--stride", type=at_least_one, help="then keep every n-th")
    frames.add_argument("--fps", type=_number, help="keep so many a second, by timestamps")
    frames.add_argument("--codec", choices=["raw", "lz4", "jpeg"], help="how they lie (raw)")
    clips = parser.add_argument_group("clips")
    clips.add_argument("--list", help="file with lines `name frames label`")
    clips.add_argument("--labels", type=_labels, help="keep these labels, e.g. 93,94")
    clips.add_argument("--min-frames", type=at_least_one, help="leave out shorter ones")
    keys = parser.add_argument_group("formats")
    kinds = ["video", "frames", "npz", "lerobot"]
    keys.add_argument("--kind", choices=kinds, help="format of SOURCE (default: found out)")
    keys.add_argument("--camera", help="of a LeRobot data set, e.g. observation.images.top")
    keys.add_argument("--image-key", help="of npz episodes (image)")
    keys.add_argument("--action-key", help="of npz and LeRobot (action)")
    keys.add_argument("--reward-key", help="of npz (reward) and LeRobot (none)")
    work = parser.add_argument_group("work")
    work.add_argument("--dry-run", action="store_true", help="decode a few files and reckon")
    work.add_argument("--local", action="store_true", help="in this process, without Ray")
    work.add_argument("--address", help="Ray cluster to join (auto or host:port)")
    work.add_argument("--part", type=_part, help="i/n: a share, without Ray, e.g. 1/4")
    work.add_argument("--strict", action="store_true", help="exit with 2 if a file was broken")
    work.add_argument("--licence", default="", help="a note about the right to use the data")


def _labels(text: str) -> tuple[str, ...]:
    return tuple(label.strip() for label in text.split(",") if label.strip())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= found[0] <= found[1]:
        raise argparse.ArgumentTypeError(f"expected i/n such as 1/4, got {text!r}")
    return found


def _import(arguments: argparse.Namespace) -> int:
    from reverie.data.options import make_options
    from reverie.data.parts import ImportStopped

    given: dict[str, Any] = {name: getattr(arguments, name) for name in OPTIONS}
    options = make_options(arguments.preset, **given)
    if arguments.dry_run:
        return _dry_run(arguments, options)
    with StopSignals() as signals:
        signals.waits = True
        try:
            outcome = _run_import(arguments, options, signals)
        except ImportStopped as error:
            print(f"reverie: {error}", file=sys.stderr)
            return exit_code(signals.first) if signals.first else 2
    return _tell(arguments, outcome)


def _run_import(
    arguments: argparse.Namespace, options: ImportOptions, signals: StopSignals
) -> Outcome:
    from reverie.data.importer import import_data, run_here

    on_ray = None
    if not arguments.local and arguments.part is None:
        from reverie.cluster.data_import import RayGroups

        on_ray = RayGroups(place(arguments.source), arguments.address)
        signals.listen()
    try:
        return import_data(
            arguments.source,
            arguments.target,
            options,
            list_file=arguments.list,
            licence=arguments.licence,
            part=arguments.part or (1, 1),
            run_groups=on_ray or run_here,
            should_stop=signals.told,
            say=lambda text: print(text, flush=True),
        )
    finally:
        if on_ray is not None:
            on_ray.close()


def _tell(arguments: argparse.Namespace, outcome: Outcome) -> int:
    target = short(place(arguments.target))
    if outcome.groups_left:
        print(f"{target}: {outcome.groups_left} groups are left for the other parts")
        return 0
    words = [f"{outcome.clips} clips, {outcome.frames} frames, {outcome.new} of the clips new"]
    words += [f"{outcome.short} sources too short"] if outcome.short else []
    words += [f"{len(outcome.failed)} broken"] if outcome.failed else []
    print(f"{target}: {', '.join(words)}")
    if not outcome.failed:
        return 0
    print(_broken(outcome.failed, target), file=sys.stderr)
    return 2 if arguments.strict else 0


def _broken(failed: Any, target: Path) -> str:
    first: Failure = failed[0]
    return (
        f"reverie: {len(failed)} sources are broken and left out, see {target}/import.json; the"
        f" first: {first.name}: {first.reason}"
    )


def _dry_run(arguments: argparse.Namespace, options: ImportOptions) -> int:
    from reverie.data.dry_run import check_room, estimate
    from reverie.data.sources.find import find_sources

    listed = place(arguments.list) if arguments.list else None
    sources = find_sources(place(arguments.source), options, listed)
    target = place(arguments.target)
    found = estimate(sources, target, options)
    print(f"{found.sources} sources, of which {found.sampled} were decoded")
    for text in found.broken:
        print(f"  broken: {text}")
    print(f"about {found.frames} frames")
    hours = found.cpu_hours / found.cores
    print(f"about {hours:.3g} hours on {found.cores} cores ({found.cpu_hours:.3g} CPU hours)")
    for codec, size in found.bytes_per_frame.items():
        whole = found.bytes_of(codec) / GIB
        print(f"  {codec:5} {size:8.0f} bytes per frame, about {whole:.3g} GiB")
    print(f"free at {short(target)}: {found.free_bytes / GIB:.3g} GiB")
    check_room(found, target, options.codec)
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from reverie.data.video_dataset import VideoDataset

    facts = _facts(VideoDataset(arguments.folder))
    if arguments.json:
        print_json(lambda: facts)
        return 0
    for key, value in facts.items():
        if key != "columns":
            print(f"{key:16} {value if value not in (None, '') else '-'}")
    for column in facts["columns"]:
        print(f"{'column':16} {_column_text(column)}")
    return 0


def _facts(dataset: VideoDataset) -> dict[str, Any]:
    from dataclasses import asdict

    from reverie.data.index import SHARDS

    clips, index = dataset.clips, dataset.index
    lengths = [clip.frames for clip in clips]
    seconds = [clip.frames / clip.fps for clip in clips if clip.fps]
    labels = Counter(clip.label for clip in clips if clip.label is not None)
    shards = {clip.shard for clip in clips}
    size = sum((dataset.folder / SHARDS / name).stat().st_size for name in shards)
    return {
        "folder": str(dataset.folder),
        "clips": len(clips),
        "frames": sum(lengths),
        "shortest": min(lengths),
        "longest": max(lengths),
        "hours": round(sum(seconds) / 3600, 4) if seconds else None,
        "height": index.shape[0],
        "width": index.shape[1],
        "codec": index.codec,
        "shards": len(shards),
        "bytes": size,
        "bytes_per_frame": round(size / sum(lengths), 1),
        "labels": len(labels),
        "tasks": len({clip.task for clip in clips if clip.task}),
        "successes": sum(clip.success is True for clip in clips),
        "action_width": index.action_width,
        "licence": index.licence,
        "digest": dataset.digest,
        "columns": [asdict(column) for column in index.columns],
    }


def _column_text(column: dict[str, Any]) -> str:
    bounds = zip(column["low"], column["high"], strict=True)
    spans = ", ".join(f"{low + 0.0:.4g}..{high + 0.0:.4g}" for low, high in bounds)
    unit = f" {column['unit']}" if column["unit"] else ""
    names = f" ({', '.join(column['names'])})" if column["names"] else ""
    return f"{column['name']}{names}: {spans}{unit}"


def _check(arguments: argparse.Namespace) -> int:
    from reverie.data.video_dataset import VideoDataset

    count = VideoDataset(arguments.folder).check()
    print(f"{short(place(arguments.folder))}: {count} clips are as they were written")
    return 0


def _sheet(arguments: argparse.Namespace) -> int:
    from reverie.cli.contact_sheet import Strip, draw_sheet
    from reverie.data.video_dataset import VideoDataset
    from reverie.video import spread, write_picture

    path = place(arguments.out)
    if path.suffix != ".png":
        raise ConfigError(f"--out: expected a file ending in .png, got {path}")
    dataset = VideoDataset(arguments.folder)
    numbers = spread(len(dataset.clips), arguments.clips).tolist()
    strips = [Strip(_clip_text(dataset, number), _film(dataset, number)) for number in numbers]
    print(f"written: {short(write_picture(path, draw_sheet(strips)))}")
    return 0


def _film(dataset: VideoDataset, number: int) -> Array:
    return dataset.window(number, 0, dataset.clips[number].frames)["image"]


def _clip_text(dataset: VideoDataset, number: int) -> str:
    clip = dataset.clips[number]
    words = [clip.name, f"{clip.frames} frames", *(w for w in (clip.label, clip.task) if w)]
    return "  ".join(words)


def _export(arguments: argparse.Namespace) -> int:
    from reverie.data.export import export

    count = export(place(arguments.folder), place(arguments.out), arguments.format)
    print(f"{count} clips are in {short(place(arguments.out))}")
    return 0
