"""Tools over files, notes and a small knowledge graph."""

from __future__ import annotations

from typing import Literal

from agentflan_ray.toolbox.tool import Result, ToolFault, tool
from agentflan_ray.toolbox.world import World

MAX_NOTES = 200
MAX_SHOWN_CHARACTERS = 300
"""Longer files are shown by their start: observations are to be short."""


@tool("files", "List the files and folders in a folder.")
def list_folder(world: World, path: str = "") -> Result:
    return list(world.files.names_in(path))


@tool("files", "Read a text file.")
def read_file(world: World, path: str) -> Result:
    text = world.files.read(path)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]} ..."


@tool("files", "Write a text to a new file.")
def write_file(world: World, path: str, text: str) -> Result:
    world.files.write(path, text)
    return f"Wrote {len(text)} characters to {path}."


@tool("files", "Show how many bytes the file at a location has.", held_out=True)
def file_size(world: World, location: str) -> Result:
    return {"location": location, "bytes": len(world.files.read(location).encode())}


@tool("notes", "Search the user's notes by a word.")
def search_notes(world: World, keyword: str) -> Result:
    rows = world.rows(
        "SELECT title, text FROM notes WHERE instr(lower(title || ' ' || text), ?) ORDER BY title LIMIT 4",
        keyword.strip().lower(),
    )
    if not rows:
        raise ToolFault(f"No note matches '{keyword}'.")
    return [f"{row['title']}: {row['text']}" for row in rows]


@tool("notes", "Save a note with a title and a text.")
def add_note(world: World, title: str, text: str) -> Result:
    if not title.strip() or not text.strip():
        raise ToolFault("A note needs a title and a text.")
    if world.row("SELECT 1 FROM notes WHERE lower(title) = ?", title.strip().lower()) is not None:
        raise ToolFault(f"There is already a note called '{title}'.")
    if len(world.rows("SELECT 1 FROM notes")) >= MAX_NOTES:
        raise ToolFault(f"There is room for {MAX_NOTES} notes.")
    world.rows("INSERT INTO notes VALUES (?, ?)", title.strip(), text)
    return f"Saved the note '{title.strip()}'."


@tool("graph", "Look up founder, headquarters, product, founding_year, parent or birthplace of an entity.")
def look_up_fact(
    world: World,
    entity: str,
    relation: Literal["founder", "headquarters", "product", "founding_year", "parent", "birthplace"],
) -> Result:
    rows = world.rows("SELECT * FROM facts WHERE lower(subject) = ?", entity.strip().lower())
    if not rows:
        raise ToolFault(f"There is no entity called '{entity}'.")
    for row in rows:
        if row["relation"] == relation:
            return {"entity": row["subject"], relation: row["object"]}
    raise ToolFault(f"No {relation} is known for {rows[0]['subject']}.")


@tool("graph", "Find the company that makes a product.")
def find_maker(world: World, product: str) -> Result:
    rows = world.rows(
        "SELECT subject FROM facts WHERE relation = 'product' AND lower(object) = ? ORDER BY subject",
        product.strip().lower(),
    )
    if not rows:
        raise ToolFault(f"No company makes '{product}'.")
    return [row["subject"] for row in rows]


TOOLS = (
    list_folder,
    read_file,
    write_file,
    file_size,
    search_notes,
    add_note,
    look_up_fact,
    find_maker,
)
