"""kjcm: free text to occupation codes, after K-JCM (Kim et al., Ann Occup Environ Med 2024;36:e19)."""

__version__ = "0.1.0"
