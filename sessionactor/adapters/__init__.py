"""The session stores of agent frameworks, kept here: one module, one extra, for each.

Each stands on the public API alone and imports no other; its conversations are ordinary
sessions. Nothing is imported from here: `from sessionactor.adapters.<framework> import ...`.
"""
