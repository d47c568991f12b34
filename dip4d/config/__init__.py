"""The configuration: `schema` states every key, `load` reads and checks it, `presets` are sets of keys by name."""
