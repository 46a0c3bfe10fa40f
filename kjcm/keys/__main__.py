"""Print docs/config.md: `python -m kjcm.keys > docs/config.md`."""

from kjcm.keys.reference import reference

print(reference(), end="")
