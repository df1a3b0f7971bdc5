"""Lines of `got run`: what is at work, and which processes train."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.rehearsal import __main__ as command
from deployments.rehearsal import findings
from deployments.rehearsal.findings import Mismatch
from deployments.rehearsal.run_log import RunLog, Worker


def test_workers_and_where_they_begin() -> None:
    log = RunLog()
    log.add("  pretrain: worker 2 of 2 is process 4711 on host-1 (cpu), from step 0\n")
    log.add("  pretrain: step 4 of 12, loss 1.000, about 0 min left\n")
    log.add("  pretrain: worker 1 of 2 is process 4712 on host-1 (cpu), from step 4\n")
    log.add("  finetune: worker 1 of 1 is process 4713 on host-1 (cuda), from step 0\n")
    assert log.of("pretrain") == [Worker("pretrain", 2, 4711, 0), Worker("pretrain", 1, 4712, 4)]
    assert len(log.lines) == 4


def test_seconds_go_to_the_part_at_work() -> None:
    log = RunLog(clock=iter([0.0, 1.0, 3.0, 6.0, 10.0]).__next__)
    for line in (
        "  images-00000: raw_images (missing)",
        "  images-00000: 13 of 13 samples in tars",
        "  edits-00000: edit_descriptions, edit_boxes (missing)",
        "  edits-00000: edit_pairs (missing)",
    ):
        log.add(line)
    log.end()
    assert log.seconds == {"start of got run": 1.0, "ingestion": 6.0, "annotation to tars": 3.0}


def test_a_mismatch_says_what_was_found_and_expected(tmp_path: Path) -> None:
    assert findings.expect("rows", 3, 3) == ("rows", "3")
    with pytest.raises(Mismatch, match="rows: found 2, expected 3"):
        findings.expect("rows", 2, 3)
    with pytest.raises(Mismatch, match="training_plan"):
        findings.document(tmp_path, "training_plan")


def test_a_folder_in_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["rehearsal", str(tmp_path)])
    assert command.main() == 2
    assert "is not empty" in capsys.readouterr().err
