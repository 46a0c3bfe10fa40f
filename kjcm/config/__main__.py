"""Print docs/config.md: `python -m kjcm.config > docs/config.md`."""

from kjcm.config.reference import reference

print(reference(), end="")
