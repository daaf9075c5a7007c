"""Sessions to text files and back: JSON Lines, lossless, and the formats of two other stores.

    export_session(s)    one session to a file, many to a directory
    import_session(s)    one file, all files of a directory

A file appears when it is whole. Importing stores all of a file or nothing, is gone on with
after a kill, and never changes a session that is there. `docs/import-export.md` describes the
formats. The modules, each layer importing only what stands above it:

    reports, moments, to_json, from_json    values, and messages as text
    content, members, lines, files          between files and sessions
    foreign, events, loop, writing, native  the formats
    reading, source                         a file's content, a session's content
    comparing, parts, exporting, importing  from the one to the other
"""

from sessionactor.interchange._exporting import export_session, export_sessions
from sessionactor.interchange._importing import import_session, import_sessions
from sessionactor.interchange._reports import (
    ExportedSession,
    ExportReport,
    Format,
    ImportedFile,
    ImportReport,
    OnProgress,
    Problem,
    Progress,
)

__all__ = [
    "ExportReport",
    "ExportedSession",
    "Format",
    "ImportReport",
    "ImportedFile",
    "OnProgress",
    "Problem",
    "Progress",
    "export_session",
    "export_sessions",
    "import_session",
    "import_sessions",
]
