"""`kjcm diff`: finished runs side by side, with tests where their rows are the same."""
