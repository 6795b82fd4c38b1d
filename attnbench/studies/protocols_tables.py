"""The study of measuring procedures as tables: one row a procedure, one row an arm; Markdown, CSV and JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbench import inert
from attnbench.errors import AttnbenchError
from attnbench.machine.environment import Environment
from attnbench.report.evidence import Estimate
from attnbench.report.tables import Column, Table, Value, comma_separated, markdown
from attnbench.results.lines import decode

RESULT = "protocols.json"
MOVED = (
    "A ratio's move is this procedure's speed ratio divided by that of the procedure that it is compared with. `moved` "
    "counts the moves that are significant (Welch's test over processes, Holm's rule, 95 %). It is empty where a "
    "procedure has a single process: compare these moves with those of a procedure that was measured again."
)
TAU = (
    "Kendall's tau between the two rankings by speed. Its 95 % interval is a bootstrap of processes and of the rounds "
    "in each (Davison and Hinkley 1997, 3.8 and 5.2), on each side the wider of percentile and basic. Of a single "
    "block the calls are resampled, and a single process gets the bias of other processes: the authors' from their two "
    "blocks, the others from ours."
)


def tables(data: Mapping[str, Any]) -> list[Table]:
    """What `attnbench.studies.protocols.measure` returns, as tables: departures, ratios, moves."""
    return [_departures(data), _ratios(data), _moves(data)]


def write(data: Mapping[str, Any], out: Path) -> list[Path]:
    """Write protocols.json, protocols.md and a CSV file for each table; return the paths.

    Raises:
        AttnbenchError: a file cannot be written.
    """
    made = tables(data)
    texts = {RESULT: json.dumps(data, indent=1, allow_nan=False) + "\n", "protocols.md": _page(data, made)}
    texts |= {f"{table.name}.csv": comma_separated(table) for table in made}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AttnbenchError(f"{out} cannot be written: {error.strerror or error}; use another --out") from error
    return [out / name for name in texts]


def conclusion(data: Mapping[str, Any]) -> str:
    """One sentence: how far the authors' procedure moves the ratios and the ranking, and which part moves them most."""
    rows = {row["name"]: row for row in data["procedures"]}
    authors, again = rows["authors"], rows["ours-again"]
    parts = [r for r in rows.values() if r["against"] == "ours" and r["name"] not in ("authors", "ours-again")]
    most = max(parts, key=lambda row: row["median_move"])
    return (
        f"The authors' procedure moves a ratio by {authors['median_move']:.1%} (median; at most "
        f"{authors['greatest_move']:+.1%}, {authors['greatest_arm']}) and swaps {authors['swapped']} of "
        f"{authors['pairs']} pairs; ours measured again moves it by {again['median_move']:.1%} and swaps "
        f"{again['swapped']}. Of the single departures, `{most['title']}` moves ratios most: {most['median_move']:.1%}."
    )


def _departures(data: Mapping[str, Any]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for row in data["procedures"]:
        if row["against"] is None:
            continue
        moved = None if row["moved"] is None else f"{row['moved']} of {len(row['moves'])}"
        rows.append((
            row["title"], row["against"], Estimate(row["median_move"]), Estimate(row["greatest_move"]),
            row["greatest_arm"], moved, f"{row['swapped']} of {row['pairs']}", _tau(row["tau"]),
            Estimate(row["seconds"]),
        ))  # fmt: skip
    columns = (
        Column("procedure", "procedure"), Column("against", "against"),
        Column("median_move", "median move", "%", 0.01, 3), Column("greatest_move", "greatest", "%", 0.01, 3),
        Column("greatest_arm", "of"), Column("moved", "moved"), Column("swapped", "pairs swapped"),
        Column("tau", "Kendall's tau", digits=3), Column("seconds", "time", "s", digits=3),
    )  # fmt: skip
    return Table("departures", "What each departure changes", MOVED, columns, tuple(rows), notes=(TAU,))


def _ratios(data: Mapping[str, Any]) -> Table:
    procedures = data["procedures"]
    arms = list(dict.fromkeys(arm for row in procedures for arm in row["ratios"]))
    rows = [
        (arm, *(Estimate(row["ratios"][arm]) if arm in row["ratios"] else None for row in procedures)) for arm in arms
    ]
    columns = (Column("arm", "arm"), *(Column(row["name"], row["name"], digits=3) for row in procedures))
    caption = f"Speed ratio of each arm to {data['request']['reference']}, by procedure; above 1 the arm is faster."
    return Table("ratios", "Every ratio", caption, columns, tuple(rows))


def _moves(data: Mapping[str, Any]) -> Table:
    rows: list[tuple[Value, ...]] = [
        (row["name"], row["against"], m["arm"], Estimate(m["estimate"], m["low"] or None, m["high"]),
         None if m["p"] is None else Estimate(m["p"]))
        for row in data["procedures"]
        for m in row.get("moves", ())
    ]  # fmt: skip
    columns = (
        Column("procedure", "procedure"), Column("against", "against"), Column("arm", "arm"),
        Column("move", "move"), Column("p", "p", digits=2),
    )  # fmt: skip
    caption = "Ratio there / ratio here, with the 95 % interval over processes where both have several."
    return Table("moves", "Every move", caption, columns, tuple(rows))


def _tau(tau: Mapping[str, float | None]) -> Value:
    return None if tau["estimate"] is None else Estimate(tau["estimate"], tau["low"], tau["high"])


def _page(data: Mapping[str, Any], made: list[Table]) -> str:
    request, machine = data["request"], decode(Environment, data["environment"])
    height, width = request["res"]
    head = [
        "# What the authors' measuring procedure changes",
        "",
        f"{inert.markdown(data['created'])}, attnbench {inert.markdown(data['attnbench'])}, "
        f"{inert.markdown(machine.cpu.model)} ({inert.markdown(machine.machine_label)}), "
        f"device {inert.markdown(request['device'])}, {height}x{width} px, batch {request['batch']}, "
        f"our procedure `{request['protocol']}`. Made by `{data['command']}`.",
        "",
        inert.markdown(conclusion(data)),
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(markdown(table) for table in made)
