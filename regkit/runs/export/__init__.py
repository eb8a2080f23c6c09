"""Export: write a run's best model in a form that other programs read.

Its outputs are compared with regkit's. Each format is a module: `hf`, `sentence` and `onnx`. `forms` says what each
kind of task becomes, `card` writes the README.
"""
