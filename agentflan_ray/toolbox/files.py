"""A small file tree in memory. Nothing in it can reach the disk: a path is only a key."""

from __future__ import annotations

from agentflan_ray.toolbox.tool import ToolFault

MAX_PATH_CHARACTERS = 120
MAX_FILE_CHARACTERS = 2_000
MAX_FILES = 200


class FileTree:
    """Files by their path relative to the root, such as ``reports/river-plan.txt``; folders exist by their files."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = dict(files)

    def read(self, path: str) -> str:
        """The text of a file; a :class:`ToolFault` where there is none."""
        path = inside(path)
        if path not in self.files:
            kind = "is a folder, not a file" if self._entries(path) else "does not exist"
            raise ToolFault(f"The path '{path or '.'}' {kind}.")
        return self.files[path]

    def names_in(self, path: str) -> list[str]:
        """Names in a folder, sorted; those of folders end in a slash."""
        path = inside(path)
        if path in self.files:
            raise ToolFault(f"The path '{path}' is a file, not a folder.")
        entries = self._entries(path)
        if not entries and path:
            raise ToolFault(f"There is no folder '{path}'.")
        return entries

    def write(self, path: str, text: str) -> None:
        """Create a file; a :class:`ToolFault` where it would replace one, or where a limit is reached."""
        path = inside(path)
        if not path or self._entries(path):
            raise ToolFault(f"The path '{path or '.'}' is a folder, not a file.")
        if path in self.files:
            raise ToolFault(f"The file '{path}' already exists.")
        folders = path.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            if "/".join(folders[:depth]) in self.files:
                raise ToolFault(f"The path '{'/'.join(folders[:depth])}' is a file, not a folder.")
        if len(text) > MAX_FILE_CHARACTERS or len(self.files) >= MAX_FILES:
            raise ToolFault(f"A file holds at most {MAX_FILE_CHARACTERS} characters, the tree {MAX_FILES} files.")
        self.files[path] = text

    def _entries(self, path: str) -> list[str]:
        prefix = f"{path}/" if path else ""
        names = set()
        for file in self.files:
            if file.startswith(prefix):
                first, slash, _ = file[len(prefix) :].partition("/")
                names.add(first + slash)
        return sorted(names)


def inside(path: str) -> str:
    """The path in plain form, the root as the empty text; a :class:`ToolFault` for any that leaves the tree."""
    # Blanks round a name are no part of it, so that the plain form of a plain form is itself.
    pieces = [piece.strip() for piece in path.strip().split("/")]
    names = [piece for piece in pieces if piece not in ("", ".")]
    if len(path) > MAX_PATH_CHARACTERS or not path.strip().isprintable():
        raise ToolFault(f"A path has at most {MAX_PATH_CHARACTERS} printable characters.")
    leaves = (len(pieces) > 1 and pieces[0] == "") or ".." in names or (names and names[0].startswith("~"))
    if leaves or "\\" in path or ":" in path:
        raise ToolFault(f"The path '{path}' is outside the folder you may use; give a relative path.")
    return "/".join(names)
