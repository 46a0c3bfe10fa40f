"""`kjcm audit`: a cross-validation's out-of-fold predictions in one file, and the labels that are probably wrong."""
