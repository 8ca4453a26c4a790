"""A folder of brackets, one after the other: what fails is named at the end, and what is done is not done again."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import re
import signal
import threading
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from tqdm import tqdm

from hdr._errors import RefusedError
from hdr._files import check_folder, check_takes_files, identity
from hdr.bracket import Bracket
from hdr.cli._bracket import check_output, merge_bracket, parsed, read_bracket
from hdr.cli._console import about, note, noted_warnings, print_table, say
from hdr.cli._memory import keep_memory
from hdr.cli._ranks import Ranks
from hdr.cli._refusals import refusal
from hdr.cli._results import Result, find_results
from hdr.cli._settings import BracketSettings, FolderSettings, MergerSettings, OutputSettings, check_display_options
from hdr.delivery import check_encoder
from hdr.folder import Contents, ShotGroup, find_brackets
from hdr.merge import Merger
from hdr.settings import DisplaySettings

_NO_ROOM = re.compile("|".join(re.escape(os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT)))
_PREVIEWS = ("jpg", "png", "tif", "avif", "jxl")


@dataclass(frozen=True)
class _Job:
    group: ShotGroup
    photographs: str
    out: Path
    reading: BracketSettings
    output: OutputSettings
    display: DisplaySettings | None


def merge_folder(
    folder: Path,
    out: Path,
    grouping: FolderSettings,
    reading: BracketSettings,
    merging: MergerSettings,
    output: OutputSettings,
    display: DisplaySettings | None,
) -> int:
    """Merge all brackets of a folder; 0 if every one has its result, 1 if something failed.

    Of several processes each merges its share, and all return what the worst of them does.
    """
    ranks = Ranks.of_environment()
    _check(folder, out, grouping, reading, output, display)
    with tqdm(desc="Reading the folder", unit=" files", delay=1, disable=ranks.rank > 0) as bar:
        contents = find_brackets(folder, group=grouping.group, gap=grouping.gap, exclude=out, progress=bar.update)
    stated = reading.times is not None or reading.ev is not None
    brackets = [group for group in contents.groups if len(group.shots) > 1 and (stated or not group.problem)]
    found = find_results(brackets, out, grouping.radiance, force=output.force)
    if ranks.rank == 0:
        _show(folder, contents, {group: one.group.name for group, one in zip(brackets, found, strict=True)})
        others = zip(brackets, found, strict=True)
        renamed = [one.group.name for group, one in others if not one.done and one.group.name != group.name]
        if renamed:
            say(f"Named otherwise, for {out} holds what is of other photographs by the first name: {_some(renamed)}")
    if grouping.dry_run:
        if ranks.rank == 0:
            _say_what_is_there(found, out, output.preview, "")
        return 0
    if not contents.groups:
        raise RefusedError(f"{folder}: none of its pictures can be read; why is told above of each")
    if not brackets:
        raise RefusedError(f"{folder}: no brackets; state --group if the pictures belong together nevertheless")
    out.mkdir(parents=True, exist_ok=True)
    share = ranks.share(found)
    if not output.force:
        _say_what_is_there(share, out, output.preview, ranks.name)
    waiting = [
        _Job(
            result.group,
            result.photographs,
            out / f"{result.group.name}.{grouping.radiance}",
            reading,
            _outputs(output, out / result.group.name),
            display,
        )
        for result in share
        if output.force or not result.done
    ]
    merging = dataclasses.replace(merging, device=ranks.device(merging.device))
    failed = _merge_all(waiting, merging, grouping.jobs, out, ranks)
    if ranks.rank == 0:
        for path, reason in contents.unreadable.items():
            note(f"Failed: {_name(path, folder)}: {reason}")
    return int(any(ranks.gathered(bool(failed or contents.unreadable))))


def _say_what_is_there(found: Sequence[Result], out: Path, preview: Path | None, rank: str) -> None:
    """Say how many results are there already, how they are known, and which have no preview."""
    done = [result for result in found if result.done]
    if not done:
        return
    say(f"{rank}{len(done)} of {len(found)} are in {out} already.")
    by_name = [result.group.name for result in done if result.by_name]
    if by_name:
        note(
            f"{rank}Note: {_counted(len(by_name), 'bracket')} of these are known by their names alone, "
            f"{_some(by_name)}: earlier versions did not write down of which photographs a result is; where it is of "
            "others, give another --out; --force merges anew, in its place"
        )
    lacking = [name for name in (result.group.name for result in done) if not _has_preview(out, name, preview)]
    if lacking:
        note(
            f"{rank}Note: {_counted(len(lacking), 'bracket')} of these have no .{preview}, {_some(lacking)}: "
            "hdr tonemap makes one of the radiance, and --force merges anew"
        )


def _merge_all(waiting: list[_Job], merging: MergerSettings, processes: int, out: Path, ranks: Ranks) -> bool:
    """Merge what is left to do, and say what became of it; whether something failed."""
    merged = _merged(waiting, merging, processes)
    results = tqdm(merged, total=len(waiting), desc="Merging", unit=" brackets", disable=ranks.rank > 0)
    done, failed = 0, {}
    for name, reason in results:
        done += 1
        if reason:
            failed[name] = reason
        if _NO_ROOM.search(reason):
            merged.close()  # hours of merging for nothing
            break
    results.close()
    say(f"{ranks.name}Merged {_counted(done - len(failed), 'bracket')} into {out}")
    for name, reason in failed.items():
        note(f"{ranks.name}Failed: {name}: {reason}")
    if done < len(waiting):
        note(
            f"{ranks.name}Failed: {_counted(len(waiting) - done, 'bracket')} more, left undone, for there is no room "
            f"in {out}: make some, and run the same command again"
        )
    return bool(failed)


def _check(
    folder: Path,
    out: Path,
    grouping: FolderSettings,
    reading: BracketSettings,
    output: OutputSettings,
    display: DisplaySettings | None,
) -> None:
    """Raise now, before the folder is read, what would be said of every bracket in it."""
    if grouping.jobs < 1:
        raise RefusedError(f"--jobs is at least 1, got {grouping.jobs}")
    if any(one is not None for one in (output.exposure_map, output.report, output.save_response, reading.exposures)):
        raise RefusedError(
            "--exposure-map, --report, --save-response and --exposures are for one bracket; give its files"
        )
    if output.preview is not None and output.preview.name not in _PREVIEWS:
        raise RefusedError(f"of a folder, --preview is one of {', '.join(_PREVIEWS)}; got {output.preview}")
    if output.preview is not None:
        check_encoder(f"preview.{output.preview}", output.gain_map)
    elif output.gain_map:
        raise RefusedError("--gain-map is of the preview; state --preview jpg")
    if output.half and grouping.radiance != "exr":
        raise RefusedError("only .exr files hold 16-bit float; leave --half out, or state --radiance exr")
    if output.preview is not None and output.preview.name == grouping.radiance:
        raise RefusedError(
            f"radiance and preview would have one name, as .{grouping.radiance}; choose another --preview"
        )
    preview = None if output.preview is None else Path(f"preview.{output.preview}")
    check_display_options(preview, output.operator, display, gain_map=output.gain_map)
    parsed(reading)
    check_folder(out)
    if not grouping.dry_run:
        check_takes_files(out)
    if identity(out) == identity(folder):
        raise RefusedError(f"{out} holds the photographs; choose another folder for the results")


def _outputs(output: OutputSettings, stem: Path) -> OutputSettings:
    # A preview without the radiance, which is written last, is of a run that was cut short.
    output = dataclasses.replace(output, force=True)
    if output.preview is None:
        return output
    return dataclasses.replace(output, preview=stem.with_name(f"{stem.name}.{output.preview.name}"))


def _has_preview(out: Path, name: str, preview: Path | None) -> bool:
    return preview is None or (out / f"{name}.{preview.name}").is_file()


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))  # on a card one name comes again in every folder


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _show(folder: Path, contents: Contents, merged: Mapping[ShotGroup, str]) -> None:
    rows = []
    for group in contents.groups:
        if len(group.shots) > 1:
            exposures = [shot.exposure for shot in group.shots]
            known = [exposure for exposure in exposures if exposure is not None]
            ratios = " : ".join("?" if t is None else f"{t / min(known):.3g}" for t in exposures)
            taken = group.shots[0].taken
            problem = "" if group in merged else group.problem
            rows.append(
                [
                    merged.get(group, group.name),
                    str(taken or ""),
                    ", ".join(shot.path.name for shot in group.shots),
                    ratios,
                    problem,
                ]
            )
    if rows:
        print_table("Brackets", ["Name", "Taken", "Pictures", "Exposures", "Not merged because"], [], rows)
    single = [group.shots[0].path.name for group in contents.groups if len(group.shots) == 1]
    if single:
        say(f"Left out: {_counted(len(single), 'single picture')}, {_some(single)}")
    if contents.left_out:
        beside = [path.name for path in contents.left_out]
        say(f"Left out for raw files of the same shots: {_counted(len(beside), 'developed picture')}, {_some(beside)}")
    if contents.copies:
        copies = [_name(path, folder) for path in contents.copies]
        say(f"Left out for other files of the same shots: {_counted(len(copies), 'picture')}, {_some(copies)}")
    if contents.results:
        results = [_name(path, folder) for path in contents.results]
        say(f"Left out for being results themselves: {_counted(len(results), 'picture')}, {_some(results)}")
    for path in contents.links:
        note(f"Note: {_name(path, folder)} is a link to a folder, which is not followed; give that folder by itself")
    if contents.stand_ins:
        raw = [path.name for path in contents.stand_ins]
        reason = next(iter(contents.stand_ins.values()))
        note(
            f"Note: {_counted(len(raw), 'raw file')} cannot be read, {_some(raw)}, and the developed pictures beside "
            f"are taken instead; to merge the raw files, update rawpy, or convert them to DNG ({reason})"
        )
    for path, reason in contents.unreadable.items():
        note(f"Not read: {_name(path, folder)}: {reason}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _merged(jobs: list[_Job], merging: MergerSettings, processes: int) -> Generator[tuple[str, str]]:
    """Name and reason of failure, empty if there is none, of every bracket as it is done."""
    if not jobs:
        return
    if processes == 1 or len(jobs) == 1:
        keep_memory()
        merger = merging.merger()
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(_read, jobs[0])
            for job, following in zip(jobs, [*jobs[1:], None], strict=True):
                wait([ahead])
                reading = ahead
                if following is not None:
                    # One ahead and no more: the bracket before is let go by now, so that there are two at most.
                    ahead = reader.submit(_read, following)
                yield job.group.name, _attempt(job, merger, reading)
                del reading
        return
    # A fresh process each: a forked one would share the threads of PyTorch, and hang.
    context = multiprocessing.get_context("spawn")
    is_over = context.Event()
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _begin_work, (merging, processes, is_over)) as pool:
        with _interrupts_left_to_the_command():
            waiting = {pool.submit(_work, job): job.group.name for job in jobs}
        try:
            for future in as_completed(waiting):
                error = future.exception()
                if error is not None and not isinstance(error, BrokenProcessPool):
                    raise error
                lost = "its process ended, perhaps for lack of memory; run again with fewer --jobs"
                yield waiting[future], lost if error is not None else future.result()
        finally:
            is_over.set()
            pool.shutdown(cancel_futures=True)  # what is interrupted begins no further bracket


_merger: Merger | None = None
_is_over: Event | None = None


@contextmanager
def _interrupts_left_to_the_command() -> Iterator[None]:
    """Context in which processes are begun that hear Ctrl-C only when they ask, for importing would tell it at length.

    Outside of the main thread, which alone can say that, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_work(merging: MergerSettings, processes: int, is_over: Event) -> None:
    global _merger, _is_over
    import torch

    command = multiprocessing.parent_process()
    assert command is not None
    threading.Thread(target=_end_with, args=(command,), daemon=True).start()
    keep_memory()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    _merger, _is_over = merging.merger(), is_over
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_with(command: BaseProcess) -> None:
    """End this process with the command, which may be killed: nobody else would tell it that there is no more work."""
    command.join()
    os._exit(1)


def _work(job: _Job) -> str:
    assert _merger is not None
    if _is_over is not None and _is_over.is_set():
        return "interrupted"
    with noted_warnings():
        return _attempt(job, _merger)


def _read(job: _Job) -> Bracket:
    """Read a bracket, perhaps while the one before it is merged: nothing here may touch what threads share."""
    with about(job.group.name):
        check_output(job.output, job.group.paths, job.out)
        return read_bracket(job.group.paths, job.reading, job.output)


def _attempt(job: _Job, merger: Merger, reading: Future[Bracket] | None = None) -> str:
    """Merge a bracket, read before or not; why it failed, or nothing."""
    try:
        bracket = _read(job) if reading is None else reading.result()
        with about(job.group.name):
            merge_bracket(
                bracket, job.out, merger, job.output, job.display, photographs=job.photographs, progress=False
            )
    except Exception as error:
        told = refusal(error, "merge")
        if told is None:  # one mistake of ours does not keep the other brackets from being merged
            note(f"{job.group.name}: {traceback.format_exc()}")
            return f"{type(error).__name__}, a mistake of this program; its traceback is told above"
        return told
    return ""
