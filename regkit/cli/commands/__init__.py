"""Commands: what each command takes, checked as far as that goes without torch.

Torch takes seconds to import. So a command first checks what it can without, and imports the rest when that is right.
"""
