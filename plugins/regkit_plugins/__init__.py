"""The plugins that ship with regkit: a module imports regkit and torch, and never another plugin."""
