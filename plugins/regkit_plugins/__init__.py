"""The plugins that ship with regkit, one module each. A module imports regkit and torch, and never another plugin."""
