"""The classification: codes, levels, titles and parents of KSCO-7, other classifications, and KSCO-6 to KSCO-7."""
