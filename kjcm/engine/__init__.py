"""Run training steps: data and Lightning modules, three engines (padded, packed, captured), and resuming at any step."""
