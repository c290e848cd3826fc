"""Where the numbers of the ``paper`` presets come from: the paper, the authors' code, or us.

One file per published system. A setting's source begins with ``paper``, ``code`` (a file and its lines in the
authors' repository), ``ours`` (in brackets what paper or code have instead), or ``unused`` (and what turns it
off in the preset that is shown).
"""

from renderpretrain.recipes.sources.listing import Sources, settings_of, sources_of, unused_in
from renderpretrain.recipes.sources.ns_mae import NS_MAE_SOURCES

__all__ = [
    "NS_MAE_SOURCES",
    "Sources",
    "settings_of",
    "sources_of",
    "unused_in",
]
