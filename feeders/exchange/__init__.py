"""Other people's files in and out: ``python -m feeders.exchange import FILE --out STORE`` and ``export``.

A padded ``NTU60_CS.npz`` (`padded`) and a pyskl 3D annotation pickle (`pyskl`) become stores; a store becomes a
padded file.
"""
