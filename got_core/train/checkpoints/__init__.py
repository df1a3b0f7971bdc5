"""What a training keeps to go on from: its state in parts, where they lie, and how they get there.

Belongs here: names of tensors (``tensors``), files of a rank (``parts``), folders in the storage
(``folders``), saving in the background (``saving``), the record beside (``record``). Not here: when a
training saves (``stages``), and how tensors are spread (``parallel``).
"""
