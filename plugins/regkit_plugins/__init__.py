"""The plugins that ship with regkit, one module each. A module imports regkit and torch, never another plugin."""
