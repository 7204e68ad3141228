"""What README says about the code is what the code says."""

import re

from pydantic_core import PydanticUndefined

from common.jobs.state import TERMINAL, TRANSITIONS
from common.settings import Settings
from tests.rules.source import ROOT

README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text below one second-level heading of README."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    return str(found)


def test_the_state_diagram_is_the_table_of_transitions() -> None:
    """A drawing that shows how jobs once lived."""
    (diagram,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", README, re.S)
    arrows = re.findall(r"^ *(\S+) --> (\S+?)(?:: (.*))?$", diagram, re.M)
    assert len(arrows) == len(diagram.strip().splitlines())
    drawn = {(source, target): cause for source, target, cause in arrows if "[*]" not in (source, target)}
    assert drawn == {(str(source), str(target)): cause for (source, target), cause in TRANSITIONS.items()}
    assert {source for source, target, _ in arrows if target == "[*]"} == {str(status) for status in TERMINAL}
    assert [target for source, target, _ in arrows if source == "[*]"] == ["queued"]


def test_the_reading_order_names_files_that_exist() -> None:
    """A newcomer sent to a file that was renamed."""
    steps = re.findall(r"^(\d+)\. `([^`]+)`", section("Reading order"), re.M)
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) >= 10
    missing = [name for _, name in steps if not (ROOT / name).is_file()]
    assert not missing


def test_the_table_of_settings_is_what_settings_says() -> None:
    """A setting that nobody finds, or a default that was changed everywhere but here."""
    table = settings_table()
    assert table in section("Settings"), f"README's table of settings is out of date; it should read\n\n{table}"


def settings_table() -> str:
    """README's table: one row for each field of Settings, in a Markdown table."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    fields = sorted(Settings.model_fields.items(), key=lambda item: not item[1].is_required())
    for name, field in fields:
        default = "required" if field.default is PydanticUndefined else _shown(field.default)
        rows.append(f"| `KILN_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def _shown(default: object) -> str:
    if default is None:
        return "unset"
    return f"`{default}`" if default not in ("", [], {}) else "empty"
