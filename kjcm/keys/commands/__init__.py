"""The config keys of the commands; those of predict and triage are in kjcm.keys.coding."""
